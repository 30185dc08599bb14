"""What may come of a move, found out before it: how the guest writes, and what each way of moving it makes of that."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from limosa import durable, paths
from limosa.errors import SpecError
from limosa.lab import copies, guest_memory, qemu_launch
from limosa.lab.guest import LabGuest
from limosa.migration import pause_estimate
from limosa.migration.policies import policy_table
from limosa.migration.policies.policy import Brief
from limosa.migration.settings import Settings
from limosa.prediction import contender, score
from limosa.prediction.contender import Conditions, Contender, Foretold
from limosa.prediction.score import Held, Score
from limosa.prediction.working_set import WorkingSet
from limosa.spec.migration_options import OPTIONS
from limosa.units import format_bytes_per_s

if TYPE_CHECKING:
    from limosa.migration.plan import MigrationPlan
    from limosa.migration.transfer import Outcome

KEPT_S = 3600.0
"""For so long a prediction is one of the move that follows."""

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
    machine: str
    """The accelerator and the link, in words."""
    brief: Brief
    """What policies may do."""
    made_ns: int
    """When, of CLOCK_REALTIME."""
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
    given = Conditions(memory, link, allowed.brief(guest.spec.memory_bytes), share)
    wanted = [*contender.usual(given.brief), *(Contender(name, name) for name in also)]
    with events.stage("simulate the move"):
        ways = [await asyncio.to_thread(contender.foretold, each, given) for each in wanted]
    found = Prediction(
        guest=guest.name,
        source=place,
        target=target,
        memory=memory,
        busy_share=share,
        link_bytes_per_s=link,
        machine=f"{guest.record.accel if guest.record else 'unknown'}, {format_bytes_per_s(link)}",
        brief=given.brief,
        made_ns=time.time_ns(),
        ways=tuple(ways),
    )
    with contextlib.suppress(OSError):  # it is only not held against the move then
        durable.replace(guest.hosts.directory.prediction(guest.name), msgspec.json.encode(found))
    return found


def hold_against(guest: LabGuest, outcome: Outcome) -> None:
    """Put down how the last prediction of *guest* held, if that was of this very move: the next one is another.

    Of a move that came to its end, or that its policy gave up; what fails otherwise was not foretold.
    """
    path = guest.hosts.directory.prediction(guest.name)
    try:
        said = msgspec.json.decode(path.read_bytes(), type=Prediction)
        durable.remove(path)
    except (OSError, msgspec.MsgspecError):
        return
    held = _held(said, outcome)
    if held is not None:
        with contextlib.suppress(OSError), paths.scores().open("ab") as file:
            file.write(msgspec.json.encode(held) + b"\n")


def _held(said: Prediction, outcome: Outcome) -> Held | None:
    plan = outcome.plan
    given_up = bool(outcome.decisions) and outcome.decisions[-1].decided["action"] == "cancel"
    if (said.source, said.target) != (plan.source.host, plan.target.host) or not (given_up or outcome.failure is None):
        return None
    if outcome.started_ns - said.made_ns > KEPT_S * 1e9 or (plan.brief is not None and plan.brief != said.brief):
        return None
    way = next((each for each in said.ways if _is_of(each.way, plan)), None)
    if way is None:
        return None
    completed = outcome.failure is None
    total_ms, pause_ms = outcome.info.total_time, outcome.pause_ms
    return Held(
        time_ns=outcome.ended_ns,
        way=way.way.name,
        machine=said.machine,
        completes=way.forecast.completes,
        completed=completed,
        total_s=way.forecast.total_s,
        real_total_s=total_ms / 1000 if completed and total_ms else None,
        pause_s=way.forecast.pause_s,
        real_pause_s=pause_ms / 1000 if completed and pause_ms is not None else None,
    )


def _is_of(way: Contender, plan: MigrationPlan) -> bool:
    """Whether a move went so: by that policy, that method, and no other options."""
    begins = policy_table.named(way.policy).begins(plan.brief) if plan.brief is not None else {}
    asked = {name: value for name, value in plan.options.items() if OPTIONS[name].active(value)}
    method = {"postcopy-ram", "postcopy-preempt", "postcopy-blocktime", "return-path"}
    rest = {name: value for name, value in asked.items() if name not in method}
    wanted = {name: value for name, value in {**begins, **way.options}.items() if name not in method}
    same = rest == {name: value for name, value in wanted.items() if OPTIONS[name].active(value)}
    return same and way.policy == plan.policy and way.switches == (plan.method == "post-copy")


def scores() -> list[Score]:
    """How predictions have held, by way and machine. Lines that cannot be read are left out."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in paths.scores().read_bytes().splitlines():
            with contextlib.suppress(msgspec.MsgspecError):
                found.append(msgspec.json.decode(line, type=Held))
    return score.scores(found)


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
    running = await guest_memory.process(guest, place)
    host = guest.hosts.host(place)
    argv = ["find", f"/proc/{running.pid}/task", "-maxdepth", "2", "-name", "stat", "-exec", "cat", "{}", "+"]
    done = await host.run(argv, as_root=True, check=False)
    found = [match.group(1).split() for line in done.text.splitlines() if (match := _THREAD.search(line))]
    ticks = [int(fields[_UTIME]) + int(fields[_STIME]) for fields in found]
    return sum(ticks) / _TICKS_PER_S if ticks else None
