"""What an installation medium says of itself: its ISO 9660 descriptor (ECMA-119, section 8.4), and Alpine's files."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from limosa.errors import LimosaError, SpecError

if TYPE_CHECKING:
    from pycdlib.facade import PyCdlibRockRidge

_SECTOR_BYTES = 2048
_DESCRIPTOR = 16 * _SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class Medium:
    """An ISO that is whole: its label, and how long it has to be."""

    label: str
    size_bytes: int


def examine(path: Path) -> Medium:
    """Raises SpecError for a file that is missing or no ISO, LimosaError for one that was cut off."""
    try:
        with path.open("rb") as file:
            file.seek(_DESCRIPTOR)
            descriptor = file.read(_SECTOR_BYTES)
        there_bytes = path.stat().st_size
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}", hint="check --iso") from error
    if descriptor[:6] != b"\x01CD001":
        what = "is shorter than any ISO image" if there_bytes <= _DESCRIPTOR else "is no ISO image"
        raise SpecError(
            f"{path} {what}", hint="an installation medium begins with an ISO 9660 volume: download it again"
        )
    blocks = int.from_bytes(descriptor[80:84], "little")
    size_bytes = blocks * int.from_bytes(descriptor[128:130], "little")
    if there_bytes < size_bytes:
        raise LimosaError(
            f"{path} is cut off: {there_bytes} of {size_bytes} bytes", hint="download it again, and check its checksum"
        )
    return Medium(descriptor[40:72].decode("ascii", errors="replace").strip(), size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alpine:
    """What an Alpine medium holds; empty where it does not say, or is made in another way than Alpine's own."""

    version: str = ""
    """``3.15.4``, or the day of a snapshot of edge: ``20250108``."""
    flavour: str = ""
    """The kernel's: ``virt`` or ``lts``."""
    append: str = ""
    """The arguments with which its boot loader starts that kernel; empty when they were not found."""
    packages: frozenset[str] = frozenset()
    """Their names."""
    known: bool = True
    """Whether its label or its files say that it is one at all."""

    @property
    def silent(self) -> bool:
        """Whether its boot loader is known to start a kernel that says nothing on the serial port.

        Newer media of alpine-virt start a silent one too: they offer a login there, but a panic is not heard.
        """
        return bool(self.append) and "console=ttyS" not in self.append

    @property
    def lacks(self) -> tuple[str, ...]:
        """What an installation on a disk cannot do without, when the medium holds none of it; else empty.

        Of Alpine's own media only ``extended`` holds it, by their lists of packages (``scripts/mkimg.*.sh`` in aports).
        """
        kernel = f"linux-{self.flavour}"
        held = any(name in ("sfdisk", "syslinux", "grub-bios", kernel) for name in self.packages)
        return () if held or not self.packages else ("sfdisk", "syslinux", kernel)


_VERSION = re.compile(r"(?<![\w.])(\d+\.\d+(?:\.\d+)?(?:_(?:rc|alpha|beta)\d*)?|20\d{6})(?![\w.]*\d)")


def alpine(path: Path, medium: Medium) -> Alpine:
    """What the Alpine medium at *path* holds, as far as it is laid out as Alpine's own."""
    labelled = "alpine" in medium.label.lower()
    found = Alpine(version=_version(path, medium), known=labelled)
    with contextlib.suppress(*_unreadable()), _opened(path) as files:
        found = replace(found, known=labelled or bool(ALPINES.intersection(_names(files, "/"))))
        flavour, packages = _flavour(files), dict(_packages(files))
        return Alpine(
            version=found.version or packages.get("alpine-base", ""),
            flavour=flavour,
            append=_append(_text(files, "/boot/syslinux/syslinux.cfg"), flavour),
            packages=frozenset(packages),
            known=found.known,
        )
    return found


ALPINES = frozenset((".alpine-release", "apks"))
"""What the root of Alpine's media has: of mkinitfs' search for its medium, and of apk's for packages."""

