"""From the options that are asked for, and what two QEMUs offer, to what each of them is told. Pure.

Every parameter of the table that a QEMU knows is told each time, with its default where nobody asks for more: what an
earlier move set stays set, and a target is the source of the next move. A capability that is not named is turned off by
whoever tells them (``Monitor.set_capabilities``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from limosa.errors import LimosaError, MachineError, SpecError
from limosa.migration import pause_estimate
from limosa.qemu.features import Migrations
from limosa.spec.migration_options import OPTIONS, Exclusion, Option, Side, Value, named
from limosa.spec.migration_options.row import TLS

POST_COPY: Mapping[str, Value] = {"postcopy-ram": True}
"""What the method post-copy takes."""
POST_COPY_WHERE_BOTH_CAN: Mapping[str, Value] = {"postcopy-preempt": True, "postcopy-blocktime": True}
"""What it has wherever both QEMUs can, unless somebody says no: the first makes the pause several times shorter, the
second measures what the guest waited for."""


class Told(msgspec.Struct, frozen=True):
    """What one QEMU is told, by QMP's names."""

    capabilities: tuple[str, ...]
    """Those that are on; all others are off."""
    parameters: dict[str, Value]


class Choice(msgspec.Struct, frozen=True):
    """What becomes of the options that were asked for."""

    source: Told
    target: Told
    asked: dict[str, Value]
    """The options asked for, with what they turn on, by their own names."""
    remarks: tuple[str, ...] = ()
    """What a person should know of it before the move, a sentence each."""


class Offer(NamedTuple):
    """A host and what its QEMU can do."""

    host: str
    known: Migrations


def choose(
    asked: Mapping[str, Value],
    source: Offer,
    target: Offer,
    *,
    method: str = "pre-copy",
    tls: bool = False,
    guest_has: frozenset[str] = frozenset(),
    link_bytes_per_s: int | None = None,
) -> Choice:
    """What both QEMUs are told when *asked* is asked for by name.

    *tls*: whether the stream is encrypted. *guest_has*: what the guest's QEMU was started with, as in
    ``Option.guest_needs``. *link_bytes_per_s*: what the link between the hosts takes, where that is known for sure.
    Raises SpecError for options that do not go together, MachineError for one that a QEMU lacks.
    """
    offers: dict[Side, tuple[Offer, ...]] = {"both": (source, target), "source": (source,), "target": (target,)}
    wanted = expanded({**asked, **_of_method(method, asked, offers)})
    for name, value in wanted.items():
        if OPTIONS[name].active(value) or name in asked:
            if not pause_estimate.stands_in(name, wanted, source.known):
                _check_offers(OPTIONS[name], value, offers)
            _check_guest(OPTIONS[name], value, guest_has)
    for option, exclusion in _exclusions(wanted):
        _check_exclusion(option, exclusion, wanted, tls, (source, target))
    estimate = pause_estimate.of(wanted, source.known, link_bytes_per_s)
    told = {**wanted, **estimate.told}
    return Choice(
        source=_told("source", source.known, target.known, told),
        target=_told("target", target.known, source.known, told),
        asked=wanted,
        remarks=(*estimate.remarks, *_unkept(wanted)),
    )


def expanded(asked: Mapping[str, Value]) -> dict[str, Value]:
    """*asked* with what it turns on. Raises SpecError for what is asked for without what it needs."""
    found = dict(asked)
    for name, given in asked.items():
        found |= {other: value for other, value in _turned_on(named(name), given).items() if other not in found}
    for name, given in found.items():
        option = named(name)
        for other, value in {**_turned_on(option, given), **_needed(option, given)}.items():
            if found.get(other, OPTIONS[other].unasked) != value:
                word = f"{other}={OPTIONS[other].kind.shown(value)}"
                raise SpecError(f"{name} needs {word}", hint=f"--set {word}, or leave {name} out")
        _check_least(option, given, found)
    return found


def _turned_on(option: Option, given: Value) -> Mapping[str, Value]:
    return {} if given is False else option.turns_on


def _needed(option: Option, given: Value) -> Mapping[str, Value]:
    return {} if given is False else option.needs


def _check_least(option: Option, given: Value, found: Mapping[str, Value]) -> None:
    if not option.not_less_than:
        return
    other = named(option.not_less_than)
    least = found.get(other.name, other.unasked)
    if int(given) < int(least):
        raise SpecError(
            f"{option.name} is {option.kind.shown(given)}, less than the {other.kind.shown(least)} of {other.name}",
            hint=f"set {other.name} to less, too",
        )


