"""What an installation medium says of itself: an ISO 9660 volume descriptor (ECMA-119, section 8.4)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from limosa.errors import LimosaError, SpecError

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


def alpine_version(medium: Medium) -> str:
    """The release that an Alpine medium's label names, ``alpine-virt 3.15.4 x86_64``; empty when it names none."""
    found = re.search(r"\b(\d+\.\d+(?:\.\d+)?(?:_\w+)?)\b", medium.label) if "alpine" in medium.label.lower() else None
    return found.group(1) if found else ""


def kernel(path: Path, folder: Path) -> tuple[Path, Path] | None:
    """The kernel and the initramfs of an Alpine medium, copied to *folder*; None when it has none where Alpine has."""
    import pycdlib
    from pycdlib.pycdlibexception import PyCdlibException

    medium = pycdlib.PyCdlib()
    try:
        medium.open(str(path))
        try:
            files = medium.get_rock_ridge_facade()
            children = [child for child in files.list_children("/boot") if child and child.rock_ridge is not None]
            names = {child.rock_ridge.name().decode(errors="replace") for child in children}
            flavour = next(name.partition("-")[2] for name in sorted(names) if name.startswith("vmlinuz-"))
            found = (folder / "vmlinuz", folder / "initramfs")
            for file, name in zip(found, (f"vmlinuz-{flavour}", f"initramfs-{flavour}"), strict=True):
                files.get_file_from_iso(str(file), f"/boot/{name}")
        finally:
            medium.close()
    except (PyCdlibException, StopIteration, IndexError, struct.error):
        return None
    return found
