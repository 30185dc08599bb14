"""The plan of a migration: all that is going to be done, decided before it begins. It is kept with the journal and the
results, so that two moves that differ can be told apart."""

from __future__ import annotations

from typing import Any

import msgspec

from limosa.migration.choice import Offer, Told, choose
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
    options: dict[str, bool | int | str] = {}
    """What somebody asks for, with what that turns on, by the names of ``limosa.spec.migration_options``."""
    source: Side
    target: Side
    address: str
    """The target's, in the migration network."""
    timeout_s: float | None = None
    stall_s: float
    hand_over_s: float
    poll_s: float
    remarks: tuple[str, ...] = ()
    """What a person should know beforehand, a sentence each."""


def made(
    guest: str,
    settings: Settings,
    source: Offer,
    target: Offer,
    address: str,
    *,
    link_bytes_per_s: int | None = None,
) -> MigrationPlan:
    """The plan of moving *guest* from one host to another, which is at *address*, by what both QEMUs can do.

    *link_bytes_per_s*: what their link takes of the stream, where that is known. Raises SpecError for options that do
    not go together, MachineError for one that a QEMU lacks.
    """
    method = settings.method or "pre-copy"
    choice = choose(settings.asked, source, target, method=method, link_bytes_per_s=link_bytes_per_s)
    return MigrationPlan(
        guest=guest,
        method=method,
        options=choice.asked,
        source=_side(source, choice.source),
        target=_side(target, choice.target),
        address=address,
        timeout_s=settings.timeout_s,
        stall_s=settings.stall_s,
        hand_over_s=settings.hand_over_s,
        poll_s=settings.poll_s,
        remarks=choice.remarks,
    )


def _side(offer: Offer, told: Told) -> Side:
    return Side(host=offer.host, capabilities=("events", *told.capabilities), parameters=told.parameters)