def _unkept(wanted: Mapping[str, Value]) -> tuple[str, ...]:
    """Seen on the wire, not in QEMU's account of it: each of its threads sends what it has at once."""
    limit = OPTIONS["max-bandwidth"]
    if wanted.get("multifd") and int(wanted.get(limit.name, limit.unasked)) != limit.unasked:
        return ("with multifd QEMU sends more than max-bandwidth says: twice as much was seen",)
    return ()


def _of_method(method: str, asked: Mapping[str, Value], offers: Mapping[Side, tuple[Offer, ...]]) -> dict[str, Value]:
    """What *method* takes beside what is asked for. Raises SpecError when that was refused."""
    if method != "post-copy":
        return {}
    for name, value in POST_COPY.items():
        if asked.get(name, value) != value:
            word = f"{name}={OPTIONS[name].kind.shown(asked[name])}"
            raise SpecError(f"the method {method} does not go with {word}", hint=f"leave {word} out")
    both = {
        name: value
        for name, value in POST_COPY_WHERE_BOTH_CAN.items()
        if name not in asked and all(qmp_name(OPTIONS[name], offer.known) for offer in offers["both"])
    }
    return {**POST_COPY, **both}


def qmp_name(option: Option, known: Migrations) -> str:
    """What a QEMU calls *option*; empty when it does not have it, or not soundly."""
    kind = "capability" if option.capability else "parameter"
    if option.feature and not known.has(option.feature):
        return ""
    return next((name for name in option.qmp_names if known.has(f"{kind} {name}")), "")


def _check_offers(option: Option, value: Value, offers: Mapping[Side, tuple[Offer, ...]]) -> None:
    """Raise MachineError or SpecError for a QEMU that cannot do as it would be told."""
    if value is False and option.capability:
        return
    for host, known in offers[option.side]:
        name = qmp_name(option, known)
        if not name:
            raise MachineError(
                f"QEMU {known.version} on {host} cannot do {option.name}",
                hint=f"leave {option.name} out, or give {host} a newer `qemu:`",
            )
        words = known.migration_choices.get(name)
        if words is not None and value not in words:
            raise MachineError(
                f"QEMU {known.version} on {host} has {option.name} without {value}",
                hint=f"it has {', '.join(sorted(words))}",
            )
        for feature, least in option.least_with.items():
            if known.has(feature) and int(value) < least:
                raise SpecError(
                    f"QEMU {known.version} on {host} cannot be held to {option.kind.shown(value)}: "
                    f"it sends at least {option.kind.shown(least)}",
                    hint="give it a larger limit, or the network a `rate`",
                )


def _check_guest(option: Option, value: Value, guest_has: frozenset[str]) -> None:
    if value is not False and option.guest_needs and option.guest_needs not in guest_has:
        raise SpecError(
            f"{option.name} takes a guest whose QEMU was started with {GUEST_NEEDS[option.guest_needs]}",
            hint="auto-converge slows a guest down without it",
        )


GUEST_NEEDS = {"dirty-ring": "KVM's dirty ring, and limosa starts none with it"}
"""What a guest's QEMU can be started with, in words."""


def _exclusions(wanted: Mapping[str, Value]) -> Iterator[tuple[Option, Exclusion]]:
    for name, value in wanted.items():
        if OPTIONS[name].active(value):
            for exclusion in OPTIONS[name].excludes:
                yield OPTIONS[name], exclusion


def _check_exclusion(
    option: Option, exclusion: Exclusion, wanted: Mapping[str, Value], tls: bool, offers: tuple[Offer, ...]
) -> None:
    """Raise SpecError, or MachineError where a newer QEMU would do, for two things that do not go together."""
    other = exclusion.other
    there = tls if other == TLS else other in wanted and OPTIONS[other].active(wanted[other])
    if not there or (exclusion.unless and all(offer.known.has(exclusion.unless) for offer in offers)):
        return
    old = [offer for offer in offers if exclusion.unless and not offer.known.has(exclusion.unless)]
    where = f" with QEMU {old[0].known.version} on {old[0].host}" if old else ""
    kind: type[LimosaError] = MachineError if old else SpecError
    raise kind(f"{option.name} and {other} do not go together{where}: {exclusion.why}", hint="leave one of them out")


def _told(side: Side, known: Migrations, others: Migrations, told: Mapping[str, Value]) -> Told:
    """What the QEMU of *side* is told: capabilities that are on, and each parameter that it knows."""
    capabilities, parameters = [], dict[str, Value]()
    for option in OPTIONS.values():
        name, acts = qmp_name(option, known), option.side in ("both", side)
        value = told[option.name] if acts and option.name in told else option.unasked
        if option.name not in told and option.alone is not None and not qmp_name(option, others):
            value = option.alone
        if name and option.capability and value:
            capabilities.append(name)
        elif name and not option.capability:
            parameters[name] = value
    return Told(tuple(capabilities), parameters)
