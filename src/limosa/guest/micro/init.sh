#!/bin/sh
# The first program of the guest, in the initramfs: loads the modules, mounts the root disk and goes there.
# It runs under emulation, so each program it starts counts: about 10 ms.
export PATH=/bin
mount -t devtmpfs -o mode=755 devtmpfs /dev
exec </dev/console >/dev/console 2>&1
echo "limosa: kernel reached init"
mount -t proc proc /proc
mount -t sysfs sysfs /sys

while read -r module; do
    insmod "/modules/$module.ko" || echo "limosa: the module $module did not load"
done </modules/order

root=/dev/vda diskless=
for argument in $(cat /proc/cmdline); do
    case $argument in
        limosa.diskless=1) diskless=1 ;;
        root=/dev/*) root=${argument#root=} ;;
    esac
done

if [ -n "$diskless" ] && [ ! -b "$root" ]; then
    echo "limosa: no disk wanted, powering off"
    poweroff -f
fi

# The device is there once virtio_blk has loaded, except where a kernel probes in the background.
tries=0
while [ ! -b "$root" ]; do
    tries=$((tries + 1))
    if [ $tries -gt 200 ]; then
        echo "limosa: no root disk $root"
        poweroff -f
    fi
    usleep 10000
done
# The last two options keep ext4 from reading and writing in the background.
if ! mount -t ext4 -o noatime,data=ordered,noinit_itable,no_prefetch_block_bitmaps "$root" /new; then
    echo "limosa: the root disk $root cannot be mounted"
    poweroff -f
fi

# What belongs to this guest alone stays in memory: the disk holds no key and no address.
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /new/run
if [ -d /limosa ]; then
    cp -a /limosa /new/run/
fi
mount --move /dev /new/dev
mount --move /proc /new/proc
mount --move /sys /new/sys
exec switch_root /new /sbin/init
