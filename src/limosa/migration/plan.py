"""The plan of a migration: all that is going to be done, decided before it begins. It is kept with the journal and the
results, so that two moves that differ can be told apart."""

from __future__ import annotations

from typing import Any

import msgspec

from limosa.migration.settings import Settings


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What the QEMU of one host is told before the stream begins."""

    host: str
    capabilities: tuple[str, ...] = ()
    """Those that are on; all others are off."""
    parameters: dict[str, Any] = {}
    """As ``migrate-set-parameters`` takes them: bytes, bytes/s, ms, percent."""


class MigrationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One move of one guest."""

    guest: str
    method: str
    """``pre-copy``."""
    policy: str = "qemu"
    """What steers it under way: ``qemu`` is QEMU's own loop, with the parameters of the plan."""
    source: Side
    target: Side
    address: str
    """The target's, in the migration network."""
    timeout_s: float | None = None
    stall_s: float
    hand_over_s: float
    poll_s: float


def made(guest: str, settings: Settings, source: str, target: str, address: str) -> MigrationPlan:
    """The plan of moving *guest* from the host *source* to *target*, which is at *address*."""
    capabilities = ("events", *settings.capabilities)
    return MigrationPlan(
        guest=guest,
        method="pre-copy",
        source=Side(host=source, capabilities=capabilities, parameters=settings.qemu_parameters()),
        target=Side(host=target, capabilities=capabilities, parameters=dict(settings.parameters)),
        address=address,
        timeout_s=settings.timeout_s,
        stall_s=settings.stall_s,
        hand_over_s=settings.hand_over_s,
        poll_s=settings.poll_s,
    )
