"""The order of modules, what is read from ELF files, and the kernel inside a bzImage."""

from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import pytest

from limosa.errors import MachineError
from limosa.guest.micro import elf, kernel, vmlinux


def module(*lines: str) -> bytes:
    """A smallest ELF file with a .modinfo section."""
    names = b"\0.modinfo\0.names\0"
    content = b"".join(line.encode() + b"\0" for line in lines)
    table = 64 + len(content) + len(names)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    sections = [(0, 0, 0, 0), (1, 1, 64, len(content)), (10, 3, 64 + len(content), len(names))]
    rows = [struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 1, 0) for name, kind, at, size in sections]
    return header + content + names + b"".join(rows)


def elf_with_note(owner: bytes, kind: int) -> bytes:
    """A smallest ELF file with one note in a segment."""
    note = (
        struct.pack("<III", len(owner) + 1, 4, kind)
        + (owner + b"\0").ljust((len(owner) + 4) // 4 * 4, b"\0")
        + b"\0" * 4
    )
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(note), len(note), 4) + note


def bzimage(payload: bytes, appended: bytes = b"") -> bytes:
    """A boot sector, one setup sector and a payload."""
    image = bytearray(1024 + 16)
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 16, len(payload + appended))
    return bytes(image) + payload + appended


def test_module_facts_are_read_from_the_modinfo_section() -> None:
    facts = elf.module_facts(module("name=virtio_net", "depends=virtio,net-failover", "alias=a", "alias=b"))
    assert facts == {"name": ["virtio_net"], "depends": ["virtio,net-failover"], "alias": ["a", "b"]}


def test_libraries_of_a_real_program_are_read() -> None:
    program = Path("/bin/ls").read_bytes()
    assert "libc.so.6" in elf.needed_libraries(program)


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", module("a=b")[:100]])
def test_a_broken_elf_file_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        elf.module_facts(data)


def test_each_module_comes_after_those_it_needs() -> None:
    needs = {"net": ["virtio", "failover"], "virtio": ["ring"], "failover": [], "ring": [], "blk": ["ring"]}
    order = kernel.ordered(["net", "blk"], lambda name: needs[name])
    assert sorted(order) == sorted(needs)
    for name, first in needs.items():
        assert all(order.index(other) < order.index(name) for other in first)


def test_modules_that_need_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="need each other"):
        kernel.ordered(["a"], lambda name: {"a": ["b"], "b": ["a"]}[name])


def unpacked_kernel(tree: Path, *, leave_out: str = "") -> None:
    """A kernel tree: most modules there in three forms, virtio_ring built in."""
    directory = tree / "lib/modules/6.0-test"
    (directory / "kernel/drivers").mkdir(parents=True)
    (directory / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_ring.ko\n")
    (tree / "boot").mkdir()
    (tree / "boot/vmlinuz-6.0-test").write_bytes(b"kernel")
    for name in (
        "virtio",
        "virtio_pci",
        "virtio_blk",
        "virtio_net",
        "virtio_console",
        "virtio-rng",
        "button",
        "evdev",
    ):
        if name != leave_out:
            depends = "" if name in ("virtio", "button", "evdev") else "virtio,virtio_ring"
            content = module(f"depends={depends}")
            if name == "virtio_net":
                (directory / f"kernel/drivers/{name}.ko.xz").write_bytes(lzma.compress(content))
            elif name == "virtio_blk":
                (directory / f"kernel/drivers/{name}.ko.gz").write_bytes(gzip.compress(content))
            else:
                (directory / f"kernel/drivers/{name}.ko").write_bytes(content)


async def test_the_load_order_of_a_kernel_leaves_out_what_is_built_in(tmp_path: Path) -> None:
    unpacked_kernel(tmp_path)
    found = kernel.find(tmp_path)
    modules = await kernel.load_order(found, tmp_path)
    names = [module.name for module in modules]
    assert found.release == "6.0-test"
    assert names == [
        "virtio",
        "virtio_pci",
        "virtio_blk",
        "virtio_net",
        "virtio_console",
        "virtio_rng",
        "button",
        "evdev",
    ]
    assert all(elf.is_elf(module.data) for module in modules)


async def test_a_missing_module_is_named(tmp_path: Path) -> None:
    unpacked_kernel(tmp_path, leave_out="virtio_blk")
    with pytest.raises(MachineError, match="virtio_blk"):
        await kernel.load_order(kernel.find(tmp_path), tmp_path)


def test_packages_without_a_kernel_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no kernel"):
        kernel.find(tmp_path)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
async def test_the_elf_kernel_is_taken_out_of_the_bzimage(tmp_path: Path, compress) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    inside = elf_with_note(b"Xen", 18)
    appended = b"" if compress is gzip.compress else b"size"
    (tmp_path / "bz").write_bytes(bzimage(compress(inside), appended))
    assert await vmlinux.extract(tmp_path / "bz", tmp_path / "elf", tmp_path)
    assert (tmp_path / "elf").read_bytes() == inside


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"x" * 4096,
        bzimage(b"unknown!"),
        bzimage(gzip.compress(b"no ELF file")),
        bzimage(gzip.compress(elf_with_note(b"GNU", 18))),
        bzimage(gzip.compress(elf_with_note(b"Xen", 18)))[:-9],
    ],
)
async def test_a_kernel_that_qemu_would_not_start_is_left_as_it_is(tmp_path: Path, image: bytes) -> None:
    (tmp_path / "bz").write_bytes(image)
    assert not await vmlinux.extract(tmp_path / "bz", tmp_path / "elf", tmp_path)
    assert not (tmp_path / "elf").exists()
