"""The kinds of guest images: what each can and needs, one row a kind. Whoever treats guests differently asks a row.

What a kind *does* (which files it places, how its kernel is started) is in its own package of ``limosa.guest``. A new
kind is a row here, and a module that ``limosa.guest.provision`` names.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from limosa.architecture import X86_64
from limosa.units import BYTES, format_bytes


class ImageKind(msgspec.Struct, frozen=True, kw_only=True):
    """One row. ``name`` is what a lab file says, where limosa builds the image."""

    name: str
    described: str
    """What a person who writes a lab file is told of it, behind its name."""
    memory_bytes: int
    """What a guest gets when its lab file does not say."""
    least_memory_bytes: int
    boot_s: float = 180.0
    """How long a guest may take until its agent answers: about 15 s under TCG on a quiet machine."""
    built: bool = True
    """Whether limosa builds it, when a lab needs it; its directories in the cache bear a digest."""
    boots_disk: bool = False
    """Whether its disk holds a whole system of its own, which limosa did not build."""
    agent: Literal["none", "inside", "brought"] = "inside"
    """The measuring agent: never there; part of the image; or brought into a system that lets limosa log in, which may
    refuse it."""
    has_devices: bool = True
    """Whether it has hardware beside the serial line: a network card, a disk, a screen, the agent's port."""
    ends_by_power_button: bool = True
    """Whether it shuts down when its power button is pressed. Another is ended."""
    lacks_drivers: tuple[str, ...] = ()
    """Models of network cards and of disk buses that its kernel does not know."""
    minimal_firmware: bool = False
    """Whether QEMU's smallest firmware starts it: it needs no firmware that lays out the PCI bus."""
    cpu: str = ""
    """The CPU model that it takes when nobody asks for another; empty: the best that all hosts can give."""

    @property
    def has_agent(self) -> bool:
        """Whether the agent may be met in it."""
        return self.agent != "none"


MICRO = ImageKind(
    name="micro",
    described="a small Linux with SSH and measuring tools, made from distribution packages.",
    memory_bytes=512 * BYTES["MiB"],
    least_memory_bytes=128 * BYTES["MiB"],
    # The kernel for virtual machines knows no hardware but virtio's.
    lacks_drivers=(*X86_64.emulated_nics, "virtio-scsi", "sata"),
)
MICRO_GENERIC = ImageKind(
    name="micro-generic",
    described="the same with the distribution's general kernel, which has drivers for emulated hardware, and with fio; "
    "larger and slower to start.",
    memory_bytes=512 * BYTES["MiB"],
    least_memory_bytes=256 * BYTES["MiB"],
)
BARE = ImageKind(
    name="bare",
    described="a few KiB without an operating system, without disk and network.",
    memory_bytes=128 * BYTES["MiB"],
    least_memory_bytes=16 * BYTES["MiB"],
    agent="none",
    has_devices=False,
    ends_by_power_button=False,
    minimal_firmware=True,
    # It uses nothing newer, and a KVM inside a virtual machine may refuse ``host``.
    cpu=X86_64.plain_cpu,
)
OWN_DISK = ImageKind(
    name="disk",
    described="a disk that boots by itself",
    # What distributions' installed systems and cloud images boot in.
    memory_bytes=1024 * BYTES["MiB"],
    # This catches the wrong unit; it is no promise that a guest of this size is of use.
    least_memory_bytes=64 * BYTES["MiB"],
    # A cloud image's first start under TCG, on two cores with a load average of 11, took 532 s.
    boot_s=1800.0,
    built=False,
    boots_disk=True,
    agent="brought",
)
"""Every disk with a system of its own: an entry of the image library, a file of the user's, or what a URL leads to."""

KINDS: dict[str, ImageKind] = {kind.name: kind for kind in (MICRO, MICRO_GENERIC, BARE, OWN_DISK)}
"""By name. Any other name is that of a library's entry."""


def of(image: str) -> ImageKind:
    """The kind of the image that a guest names."""
    return KINDS.get(image, OWN_DISK)


def built() -> tuple[str, ...]:
    """The names of the images that limosa builds itself, in the order in which people are told of them."""
    return tuple(kind.name for kind in KINDS.values() if kind.built)


def described() -> str:
    """What a lab file's documentation says of the images that limosa builds."""
    return " ".join(f"`{kind.name}`: {kind.described}" for kind in KINDS.values() if kind.built)


def memory_described() -> str:
    """And of their memory: that of the first kind, and of those that differ from it."""
    usual = MICRO.memory_bytes
    others = [
        f"for {f'`{kind.name}`' if kind.built else kind.described} `{format_bytes(kind.memory_bytes)}`"
        for kind in KINDS.values()
        if kind.memory_bytes != usual
    ]
    return ", ".join([f"`{format_bytes(usual)}`", *others])
