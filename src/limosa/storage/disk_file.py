"""The one door to disk files: what one is by its own header, read here, and every command that touches one.

Rule: nothing guesses. A qcow2 file can name other files as its base or for its data, and other formats can do so too.
In a file from elsewhere that would hand the guest whatever file of this machine somebody wrote into it, so such a file
is refused, and every ``qemu-img`` and QEMU is told the format and not to follow what a header says.
A file may change, or be another one, from one look to the next: what is judged last is the copy that will be used.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limosa import process
from limosa.errors import CommandError, LimosaError, MachineError, SpecError

Format = Literal["raw", "qcow2"]

HEAD_BYTES = 64 * 1024
"""What is read of a file to judge it: the header, its extensions, and the names that they point at."""

_QCOW2 = struct.Struct(">4sIQIIQIIQQIIQ")
"""The header of version 2: magic, version, offset and length of the base's name, cluster bits, size, encryption,
entries and offset of the L1 table, offset and clusters of the refcount table, number and offset of snapshots
(QEMU's docs/interop/qcow2.txt)."""

_MAGIC = b"QFI\xfb"
_MORE = struct.Struct(">QQQII")
"""What version 3 adds: incompatible, compatible and auto-clear features, refcount order, length of the header."""

_CORRUPT, _DATA_ELSEWHERE = 1 << 1, 1 << 2
_HARMLESS = 1 | 1 << 3 | 1 << 4
"""Incompatible features of a file that is whole by itself: not closed cleanly, another compression, subclusters."""

_DATA_FILE_NAME = 0x44415441
_CLUSTER_BITS = range(9, 22)

_OTHERS: tuple[tuple[str, int, bytes], ...] = (
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("vhdx", 0, b"vhdxfile"),
    ("vpc", 0, b"conectix"),
    ("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    ("qed", 0, b"QED\0"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
    ("bochs", 0, b"Bochs Virtual HD Image"),
    ("cloop", 0, b"#!/bin/sh\n#V2.0 Format\n"),
)
"""Other formats of disks by QEMU's names, and what stands where in them (``*_probe`` in QEMU's block/)."""

_PACKED: tuple[tuple[str, bytes], ...] = (
    ("gunzip", b"\x1f\x8b\x08"),
    ("unxz", b"\xfd7zXZ\0"),
    ("unzstd", b"\x28\xb5\x2f\xfd"),
    ("bunzip2", b"BZh"),
    ("unzip", b"PK\x03\x04"),
)
"""Compressed files, by the program that unpacks them."""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a file and its length."""

    data: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What a disk file is."""

    format: Format
    virtual_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What was said of a disk file, and where that was said; the file has to be so.

    ``key`` is the lab file's key that names the file, empty where none does.
    """

    path: Path
    format: Format
    key: str = ""
    sha256: str = ""
    """What the content has to be; empty: anything."""
    base: str = ""
    """The bare name that the file may name as its base: for an overlay that was made here."""

    def check(self, head: Head) -> DiskFacts:
        """What the file with this *head* is. Raises SpecError when it is not as claimed, or reaches beyond itself."""
        found = _format(head.data)
        if found != self.format:
            raise self._otherwise(found)
        if found == "raw":
            return DiskFacts("raw", head.size_bytes)
        return DiskFacts("qcow2", self._whole(head))

    def check_sha256(self, found: str) -> None:
        """Raise LimosaError unless the content has the checksum that was said."""
        if self.sha256 and found != self.sha256:
            raise LimosaError(
                f"{self.path} is not what its checksum says: {found} instead of {self.sha256}",
                hint="fetch it again, or correct `sha256`",
            )

    def error(self, message: str, hint: str) -> SpecError:
        """The error for this file, with the key that names it."""
        return SpecError(f"{self.key}: {message}" if self.key else message, hint=hint, key=self.key)

    def _otherwise(self, found: str) -> SpecError:
        said = f"{self.path} is said to be {self.format}, but it is {found}"
        if found in ("raw", "qcow2"):
            return self.error(said, f"write `format: {found}` beside it" if self.key else "make the image again")
        for program, _ in _PACKED:
            if found == f"packed ({program})":
                return self.error(f"{self.path} is no disk: it is {found}", f"{program} {self.path} first")
        return self.error(
            said, f"qemu-img convert -f {found} -O qcow2 {self.path} NEW.qcow2 makes a disk of it, if you trust it"
        )

    def _whole(self, head: Head) -> int:
        """The size in bytes of the disk in a qcow2 file that is whole, readable, and needs no other file."""
        try:
            found = _qcow2(head)
        except _Broken as broken:
            raise self.error(f"{self.path} is not a disk that QEMU can read: {broken}", broken.hint) from broken
        outside = found.data_elsewhere or ("" if found.base == self.base else found.base)
        if outside:
            shown = outside if outside.isprintable() else repr(outside)
            raise self.error(
                f"{self.path} is only a part: it needs {shown[:300]}, which is refused in a disk from elsewhere",
                f"qemu-img convert -f qcow2 -O qcow2 {self.path} NEW.qcow2 makes a whole one, if you trust it",
            )
        return found.virtual_bytes


@dataclass(frozen=True, slots=True)
class _Qcow2:
    """What a qcow2 header says: the disk's size, and the other files that it names, if any."""

    virtual_bytes: int
    base: str
    data_elsewhere: str


class _Broken(Exception):
    """What is wrong with a header."""

    def __init__(self, message: str, hint: str = "is it whole?") -> None:
        super().__init__(message)
        self.hint = hint


def inspect(claim: Claim) -> DiskFacts:
    """What the local file of *claim* is at this moment. Raises SpecError; its checksum is not looked at."""
    return claim.check(read_head(claim.path, claim))


def is_raw(claim: Claim) -> bool:
    """Whether the local file of *claim* is nothing that is known by its beginning. Raises SpecError."""
    return _format(read_head(claim.path, claim).data) == "raw"


def read_head(path: Path, claim: Claim) -> Head:
    """The beginning of a local file. Raises SpecError, in the words of *claim*, when there is none to read."""
    try:
        # Whatever the name stands for by now: a pipe would hold the open up.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise claim.error(f"{claim.path} is not a disk file", "name a raw or qcow2 file")
            return Head(os.pread(descriptor, HEAD_BYTES, 0), os.lseek(descriptor, 0, os.SEEK_END))
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise claim.error(f"the disk {claim.path} does not exist", "correct its path") from error
    except OSError as error:
        raise claim.error(f"{claim.path} cannot be read: {error.strerror}", "let this user read it") from error


def _format(head: bytes) -> str:
    """What a file is by its beginning, in QEMU's names: raw when nothing is known by it."""
    if head.startswith(_MAGIC):
        return "qcow2" if head[4:8] != b"\0\0\0\1" else "qcow"
    for name, offset, magic in _OTHERS:
        if head[offset : offset + len(magic)] == magic:
            return name
    for program, magic in _PACKED:
        if head.startswith(magic):
            return f"packed ({program})"
    return "vmdk" if _is_vmdk_text(head) else "raw"


def _is_vmdk_text(head: bytes) -> bool:
    """A VMDK can be a text that names other files: comments and empty lines, then its version."""
    for line in head[:4096].splitlines():
        line = line.strip()
        if line.lower().startswith(b"version="):
            return True
        if line and not line.startswith(b"#"):
            return False
        if b"disk descriptorfile" in line.lower():
            return True
    return False


def _qcow2(head: Head) -> _Qcow2:
    data = head.data
    if len(data) < _QCOW2.size:
        raise _Broken("it ends within its header")
    _, version, base_at, base_bytes, cluster_bits, size, crypt, l1_entries, l1_at, counts_at, *_ = _QCOW2.unpack_from(
        data
    )
    if version not in (2, 3):
        raise _Broken(f"version {version} of qcow2 is not known", "qemu-img info shows what it is")
    features, header_bytes = 0, _QCOW2.size
    if version == 3:
        if len(data) < _QCOW2.size + _MORE.size:
            raise _Broken("it ends within its header")
        features, _, _, _, header_bytes = _MORE.unpack_from(data, _QCOW2.size)
    _check_features(features, bool(crypt))
    if cluster_bits not in _CLUSTER_BITS or not counts_at or header_bytes > 1 << cluster_bits:
        raise _Broken("its header makes no sense")
    if max(l1_at + 8 * l1_entries, counts_at + 1) > head.size_bytes:
        raise _Broken(f"its tables are beyond its end, at {head.size_bytes} bytes")
    elsewhere = features & _DATA_ELSEWHERE
    return _Qcow2(
        virtual_bytes=size,
        base=_named(data, base_at, base_bytes) if base_at else "",
        data_elsewhere=(_data_file(data, header_bytes) or "a file with its data") if elsewhere else "",
    )


def _check_features(features: int, encrypted: bool) -> None:
    if features & _CORRUPT:
        raise _Broken("it is marked as corrupt", "qemu-img check -r all repairs what can be, on a copy")
    if features & ~(_HARMLESS | _DATA_ELSEWHERE):
        raise _Broken("it has features that are not known", "qemu-img convert -O qcow2 with a newer QEMU")
    if encrypted:
        raise _Broken("it is encrypted", "qemu-img convert makes a plain one")


def _named(data: bytes, at: int, length: int) -> str:
    return data[at : at + min(length, 1023)].decode(errors="replace") or "another file"


def _data_file(data: bytes, at: int) -> str:
    """The name in the header extension for a data file; empty when none is there."""
    while at + 8 <= len(data):
        kind, length = struct.unpack_from(">II", data, at)
        if kind == 0:
            break
        if kind == _DATA_FILE_NAME:
            return data[at + 8 : at + 8 + length].decode(errors="replace")
        at += 8 + (length + 7) // 8 * 8
    return ""


async def convert(source: Path, form: Format, target: Path, wanted: Format) -> None:
    """Make the new file *target*, *wanted*, of what *source* holds. A qcow2 *source* has to be a copy that was checked:
    only then is it certain that it names no file with its data."""
    file = {"driver": "file", "filename": str(source)}
    # Only in this form can a base be forbidden, and a name never stands for a protocol.
    alone: dict[str, object] = {"backing": None} if form == "qcow2" else {}
    described = "json:" + json.dumps({"driver": form, **alone, "file": file})
    await _qemu_img("convert", "-O", wanted, "--", described, str(target))


async def overlay(base_name: str, base: DiskFacts, target: Path) -> None:
    """Make the qcow2 file *target* that holds what will differ from *base*, called *base_name* in the same folder."""
    # By its bare name, and unseen: the folder has another path on the hosts, and may not be on this machine at all.
    argv = ["create", "-q", "-u", "-f", "qcow2", "-F", base.format, "-b", base_name, "--", str(target)]
    await _qemu_img(*argv, str(base.virtual_bytes))


async def _qemu_img(*argv: str) -> None:
    try:
        await process.run(["qemu-img", *argv])
    except MachineError as error:
        raise MachineError("qemu-img is not installed", hint="apt-get install qemu-utils") from error
    except CommandError as error:
        lines = error.stderr.strip().splitlines()
        last = lines[-1].removeprefix("qemu-img: ") if lines else "it said nothing"
        raise LimosaError(f"qemu-img {argv[0]} failed: {last}", hint=error.hint) from error