_SYSTEMS = {
    "/.disk/info": r"(.+)",
    "/.treeinfo": r"(?m)^name\s*=\s*(.+)",
    "/media.1/products": r"(?m)^/\s+(.+)",
    "/arch/version": r"(.+)",
    "/.discinfo": r"\A.*\n(.+)",
}
"""Where media of other systems say what they are, and how that is read: Debian and Ubuntu, Fedora and its kin, SUSE,
Arch, older Red Hat."""


def described(path: Path) -> str:
    """What a medium of another system says that it is; else what lies in its root."""
    with contextlib.suppress(*_unreadable()), _opened(path) as files:
        for name, pattern in _SYSTEMS.items():
            if found := re.search(pattern, _text(files, name)):
                return f"{found.group(1).strip()!r}"[:200]
        if names := [name for name in _names(files, "/") if name not in (".", "..")]:
            return ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
    return "nothing that can be read as such a medium"


def _version(path: Path, medium: Medium) -> str:
    """From the label, ``alpine-virt 3.15.4 x86_64``, which leaves ``_rc1`` out, or from the name it is published by."""
    labelled = _VERSION.search(medium.label) if "alpine" in medium.label.lower() else None
    named = re.fullmatch(r"alpine-\w+-([\d.]+(?:_\w+)?)-\w+\.iso", path.name)
    if labelled is None:
        return named.group(1) if named else ""
    version = labelled.group(1)
    return named.group(1) if named and named.group(1).partition("_")[0] == version else version


def kernel(path: Path, folder: Path) -> tuple[Path, Path] | None:
    """The kernel and the initramfs of an Alpine medium, copied to *folder*; None when it has none where Alpine has."""
    found = (folder / "vmlinuz", folder / "initramfs")
    try:
        with _opened(path) as files:
            flavour = _flavour(files)
            for file, name in zip(found, (f"vmlinuz-{flavour}", f"initramfs-{flavour}"), strict=True):
                files.get_file_from_iso(str(file), f"/boot/{name}")
    except _unreadable():
        return None
    return found


def _unreadable() -> tuple[type[Exception], ...]:
    """What pycdlib raises for a medium that is laid out in another way."""
    from pycdlib.pycdlibexception import PyCdlibException

    return PyCdlibException, StopIteration, IndexError, struct.error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[PyCdlibRockRidge]:
    import pycdlib

    medium = pycdlib.PyCdlib()
    medium.open(str(path))
    try:
        yield medium.get_rock_ridge_facade()
    finally:
        medium.close()


def _names(files: PyCdlibRockRidge, folder: str) -> list[str]:
    children = [child for child in files.list_children(folder) if child and child.rock_ridge is not None]
    return sorted(child.rock_ridge.name().decode(errors="replace") for child in children)


def _flavour(files: PyCdlibRockRidge) -> str:
    names = [name.partition("-")[2] for name in _names(files, "/boot") if name.startswith("vmlinuz-")]
    if not names:
        raise IndexError("no kernel")
    return names[0]


def _text(files: PyCdlibRockRidge, path: str) -> str:
    content = BytesIO()
    with contextlib.suppress(*_unreadable()):
        files.get_file_from_iso_fp(content, path)
    return content.getvalue().decode(errors="replace")


def _append(configuration: str, flavour: str) -> str:
    """The words behind APPEND of the entry that ISOLINUX starts by itself: the one of the flavour's name."""
    entry = re.search(rf"^LABEL {re.escape(flavour)}$(.*?)(?=^LABEL |\Z)", configuration, re.MULTILINE | re.DOTALL)
    words = re.search(r"^\s*APPEND[ \t]+(.*\S)\s*$", entry.group(1), re.MULTILINE) if entry else None
    # A hypervisor's entry has several programs, each with words of its own.
    return words.group(1) if words and "---" not in words.group(1) else ""


def _packages(files: PyCdlibRockRidge) -> Iterator[tuple[str, str]]:
    """Names and versions."""
    with contextlib.suppress(*_unreadable()):
        for name in _names(files, "/apks/x86_64"):
            if found := re.fullmatch(r"(.+?)-(\d[^-]*)-r\d+\.apk", name):
                yield found.group(1), found.group(2)
