#!/bin/sh
# Runs in mount and process namespaces of its own, as root or as root of a user namespace, and is killed with its
# starter. All that is installed is in memory until it is written into the disk's second partition, so nothing with
# another user's ownership is ever on this machine's disks.
#
#   bootstrap.sh WORK DISK SUITE PACKAGES UNITS MEMORY OFFSET BLOCKS UUID SKIP [SOURCE...]
#
# WORK holds overlay/ (files to add); core.img and bootx64.efi are written there.
set -eu
work=$1 disk=$2 suite=$3 packages=$4 units=$5
shift 5
memory=$1 offset=$2 blocks=$3 uuid=$4 skip=$5
shift 5

say() { echo "I: $*" >&2; }

mkdir "$work/memory"
mount -t tmpfs -o "mode=755,size=$memory" tmpfs "$work/memory"
mkdir "$work/memory/tmp"
root=$work/memory/root
# Modules of the initramfs before the kernel is configured, so that it is made once, and small.
cat >"$work/memory/early" <<END
#!/bin/sh
set -e
mkdir -p "\$1/etc/initramfs-tools/conf.d" "\$1/usr/share/initramfs-tools/modules.d"
cp "$work/overlay/etc/initramfs-tools/conf.d/limosa" "\$1/etc/initramfs-tools/conf.d/"
cp "$work/overlay/usr/share/initramfs-tools/modules.d/limosa" "\$1/usr/share/initramfs-tools/modules.d/"
END
chmod 755 "$work/memory/early"
for source in "$@"; do echo "$source"; done >"$work/memory/sources.list"

TMPDIR=$work/memory/tmp mmdebstrap --mode=root --variant=minbase ${skip:+"--skip=$skip"} --include="$packages" \
    --aptopt='Acquire::Retries "2"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-include=/usr/share/locale/locale.alias' \
    --essential-hook="$work/memory/early" "$suite" "$root" "$work/memory/sources.list"

say "configuring the system..."
cp -R --preserve=mode "$work/overlay/." "$root/"
# shellcheck disable=SC2086
chroot "$root" systemctl --quiet enable $units
# What has to be different on every machine is made at the first boot.
rm -f "$root"/etc/ssh/ssh_host_*_key* "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' >"$work/packages"

say "making the boot loader..."
modules='part_msdos part_gpt ext2 fat search search_fs_uuid normal configfile linux serial terminal echo boot test'
for target in i386-pc x86_64-efi; do
    extra=
    [ $target = i386-pc ] && extra=biosdisk
    # shellcheck disable=SC2086
    chroot "$root" grub-mkimage -O $target -p /boot/grub -c /boot/grub/early.cfg -o /tmp/$target.img $modules $extra
done
mv "$root/tmp/i386-pc.img" "$work/core.img"
mv "$root/tmp/x86_64-efi.img" "$work/bootx64.efi"
cp "$root/usr/lib/grub/i386-pc/boot.img" "$work/boot.img"

say "writing the disk..."
rm -rf "$root"/tmp/* "$root"/var/cache/apt/*.bin "$root"/var/log/bootstrap.log "$root/boot/grub/early.cfg"
mke2fs -q -t ext4 -L limosa-debian -U "$uuid" -m 1 -b 4096 -d "$root" \
    -E "offset=$offset,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0" "$disk" "$blocks"
