"""What may come of a move, found out before it: how the guest writes, and what each way of moving it makes of that."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence

import msgspec

from limosa.errors import SpecError
from limosa.lab import copies, guest_memory, qemu_launch
from limosa.lab.guest import LabGuest
from limosa.migration import pause_estimate
from limosa.migration.policies import policy_table
from limosa.migration.settings import Settings
from limosa.prediction import contender
from limosa.prediction.contender import Conditions, Contender, Foretold
from limosa.prediction.working_set import WorkingSet
from limosa.qemu import launches

_THREAD = re.compile(r"\(CPU \d+/[A-Z]+\) \S+ (.*)")
"""A processor's thread in ``/proc/PID/task/TID/stat``, as QEMU names it (``debug-threads=on``)."""
_UTIME, _STIME = 10, 11
"""Counted from behind the state (proc(5): fields 14 and 15)."""
_TICKS_PER_S = 100
"""USER_HZ, on every Linux."""


class Prediction(msgspec.Struct, frozen=True):
    """Of one guest and one target, what each way would make of the move."""

    guest: str
    source: str
    target: str
    memory: WorkingSet
    busy_share: float | None
    """How much of its processors' time the guest took meanwhile, 0 to 1; None: not read."""
    link_bytes_per_s: float
    """What the link takes of the stream."""
    ways: tuple[Foretold, ...]


async def predict(
    guest: LabGuest, target: str, allowed: Settings, link_bytes_per_s: float | None, also: Sequence[str] = ()
) -> Prediction:
    """What would come of moving *guest* to *target* by the usual ways, and by the policies that are named in *also*.

    *link_bytes_per_s*: of the stream; None: as the lab file says. Raises SpecError for a host or a policy that there is
    not and where nobody says what the link takes, StateError for a guest that does not run, LimosaError where its
    memory cannot be looked at.
    """
    lab, events = guest.hosts.lab, guest.hosts.events
    if target not in lab.hosts:
        raise qemu_launch.unknown_host(lab, target)
    for name in also:
        policy_table.named(name)
    link = link_bytes_per_s or _as_the_lab_says(guest)
    place = await copies.host_of(guest)
    with events.stage(f"look at the memory of {guest.name}"):
        began_s, before = time.monotonic(), await _busy_s(guest, place)
        memory = await guest_memory.working_set(guest)
        after, took_s = await _busy_s(guest, place), time.monotonic() - began_s
    share = None if before is None or after is None else min(1.0, (after - before) / took_s / guest.spec.cpus)
    given = Conditions(memory, link, allowed.brief(memory.memory_bytes), share)
    wanted = [*contender.usual(given.brief), *(Contender(name, name) for name in also)]
    with events.stage("simulate the move"):
        ways = [await asyncio.to_thread(contender.foretold, each, given) for each in wanted]
    return Prediction(guest.name, place, target, memory, share, link, tuple(ways))


def _as_the_lab_says(guest: LabGuest) -> float:
    network = guest.hosts.lab.migration_network
    if network.rate_bits_per_s is None:
        raise SpecError(
            f"how much the link between the hosts takes is not in the lab file: {network.name} has no rate",
            hint="say it: --link '1 Gbit/s'",
        )
    return float(pause_estimate.stream(network.rate_bits_per_s))


async def _busy_s(guest: LabGuest, place: str) -> float | None:
    """For how long the guest's processors have run by now; None where their threads do not bear QEMU's names."""
    host = guest.hosts.host(place)
    seen = await launches.look(host, guest.name)
    if not seen:
        return None
    argv = ["find", f"/proc/{seen[0].pid}/task", "-maxdepth", "2", "-name", "stat", "-exec", "cat", "{}", "+"]
    done = await host.run(argv, as_root=True, check=False)
    found = [match.group(1).split() for line in done.text.splitlines() if (match := _THREAD.search(line))]
    ticks = [int(fields[_UTIME]) + int(fields[_STIME]) for fields in found]
    return sum(ticks) / _TICKS_PER_S if ticks else None
