"""The plan of a migration: all that is going to be done, decided before it begins. It is kept with the journal and the
results, so that two moves that differ can be told apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from limosa.errors import SpecError
from limosa.migration.choice import Offer, Told, choose
from limosa.migration.policies import policy_table
from limosa.migration.policies.policy import MOST_DOWNTIME_MS, Brief, Policy
from limosa.migration.settings import Settings
from limosa.migration.transport import COST, TCP, Transport
from limosa.migration.transport import Side as Role
from limosa.spec.migration_options import OPTIONS, Value


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
    brief: Brief | None = None
    """What the policy knows beforehand; None: it is QEMU's own loop."""
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
        return seen_bytes_per_s * self._told_longer

    @property
    def _told_longer(self) -> float:
        """How many times as long as the pause that is allowed the one is that the source's QEMU is told."""
        told_ms = self.source.parameters.get("downtime-limit")
        return 1.0 if told_ms is None or not self.downtime_limit_s else float(told_ms) / 1000 / self.downtime_limit_s

    def told(self, options: Mapping[str, Value]) -> dict[str, Value]:
        """What the source's QEMU is told for *options* while it moves, by QMP's names. Those that it does not have are
        left out."""
        given = dict(options)
        if (pause_ms := given.get("downtime-limit")) is not None:
            given["downtime-limit"] = min(MOST_DOWNTIME_MS, round(int(pause_ms) * self._told_longer))
        names = {name: next((n for n in OPTIONS[name].qmp_names if n in self.source.parameters), "") for name in given}
        return {names[name]: value for name, value in given.items() if names[name]}

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
    memory_bytes: int = 0,
) -> MigrationPlan:
    """The plan of moving *guest* from one host to another, which is at *address*, by what both QEMUs can do.

    *link_bytes_per_s*: what their link takes of the stream, where that is known. *memory_bytes*: the guest's. Raises
    SpecError for options that do not go together, MachineError for one that a QEMU lacks.
    """
    method = settings.method or "pre-copy"
    encrypted = transport.kind == "tls"
    policy = policy_table.named(settings.policy or policy_table.NONE)
    brief = settings.brief(memory_bytes)
    asked, may_switch = _steered(policy, brief, settings)
    choice = choose(
        asked,
        source,
        target,
        method="post-copy" if may_switch else method,
        tls=encrypted,
        link_bytes_per_s=link_bytes_per_s,
    )
    return MigrationPlan(
        guest=guest,
        method=method,
        policy=policy.name,
        brief=None if policy.name == policy_table.NONE else brief,
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


def _steered(policy: Policy, brief: Brief, settings: Settings) -> tuple[dict[str, Value], bool]:
    """The options that are asked for, with those that *policy* begins with, and whether it may go over to post-copy.
    Raises SpecError for what does not go with it."""
    asked, begins = settings.asked, policy.begins(brief)
    if policy.name == policy_table.NONE:
        return asked, False
    if settings.method == "post-copy":
        raise SpecError(
            f"the policy {policy.name} decides itself when post-copy begins", hint="--post-copy ok instead of --method"
        )
    if policy.post_copy == "must" and not brief.may_post_copy:
        raise SpecError(
            f"the policy {policy.name} goes over to post-copy, which was not allowed",
            hint="--post-copy ok allows it; a guest is lost then if either host goes down before all has arrived",
        )
    if policy.needs_deadline and brief.deadline_s is None:
        raise SpecError(f"the policy {policy.name} does nothing without a deadline", hint="--deadline '60 s'")
    if twice := sorted(begins.keys() & asked.keys() - {"max-bandwidth"}):
        raise SpecError(
            f"the policy {policy.name} sets {twice[0]} itself", hint=f"leave {twice[0]} out: --set {twice[0]}=default"
        )
    return {**begins, **asked}, brief.may_post_copy and policy.post_copy != "no"


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
