#!/bin/sh
# The first program of the installation medium: loads the modules, then gives the serial console to the installer.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
while read -r module; do
    insmod "/modules/$module.ko"
done </modules/order
# A session of its own with the console as its terminal, so that Ctrl-C and hidden input work.
while :; do
    setsid -c /install </dev/ttyS0 >/dev/ttyS0 2>&1
    echo "The installer ended without installing anything; it starts again." >/dev/ttyS0
    sleep 1
done
