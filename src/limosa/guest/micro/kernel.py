"""The distribution's kernel and the few modules of it that the guest needs, in an order that loads."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from limosa.errors import MachineError
from limosa.guest.micro import elf, packages

MODULES = (
    "virtio_pci",
    "virtio_blk",
    "ext4",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "button",
    "evdev",
)
"""What the guest's devices need; a kernel has each as a module or built in. evdev is for the power button."""

EMULATED_MODULES = ("virtio_scsi", "sd_mod", "ahci", "e1000", "8139cp")
"""What emulated hardware needs; the kernel for virtual machines has not got all of them, the general one has."""

OPTIONAL_MODULES = ("crc32c_generic",)
"""ext4 asks for this checksum by the algorithm's name, not as a dependency; newer kernels need no module."""

_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


@dataclass(frozen=True, slots=True)
class Module:
    """A loadable module: name with underscores, content (not compressed), and the modules it needs first."""

    name: str
    data: bytes
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: the bootable ``file``, its release (``uname -r``) and its module files by name."""

    file: Path
    release: str
    module_files: dict[str, Path]
    built_in: frozenset[str]


def find(tree: Path) -> Kernel:
    """The one kernel unpacked in *tree*. Raises MachineError when the packages hold none, or no modules."""
    for root in (tree / "usr/lib/modules", tree / "lib/modules"):
        for directory in sorted(root.glob("*")):
            release = directory.name
            places = (tree / "boot" / f"vmlinuz-{release}", directory / "vmlinuz")
            file = next((place for place in places if place.is_file()), None)
            if file is not None:
                found = [path for path in directory.glob("kernel/**/*.ko*") if path.name.endswith(_SUFFIXES)]
                listed = (directory / "modules.builtin").read_text().split()
                return Kernel(
                    file,
                    release,
                    {module_name(path.name): path for path in found},
                    frozenset(module_name(Path(line).name) for line in listed),
                )
    raise MachineError("the kernel's package holds no kernel with modules", hint="report which distribution this is")


def module_name(file: str) -> str:
    """``virtio_net`` for ``virtio-net.ko.xz``: the kernel takes the two signs as one."""
    return file.partition(".")[0].replace("-", "_")


async def load_order(kernel: Kernel, unpacked: Path, wanted_modules: Sequence[str] = MODULES) -> list[Module]:
    """The modules the guest needs, each after those it depends on. MachineError when the kernel lacks one."""
    modules: dict[str, Module] = {}
    waiting = [*wanted_modules, *OPTIONAL_MODULES]
    while waiting:
        name = waiting.pop()
        if name in modules or name in kernel.built_in:
            continue
        path = kernel.module_files.get(name)
        if path is None:
            if name in OPTIONAL_MODULES:
                continue
            raise MachineError(
                f"the kernel {kernel.release} has no module {name}", hint="report which distribution this is"
            )
        modules[name] = await _read(name, path, unpacked)
        waiting.extend(modules[name].needs)
    wanted = [name for name in (*OPTIONAL_MODULES, *wanted_modules) if name in modules]
    order = ordered(wanted, lambda name: [n for n in modules[name].needs if n in modules])
    return [modules[name] for name in order]


def ordered(names: Iterable[str], needs: Callable[[str], Iterable[str]]) -> list[str]:
    """*names* and all they need, each after what it needs; ValueError when two need each other."""
    done: list[str] = []
    open_names: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in open_names:
            raise ValueError(f"these modules need each other: {', '.join([*open_names, name])}")
        open_names.append(name)
        for other in needs(name):
            visit(other)
        open_names.pop()
        done.append(name)

    for name in names:
        visit(name)
    return done


async def _read(name: str, path: Path, unpacked: Path) -> Module:
    data = path.read_bytes()
    if path.suffix == ".xz":
        data = lzma.decompress(data)
    elif path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = await packages.unpacked_tool(unpacked, "zstd", "-dcq", stdin=data)
    facts = elf.module_facts(data)
    needs = [module_name(needed) for line in facts.get("depends", []) for needed in line.split(",") if needed]
    return Module(name, data, tuple(needs))
