"""A kind of image of the tests' own, the bare guest set to count primes: one row, and a module of few lines."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from limosa.guest import provision
from limosa.guest.bare import kernel_arguments as bare_arguments
from limosa.guest.bare import provision as bare
from limosa.guest.bare.provision import have, kernel_arguments, trial
from limosa.guest.provision import Order, Placed
from limosa.spec import image_kinds
from limosa.spec.image_kinds import ImageKind

__all__ = ["TOY", "added", "current", "have", "kernel_arguments", "place", "trial"]

TOY = ImageKind(
    name="toy",
    described="the bare guest, counting primes.",
    memory_bytes=48 << 20,
    least_memory_bytes=32 << 20,
    agent="none",
    has_devices=False,
    ends_by_power_button=False,
    minimal_firmware=True,
    cpu="qemu64",
)


async def place(order: Order) -> Placed:
    """As the bare guest, with other work."""
    made = await bare.place(order)
    return replace(made, provenance={"name": TOY.name}, append=bare_arguments("primes", limit=2000, report=20))


def current() -> set[str]:
    """Nothing of its own in the cache."""
    return set()


def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this kind for as long as the test runs."""
    monkeypatch.setitem(image_kinds.KINDS, TOY.name, TOY)
    monkeypatch.setitem(provision.PROVISIONS, TOY.name, sys.modules[__name__].__name__)
