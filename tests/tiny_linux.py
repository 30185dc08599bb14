"""A real Linux small enough for tests: the distribution's cloud kernel and an initramfs of busybox with one script.

Both come from packages that are unpacked once into the cache, never installed.
"""

from __future__ import annotations

import fcntl
import gzip
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from limosa import paths

INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
exec >/dev/ttyS0 2>&1
echo "limosa: kernel reached init"
read up idle </proc/uptime
echo "up $up clocksource $(/bin/busybox cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
while true; do
  read up idle </proc/uptime
  echo "tick $up"
  /bin/busybox sleep 0.2
done
"""


@dataclass(frozen=True, slots=True)
class TinyLinux:
    """The files for ``-kernel`` and ``-initrd``, and the busybox to make another initramfs with."""

    kernel: Path
    initrd: Path
    busybox: Path


def tiny_linux() -> tuple[TinyLinux | None, str]:
    """The kernel and the initramfs; or None and why they cannot be had."""
    folder = paths.cache() / "tests" / "tiny-linux"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "tiny-linux.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "kernel").exists():
            try:
                _unpack(folder)
            except (OSError, LookupError, subprocess.SubprocessError) as error:
                return None, f"a kernel and busybox cannot be had: {error}"
        (folder / "initrd.new").write_bytes(initramfs(folder / "busybox", INIT))
        (folder / "initrd.new").rename(folder / "initrd")
    return TinyLinux(folder / "kernel", folder / "initrd", folder / "busybox"), ""


def _unpack(folder: Path) -> None:
    depends = subprocess.run(
        ["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=True
    )
    kernels = [line.split()[-1] for line in depends.stdout.splitlines() if "Depends:" in line]
    if not kernels:
        raise LookupError("apt knows no package linux-image-cloud-amd64")
    with tempfile.TemporaryDirectory(prefix="limosa-linux-", dir=folder.parent) as name:
        work = Path(name)
        fetch = ["apt-get", "-q", "-o", "APT::Sandbox::User=", "download", kernels[0], "busybox-static"]
        subprocess.run(fetch, cwd=work, capture_output=True, check=True, timeout=180)
        for package in sorted(work.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), "tree"], cwd=work, check=True)
        folder.mkdir(exist_ok=True)
        # In Debian 13 all programs are in /usr, and so may kernels be one day.
        _first(work / "tree", "bin/busybox", "usr/bin/busybox").rename(folder / "busybox")
        _first(work / "tree", "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz").rename(folder / "kernel")


def _first(tree: Path, *patterns: str) -> Path:
    """The first file that one of the patterns finds. Raises LookupError."""
    for pattern in patterns:
        if found := sorted(tree.glob(pattern)):
            return found[0]
    raise LookupError(f"the packages have no {patterns[0]}")


def initramfs(busybox: Path, init: str) -> bytes:
    """A newc cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel), packed."""
    folders = [(name, 0o40755, b"") for name in ("bin", "dev", "proc", "sys")]
    files = [("bin/busybox", 0o100755, busybox.read_bytes()), ("init", 0o100755, init.encode())]
    entries = [*folders, *files, ("TRAILER!!!", 0, b"")]
    archive = b"".join(_entry(number, *entry) for number, entry in enumerate(entries, start=1))
    return gzip.compress(archive, 1, mtime=0)


def _entry(number: int, name: str, mode: int, data: bytes) -> bytes:
    header = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = "070701" + "".join(f"{field:08X}" for field in header) + name + "\0"
    return _padded(head.encode()) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
