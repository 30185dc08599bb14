#!/bin/sh
# A text installer as small distributions have it. It asks on the console, answers may be wrong, and it asks again.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

ask() { # ask VARIABLE QUESTION DEFAULT
    printf '%s [%s]: ' "$2" "$3"
    read -r answer || exit 1
    eval "$1=\${answer:-\$3}"
}

ask_hidden() { # ask_hidden VARIABLE QUESTION
    stty -echo
    printf '%s: ' "$2"
    read -r answer || exit 1
    stty echo
    printf '\n'
    eval "$1=\$answer"
}

step() { # step SENTENCE COMMAND...: the sentence, the command, and how it went
    printf ' \033[33m*\033[0m %s ...' "$1"
    shift
    if "$@" >/tmp/step.log 2>&1; then
        printf ' \033[1;32mdone\033[0m\n'
    else
        printf ' \033[1;31mfailed\033[0m\n'
        cat /tmp/step.log
        exit 1
    fi
}

partition() {
    # One Linux partition from 1 MiB to the end, active; the boot loader lives in the gap before it.
    printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk "/dev/$disk"
}

copy_system() {
    mount -t ext4 "/dev/${disk}1" /mnt && cp -a /system/. /mnt/ && mkdir -p /mnt/dev /mnt/proc /mnt/run /mnt/sys
}

configure() {
    chroot /mnt /usr/bin/busybox --install -s /usr/bin || return 1
    echo "$hostname" >/mnt/etc/hostname
    printf '127.0.0.1\tlocalhost\n127.0.1.1\t%s\n' "$hostname" >/mnt/etc/hosts
    hash=$(printf '%s' "$password" | mkpasswd -m sha512 -P 0) || return 1
    printf 'root:%s:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n' "$hash" >/mnt/etc/shadow
    chmod 600 /mnt/etc/shadow
    mkdir -p /mnt/root/.ssh /mnt/etc/dropbear /mnt/tmp
    chmod 700 /mnt/root /mnt/root/.ssh /mnt/etc/dropbear
    chmod 1777 /mnt/tmp
    chroot /mnt /usr/bin/dropbearkey -t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key | grep ^ssh- >/tmp/host_key
    if [ -n "$key" ]; then
        echo "$key" >/mnt/root/.ssh/authorized_keys
        chmod 600 /mnt/root/.ssh/authorized_keys
    fi
    printf 'UUID=%s / ext4 rw,relatime 0 1\n' "$uuid" >/mnt/etc/fstab
    mkdir -p /mnt/boot/grub
    cat >/mnt/boot/grub/grub.cfg <<END
set timeout=0
menuentry 'Example Linux' {
    linux /boot/vmlinuz root=UUID=$uuid ro console=ttyS0 no_timer_check quiet net.ifnames=0
    initrd /boot/initrd
}
END
}

boot_loader() {
    # The first 440 bytes only: behind them are the disk's identifier and the partition table.
    dd if=/boot.img of="/dev/$disk" bs=440 count=1 conv=notrunc && dd if=/core.img of="/dev/$disk" bs=512 seek=1 conv=notrunc
}

unmount() { umount /mnt && sync; }

printf '\n\033[1mExample Linux 1.0\033[0m installation\n\n'
while :; do
    ask hostname 'Enter the host name' example
    case $hostname in
        *[!a-z0-9-]* | -* | '') echo "That is no host name: use small letters, digits and hyphens." ;;
        *) break ;;
    esac
done
while :; do
    ask_hidden password 'New password for root'
    ask_hidden again 'Retype the password'
    [ -n "$password" ] && [ "$password" = "$again" ] && break
    echo "The passwords do not match, or are empty. Try again."
done
ask key 'Public SSH key of root' none
[ "$key" = none ] && key=
disks=$(cd /sys/block && ls -d vd? sd? 2>/dev/null)
echo "Disks of this machine:"
for disk in $disks; do
    printf '  %s\t%s MiB\n' "$disk" "$(($(cat "/sys/block/$disk/size") / 2048))"
done
while :; do
    ask disk 'Which disk shall be used?' "${disks%%[!a-z]*}"
    [ -b "/dev/$disk" ] && [ -d "/sys/block/$disk" ] && break
    echo "There is no disk $disk."
done
ask erase "WARNING: everything on /dev/$disk will be lost. Continue? (yes/no)" no
if [ "$erase" != yes ]; then
    echo "Nothing was changed."
    exit 1
fi

uuid=$(cat /proc/sys/kernel/random/uuid)
step "Partitioning /dev/$disk" partition
step 'Making the file system' /sbin/mke2fs -q -F -t ext4 -L example -U "$uuid" "/dev/${disk}1"
step 'Copying the system' copy_system
step 'Configuring' configure
step 'Unmounting' unmount
step 'Installing the boot loader' boot_loader
sync
printf '\nSSH host key: %s\n' "$(cut -d ' ' -f 1,2 /tmp/host_key)"
printf '\nThe installation is complete. Press Enter to reboot: '
read -r answer
reboot -f
