#!/bin/sh
# The first program of the installed system, in its initramfs: loads the modules and goes to the root file system.
export PATH=/bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
while read -r module; do
    insmod "/modules/$module.ko"
done </modules/order
for argument in $(cat /proc/cmdline); do
    case $argument in
        root=*) root=${argument#root=} ;;
    esac
done
tries=0
until mount -t ext4 -o ro "$(findfs "$root" 2>/dev/null)" /new 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -gt 100 ] && echo "There is no root file system $root" && poweroff -f
    usleep 50000
done
mount --move /dev /new/dev
mount --move /proc /new/proc
mount --move /sys /new/sys
exec switch_root /new /bin/init
