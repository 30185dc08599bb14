"""The small first file system: busybox, the modules in the order in which they load, the first program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limosa.guest.micro import cpio
from limosa.guest.micro.kernel import Module

_APPLETS = ("cat", "cp", "insmod", "mount", "poweroff", "sh", "switch_root", "usleep")


def make(busybox: bytes, modules: Sequence[Module]) -> bytes:
    """The archive, not compressed: that would gain nothing (docs/guest-micro.md).

    A guest's seed is appended to it.
    """
    init = (Path(__file__).parent / "init.sh").read_bytes()
    order = "".join(f"{module.name}\n" for module in modules)
    return cpio.pack(
        [
            *(cpio.directory(name) for name in ("bin", "dev", "modules", "new", "proc", "sys")),
            cpio.character_device("dev/console", 5, 1),
            cpio.file("bin/busybox", busybox, 0o755),
            *(cpio.link(f"bin/{applet}", "busybox") for applet in _APPLETS),
            cpio.file("init", init, 0o755),
            cpio.file("modules/order", order.encode()),
            *(cpio.file(f"modules/{module.name}.ko", module.data) for module in modules),
        ]
    )
