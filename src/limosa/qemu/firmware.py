"""UEFI firmware of the distribution: found by the descriptions that firmware packages install for QEMU's users.

The descriptions' format is QEMU's docs/interop/firmware.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from limosa import untrusted
from limosa.architecture import X86_64
from limosa.errors import MachineError

FOLDERS = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))
"""Where descriptions are; one in the first hides one of the same name in the second."""

_UNWANTED = {"requires-smm", "secure-boot", "enrolled-keys"}
"""Our machines have no system management mode; and with foreign keys not every image starts."""


class _File(msgspec.Struct, frozen=True):
    filename: str = ""
    format: str = ""


class _Mapping(msgspec.Struct, frozen=True, rename="kebab"):
    executable: _File = _File()
    nvram_template: _File = _File()


class _Target(msgspec.Struct):
    architecture: str
    machines: list[str]


class _Description(msgspec.Struct, rename="kebab"):
    """What we read of a firmware's description."""

    interface_types: list[str]
    mapping: _Mapping
    targets: list[_Target]
    features: list[str]

    @property
    def fits(self) -> bool:
        """Whether it is a UEFI of two raw files for our machines."""
        machines = {m for t in self.targets if t.architecture == X86_64.name for m in t.machines}
        raw = self.mapping.executable.format == self.mapping.nvram_template.format == "raw"
        return (
            "uefi" in self.interface_types
            and raw
            and X86_64.firmware_machines in machines
            and not _UNWANTED & {*self.features}
        )


class Uefi(msgspec.Struct, frozen=True):
    """The two files of a firmware: the program, and what a guest's settings begin as."""

    code: Path
    variables: Path


def uefi(folders: Sequence[Path] = FOLDERS) -> Uefi:
    """The first UEFI for our machines, in the order of the descriptions' names. Raises MachineError."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in folder.glob("*.json") if folder.is_dir() else ():
            found.setdefault(path.name, path)
    for name in sorted(found):
        try:
            described = untrusted.decode(found[name].read_bytes(), type=_Description)
        except (OSError, msgspec.MsgspecError):
            continue  # a broken description is somebody else's; there may be another
        files = described.mapping
        made = Uefi(Path(files.executable.filename), Path(files.nvram_template.filename))
        if described.fits and made.code.is_file() and made.variables.is_file():
            return made
    raise MachineError("there is no UEFI firmware for QEMU on this machine", hint=X86_64.uefi_install)
