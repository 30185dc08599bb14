"""What a guest's hardware is made of on the one architecture that limosa runs: a second one would be a second value.

Facts only. Who builds a command line, looks through a lab file or asks a QEMU what it offers takes them from here.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """Machine type, firmware, console, CPU models, clock and buses of a guest."""

    name: str
    """As QEMU and the kernel call it."""
    qemu: str
    """The program that runs its guests."""
    qemu_package: str
    """The Debian package that brings it."""
    install: str
    """How a person gets it, on the distributions that hosts have."""

    machine: str
    """The machine type without a version: for a QEMU of which nobody moves anything."""
    machine_versions: str
    """A pattern of its versioned names, whose only group is the version."""
    machine_pattern: str
    """The names of those that a guest can have: a distribution's own beside QEMU's."""
    machine_family: str
    """What people call them."""
    machine_aliases: tuple[str, ...]
    """Names by which each QEMU means a machine type of another version."""
    machine_example: str
    left_out: tuple[str, ...]
    """Parts of the mainboard that nothing here uses, by their switches: less to emulate, less state to move."""
    disk_controller: str
    """Which of them is kept for a disk on ``sata``."""
    ram_id: str
    """What the machine type calls its main memory when it does not say so itself: it is moved by name."""

    root_bus: str
    slots: dict[str, str]
    """The fixed place of each device on the root bus."""
    sata_bus: str
    """The first port of the controller that the mainboard brings along."""
    emulated_nics: tuple[str, ...]
    """Network cards of conventional PCI, modelled after real ones."""

    small_firmware: str
    """QEMU's own, which does nothing but start a kernel."""
    flash: tuple[tuple[str, str], ...]
    """The mainboard's flash chips, each with the block device that is UEFI's program or settings."""
    firmware_machines: str
    """How descriptions of firmware name the machine type."""
    uefi_install: str

    console: str
    """The device of the serial console."""
    console_tty: str
    """What a kernel calls it."""

    host_cpu: str
    """The host's own CPU less what cannot be moved."""
    plain_cpus: tuple[str, ...]
    """Models that every KVM gives, if need be with features left out; the first is for what needs nothing newer."""
    tcg_cpus: tuple[str, ...]
    """Best first."""
    kvm_cpus: tuple[str, ...]
    """Best first; each is taken only where KVM gives all of it on every host, so a wrong vendor falls out by itself."""
    cpus_max: int
    clock_rate: str
    """What tells an emulated guest's kernel the rate of its counter, before the rate in kHz."""
    clock_unstable: str
    """What tells it to use another clock."""

    @property
    def plain_cpu(self) -> str:
        """The model that needs least."""
        return self.plain_cpus[0]

    def machine_version(self, machine: str) -> tuple[int, ...]:
        """The version field of a machine type's name, (7, 2); empty for one that has none, and for any other's."""
        match = re.fullmatch(self.machine_versions, machine)
        return tuple(int(part) for part in match[1].split(".")) if match else ()

    def machine_fault(self, machine: str) -> str:
        """Why a guest cannot be a machine of this type, whatever QEMU knows; empty when it can."""
        if re.fullmatch(self.machine_pattern, machine):
            return ""
        if machine in self.machine_aliases:
            why = "has no version: each QEMU takes it for the newest machine of its own, and a guest would not be the"
            return f"{machine!r} {why} same on every host; expected a machine type such as {self.machine_example}"
        why = f"expected a {self.machine_family} one such as {self.machine_example}"
        return f"guests cannot have the machine type {machine!r}; {why}"

    def machine_switches(self, disk_bus: Literal["virtio-blk", "virtio-scsi", "sata"] | None = None) -> str:
        """What of the mainboard is left out for a guest whose disk is on that bus, as ``-machine`` takes it."""
        kept = self.disk_controller if disk_bus == "sata" else ""
        return ",".join(f"{what}=off" for what in self.left_out if what != kept)


X86_64 = Architecture(
    name="x86_64",
    qemu="qemu-system-x86_64",
    qemu_package="qemu-system-x86",
    install="apt install qemu-system-x86, apk add qemu-system-x86_64 or dnf install qemu-system-x86-core",
    machine="q35",
    machine_versions=r"pc-q35-([0-9]{1,4}(?:\.[0-9]{1,4})+)",
    machine_pattern=r"pc-q35-[A-Za-z0-9][A-Za-z0-9._-]*",
    machine_family="q35",
    machine_aliases=("q35", "pc"),
    machine_example="pc-q35-7.2",
    left_out=("hpet", "smm", "sata", "smbus", "vmport"),
    disk_controller="sata",
    ram_id="pc.ram",
    root_bus="pcie.0",
    # 0x1f holds the chipset.
    slots={"video": "0x1", "net": "0x2", "disk": "0x3", "serial": "0x4", "rng": "0x5", "seed": "0x6"},
    sata_bus="ide.0",
    emulated_nics=("e1000", "rtl8139"),
    # Where KVM only emulates supervisor code, SeaBIOS takes 6 to 55 s and this far less. Linux guests keep SeaBIOS,
    # which lays out the PCI bus for them.
    small_firmware="qboot.rom",
    flash=(("pflash0", "firmware-code"), ("pflash1", "firmware-vars")),
    firmware_machines="pc-q35-*",
    uefi_install="apt-get install ovmf",
    console="isa-serial",
    console_tty="ttyS0",
    # Not for two versions of QEMU: 7.2 and 10.0 were seen to give it different IA32_ARCH_CAPABILITIES on one machine.
    host_cpu="host,migratable=on",
    plain_cpus=("qemu64", "kvm64"),
    # Nehalem is the x86-64-v2 level that today's distributions ask for, QEMU emulates all of it (no warning from 7.2 to
    # 10.0), and a guest boots no slower than with qemu64. Later models ask for features that TCG does not give, each
    # with a warning. ``max`` changes from one QEMU to the next, so it cannot be moved between them.
    tcg_cpus=("Nehalem-v1", "Nehalem", "Westmere", "qemu64"),
    kvm_cpus=(
        *("EPYC-Genoa", "SapphireRapids", "EPYC-Milan", "EPYC-Rome", "Icelake-Server-noTSX"),
        *("Cascadelake-Server-noTSX", "EPYC-IBPB", "EPYC", "Skylake-Server-noTSX-IBRS"),
        *("Skylake-Client-noTSX-IBRS", "Broadwell-noTSX-IBRS", "Haswell-noTSX-IBRS", "IvyBridge-IBRS"),
        *("SandyBridge-IBRS", "Westmere-IBRS", "Opteron_G3", "Nehalem-IBRS", "Westmere", "Nehalem", "qemu64"),
    ),
    # APIC ids past 255 would take x2APIC with an interrupt-remapping IOMMU, which no guest is given.
    cpus_max=255,
    # The counter is its host's; on a busy machine a kernel would measure the rate wrongly.
    clock_rate="tsc_early_khz",
    clock_unstable="tsc=unstable",
)
