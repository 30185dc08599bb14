#!/bin/sh
# Run once by the guest's init, as root, before anything else: the rest of the file systems, then the network.
export PATH=/sbin:/bin:/usr/sbin:/usr/bin
seed=/run/limosa
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /tmp
ln -s /proc/self/fd /dev/fd

[ -f $seed/hostname ] && hostname -F $seed/hostname
ip link set lo up

if [ -f $seed/network ]; then
    . $seed/network
    for nic in /sys/class/net/*; do
        read -r found 2>/dev/null <"$nic/address" || continue
        [ "$found" = "$MAC" ] || continue
        nic=${nic##*/}
        # IPv6 would only add traffic of its own to what is measured.
        [ -d /proc/sys/net/ipv6/conf/$nic ] && echo 1 >/proc/sys/net/ipv6/conf/$nic/disable_ipv6
        ip address add "$ADDRESS" broadcast + dev $nic
        ip link set $nic up
        [ -n "$GATEWAY" ] && ip route add default via "$GATEWAY"
    done
fi

# Names for the virtio-serial ports, as udev would give.
for port in /sys/class/virtio-ports/*; do
    read -r name 2>/dev/null <"$port/name" || continue
    mkdir -p /dev/virtio-ports
    ln -s "../${port##*/}" "/dev/virtio-ports/$name"
done
exit 0
