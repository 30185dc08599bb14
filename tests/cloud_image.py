"""A cloud image as distributions make them: Debian's cloud-init, and no user, no key and no network until it speaks.

One thing is other: systemd waits longer than 90 s for what is slow, since a test has to hold on a busy machine. And as
no locale is installed, cloud-init is told of the one that needs none; its own default would be an error of the image.
"""

from __future__ import annotations

from pathlib import Path

from limosa import process
from limosa.events import Events
from limosa.guest.debian import additions, bootstrap
from limosa.guest.debian.image import Choice, sources

PACKAGES = (
    *("systemd-sysv", "dbus", "udev", "iproute2", "linux-image-cloud-amd64", "initramfs-tools", "zstd"),
    *("grub2-common", "grub-pc-bin", "grub-efi-amd64-bin"),
    *("cloud-init", "cloud-guest-utils", "netplan.io", "systemd-resolved", "openssh-server", "sudo"),
)
"""What makes a guest of Debian's own cloud images, for a start; nothing of ours is among it."""


async def make(folder: Path, events: Events) -> Path:
    """Build ``cloud.qcow2`` in the new directory *folder*. Raises as ``bootstrap.assemble`` does."""
    work, disk = folder / "work", folder / "cloud.raw"
    (work / "overlay").mkdir(parents=True)
    folder.chmod(0o755)
    root_uuid = bootstrap.new_uuid()
    texts = {
        **additions.boot_texts(root_uuid),
        "etc/systemd/system.conf.d/patience.conf": additions.PATIENCE,
        "etc/cloud/cloud.cfg.d/10_locale.cfg": "locale: C.UTF-8\n",
    }
    for name, text in texts.items():
        path = work / "overlay" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    system = bootstrap.System(
        suite="bookworm",
        sources=tuple(sources(Choice())),
        packages=PACKAGES,
        units=("systemd-networkd", "systemd-resolved", "ssh"),
        size_bytes=2 << 30,
        root_uuid=root_uuid,
    )
    await bootstrap.assemble(system, work, disk, events)
    made = folder / "cloud.qcow2"
    await process.run(["qemu-img", "convert", "-O", "qcow2", str(disk), str(made)])
    disk.unlink()
    return made
