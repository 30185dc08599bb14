"""The launches that golden texts and system tests share: one for each shape of command line."""

from __future__ import annotations

from msgspec.structs import replace

from limosa.qemu.argv import DiskFile, Launch
from limosa.qemu.features import Features, Machine
from limosa.spec.resolved import Guest

FEATURES = Features(
    identity="/usr/bin/qemu-system-x86_64 1 2.000 3",
    version="7.2.0",
    accel="tcg",
    kvm=True,
    json_device=True,
    machines=(Machine("pc-q35-7.2", False, 288, "pc.ram"),),
    cpu_models=(),
    migration_capabilities=frozenset(),
    migration_parameters=frozenset(),
    migration_choices={},
    migration_statuses=frozenset(),
    commands=frozenset(),
    events=frozenset(),
    options=frozenset(),
    types=frozenset(),
)

GUEST = Guest("web", "host1", memory_bytes=512 << 20, cpus=2, mac="52:54:00:12:34:56", address="10.77.1.11")

MICRO = Launch(
    lab="demo",
    guest=GUEST,
    qemu="qemu-system-x86_64",
    features=FEATURES,
    accel="tcg",
    machine="pc-q35-7.2",
    cpu="Nehalem-v1",
    runtime_directory="/run/limosa/demo/host1/web",
    serial_log="/run/limosa/demo/host1/web/serial.log",
    kernel="/cache/micro/kernel",
    initrd="/cache/micro/initrd",
    append="console=ttyS0 quiet root=/dev/vda",
    disk=DiskFile("/run/limosa/storage/shared/web.raw"),
    tap="tap-web",
    id="5eed0000000000000000000000000001",
)

BARE = replace(MICRO, guest=replace(GUEST, image="bare", cpus=1), initrd="", append="write", disk=None, tap="")

DISK = replace(
    MICRO, guest=replace(GUEST, image="alpine"), kernel="", initrd="", append="", disk=DiskFile("/mnt/web.raw")
)
"""A guest whose disk boots by itself."""

LAUNCHES: dict[str, Launch] = {
    "micro": MICRO,
    "micro-target": replace(MICRO, incoming=True),
    "micro-kvm": replace(MICRO, accel="kvm", cpu="host,migratable=on"),
    "micro-diskless": replace(MICRO, disk=None, tap="", append="console=ttyS0 limosa.diskless=1"),
    "qcow2-direct": replace(MICRO, disk=DiskFile("/run/limosa/storage/shared/web.qcow2", "qcow2", direct=True)),
    "own-firmware": replace(MICRO, qemu="/opt/qemu/bin/qemu-system-x86_64", firmware=("/opt/qemu/share/qemu",)),
    "micro-e1000-sata": replace(
        MICRO,
        guest=replace(GUEST, image="micro-generic", nic="e1000"),
        append="console=ttyS0 quiet root=/dev/sda",
        disk=DiskFile("/run/limosa/storage/shared/web.raw", direct=True, bus="sata"),
    ),
    "micro-vhost-scsi": replace(
        MICRO,
        guest=replace(GUEST, image="micro-generic", nic="vhost-net"),
        append="console=ttyS0 quiet root=/dev/sda",
        disk=DiskFile("/run/limosa/storage/shared/web.raw", bus="virtio-scsi"),
    ),
    "micro-rtl8139": replace(MICRO, guest=replace(GUEST, image="micro-generic", nic="rtl8139")),
    "micro-vga": replace(MICRO, guest=replace(GUEST, display="vga")),
    "disk-bios-overlay": replace(
        DISK,
        disk=DiskFile("/mnt/web.qcow2", "qcow2", base="/mnt/debian.qcow2", base_format="qcow2"),
        seed="/mnt/web.seed",
    ),
    "disk-raw-overlay": replace(
        DISK, disk=DiskFile("/mnt/web.qcow2", "qcow2", direct=True, base="/mnt/alpine.raw", base_format="raw")
    ),
    "disk-uefi": replace(DISK, firmware_code="/mnt/code.fd", firmware_vars="/mnt/web.vars.fd", incoming=True),
    "bare": BARE,
    "bare-target": replace(BARE, incoming=True),
}
