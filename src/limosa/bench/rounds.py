"""How subjects take turns: a warm-up of each, then rounds in random order, and what becomes of one that dies."""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from limosa.bench.bed import Bed
from limosa.bench.ledger import Ledger
from limosa.bench.repetitions import Repetition
from limosa.errors import LimosaError, MachineError

WARM_UP_S = 2
"""At most this long: caches, translated code and clock rates settle in the first second."""

Measure = Callable[[str, int], Awaitable[list[tuple[Repetition, str]]]]
"""Given a subject and for how long to work: a value for each metric (unnumbered) with what was printed."""


async def started(bed: Bed, ledger: Ledger, guest: str) -> bool:
    """Start *guest* and let it stand still. A guest that cannot be had here is marked, with the reason."""
    try:
        running = await bed.start(guest)
    except MachineError as error:
        ledger.change(guest, status="skipped", reason=error.message)
        bed.events.note(f"{guest} is left out: {error.message}")
        return False
    except LimosaError as error:
        ledger.lost(guest, error.message)
        return False
    ledger.change(guest, accel=running.accel, accel_reason=running.accel_reason, facts=running.facts)
    return True


def seeded(seed: int) -> int:
    """*seed*, or for 0 a new one: it is recorded, and repeats an order."""
    return seed or secrets.randbelow(2**31 - 1) + 1


def schedule(subjects: Sequence[str], repeat: int, seed: int) -> list[tuple[str, int]]:
    """(subject, repetition) in the order in which they are measured: the warm-up of all, then rounds.

    In every round each subject has its turn once, in random order, so that a drift of the machine falls on all alike
    and a bench that is stopped early has nearly as many of each.
    """
    draw = random.Random(seed)
    order = [(subject, 0) for subject in subjects]
    for repetition in range(1, repeat + 1):
        turn = list(subjects)
        draw.shuffle(turn)
        order += [(subject, repetition) for subject in turn]
    return order


async def measure_all(bed: Bed, ledger: Ledger, able: list[str], measure: Measure) -> None:
    """Every repetition of every subject, in random order; a subject that dies is left out from then on."""
    settings = ledger.bench.settings
    time_s, dead = int(settings["time_s"]), set[str]()
    order = schedule(able, int(settings["repeat"]), ledger.bench.seed)
    for place, (name, number) in enumerate(order, start=1):
        if name in dead:
            continue
        what = f"measure {name}, " + (f"repetition {number} of {settings['repeat']}" if number else "warm-up")
        try:
            with bed.events.stage(what):
                found = await measure(name, min(time_s, WARM_UP_S) if number == 0 else time_s)
        except LimosaError as error:
            dead.add(name)
            ledger.lost(name, await _cause(bed, name, error))
            continue
        for repetition, raw in found:
            ledger.add(replace(repetition, repetition=number, order=place), raw)


async def _cause(bed: Bed, name: str, error: LimosaError) -> str:
    """What became of a subject; a guest whose QEMU is gone has died, whatever the login said of it."""
    if name in bed.guests:
        try:
            await bed.where(name)
        except LimosaError:
            return "the guest died while it was measured"
    return error.message
