"""The plan of a migration: all that is going to be done, decided before it begins. It is kept with the journal and the
results, so that two moves that differ can be told apart."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from limosa.migration.choice import Offer, Told, choose
from limosa.migration.settings import Settings
from limosa.migration.transport import COST, TCP, Transport
from limosa.migration.transport import Side as Role
from limosa.spec.migration_options import OPTIONS


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
    """``pre-copy`` or ``post-copy``."""
    policy: str = "qemu"
    """What steers it under way: ``qemu`` is QEMU's own loop, with the parameters of the plan."""
    options: dict[str, bool | int | str] = {}
    """What somebody asks for, with what that turns on, by the names of ``limosa.spec.migration_options``."""
    source: Side
    target: Side
    address: str
    """The target's, in the migration network."""
    transport: Transport = TCP
    """How the stream goes there."""
    timeout_s: float | None = None
    stall_s: float
    hand_over_s: float
    poll_s: float
    remarks: tuple[str, ...] = ()
    """What a person should know beforehand, a sentence each."""

    @property
    def downtime_limit_s(self) -> float:
        """The pause that is allowed; QEMU may be told another one, so that it keeps to this."""
        option = OPTIONS["downtime-limit"]
        return int(self.options.get(option.name, option.unasked)) / 1000

    def hand_over_bytes_per_s(self, seen_bytes_per_s: float) -> float:
        """How fast what is left goes over once the guest stands still, where *seen_bytes_per_s* was seen before: a
        limit of the bandwidth ends there, and QEMU is told so (``pause_estimate``)."""
        told = self.source.parameters
        if rate := told.get("avail-switchover-bandwidth"):
            return float(rate)
        if not self.downtime_limit_s or "downtime-limit" not in told:
            return seen_bytes_per_s
        return seen_bytes_per_s * float(told["downtime-limit"]) / 1000 / self.downtime_limit_s

    @property
    def may_switch(self) -> bool:
        """Whether it may become post-copy."""
        return "postcopy-ram" in self.source.capabilities


def made(
    guest: str,
    settings: Settings,
    source: Offer,
    target: Offer,
    address: str,
    *,
    transport: Transport = TCP,
    link_bytes_per_s: int | None = None,
) -> MigrationPlan:
    """The plan of moving *guest* from one host to another, which is at *address*, by what both QEMUs can do.

    *link_bytes_per_s*: what their link takes of the stream, where that is known. Raises SpecError for options that do
    not go together, MachineError for one that a QEMU lacks.
    """
    method = settings.method or "pre-copy"
    encrypted = transport.kind == "tls"
    choice = choose(settings.asked, source, target, method=method, tls=encrypted, link_bytes_per_s=link_bytes_per_s)
    return MigrationPlan(
        guest=guest,
        method=method,
        options=choice.asked,
        source=_side(source, choice.source, transport, "source"),
        target=_side(target, choice.target, transport, "target"),
        address=address,
        transport=transport,
        timeout_s=settings.timeout_s,
        stall_s=settings.stall_s,
        hand_over_s=settings.hand_over_s,
        poll_s=settings.poll_s,
        remarks=(
            *choice.remarks,
            *([COST] if encrypted else []),
            *_of_post_copy(choice.source.capabilities, source, target),
        ),
    )


_RECOVERS_AGAIN = "status postcopy-recover-setup"
"""It came with QEMU 9.1. What is being recovered can be given up and begun anew since 8.2, which nothing that can be
asked tells."""


def _of_post_copy(capabilities: Collection[str], source: Offer, target: Offer) -> list[str]:
    """What cannot be saved once it has become post-copy."""
    if "postcopy-ram" not in capabilities:
        return []
    said = (
        f"once it is post-copy, the guest is lost if {source.host} or {target.host} goes down before its memory is all "
        f"on {target.host}; a link that is cut loses nothing"
    )
    old = [offer for offer in (source, target) if not offer.known.has(_RECOVERS_AGAIN)]
    if old:
        said += f", unless it is cut again while QEMU {old[0].known.version} on {old[0].host} takes its connection up"
    alone = (
        "leave this command alone while the link is cut: another cannot take its place where the main loop of QEMU on "
        f"{target.host} waits for memory, as it takes no new client then"
    )
    return [said, alone]


def _side(offer: Offer, told: Told, transport: Transport, role: Role) -> Side:
    of_stream = {name: v for name, v in transport.parameters(role).items() if offer.known.has(f"parameter {name}")}
    parameters = {**told.parameters, **of_stream}
    return Side(host=offer.host, capabilities=("events", *told.capabilities), parameters=parameters)
