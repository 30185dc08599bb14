"""The little to be read from ELF files: which libraries a program needs, what a kernel module says of itself.

Source of the offsets: the ELF-64 Object File Format, and the System V ABI for the dynamic section.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MAGIC = b"\x7fELF\x02\x01"
"""ELF, 64 bits, little-endian."""
_SHT_DYNAMIC = 6
_DT_NEEDED = 1
_PT_NOTE = 4


@dataclass(frozen=True, slots=True)
class _Section:
    name_offset: int
    kind: int
    offset: int
    size: int
    link: int


def is_elf(data: bytes) -> bool:
    """Whether *data* begins as a 64-bit little-endian ELF file does."""
    return data.startswith(_MAGIC)


def needed_libraries(data: bytes) -> list[str]:
    """The DT_NEEDED names, ``libc.so.6``, of a program or library; none when static. ValueError if broken."""
    sections = _sections(data)
    names = []
    for section in sections:
        if section.kind == _SHT_DYNAMIC:
            strings = sections[section.link]
            for tag, value in struct.iter_unpack("<qQ", _content(data, section)):
                if tag == _DT_NEEDED:
                    names.append(_string(data, strings.offset + value))
    return names


def module_facts(data: bytes) -> dict[str, list[str]]:
    """What ``modinfo`` prints of a kernel module: each key with its values. ValueError if broken."""
    facts: dict[str, list[str]] = {}
    for name, section in _named_sections(data):
        if name == ".modinfo":
            for line in _content(data, section).split(b"\0"):
                key, equals, value = line.decode(errors="replace").partition("=")
                if equals:
                    facts.setdefault(key, []).append(value)
    return facts


def notes(data: bytes) -> list[tuple[str, int]]:
    """The owner and the type of each note that a loader sees. ValueError if broken."""
    if not is_elf(data):
        raise ValueError("not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x36)
    found: list[tuple[str, int]] = []
    for number in range(count):
        kind, _flags, offset, _virtual, _physical, length = struct.unpack_from("<IIQQQQ", data, table + number * size)
        if kind == _PT_NOTE:
            found += _notes(data[offset : offset + length])
    return found


def _notes(content: bytes) -> Iterator[tuple[str, int]]:
    at = 0
    while at + 12 <= len(content):
        name_length, length, kind = struct.unpack_from("<III", content, at)
        yield content[at + 12 : at + 12 + name_length].rstrip(b"\0").decode(errors="replace"), kind
        at += 12 + (name_length + 3) // 4 * 4 + (length + 3) // 4 * 4


def _sections(data: bytes) -> list[_Section]:
    if not is_elf(data):
        raise ValueError("not a 64-bit little-endian ELF file")
    try:
        (table,) = struct.unpack_from("<Q", data, 0x28)
        size, count = struct.unpack_from("<HH", data, 0x3A)
        rows = [struct.unpack_from("<IIQQQQI", data, table + number * size) for number in range(count)]
    except struct.error as error:
        raise ValueError("the ELF file is cut off") from error
    return [_Section(row[0], row[1], row[4], row[5], row[6]) for row in rows]


def _named_sections(data: bytes) -> Iterator[tuple[str, _Section]]:
    sections = _sections(data)
    if not sections:
        return
    (names_index,) = struct.unpack_from("<H", data, 0x3E)
    names = sections[names_index]
    for section in sections:
        yield _string(data, names.offset + section.name_offset), section


def _content(data: bytes, section: _Section) -> bytes:
    content = data[section.offset : section.offset + section.size]
    if len(content) != section.size:
        raise ValueError("the ELF file is cut off")
    return content


def _string(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()
