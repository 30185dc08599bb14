"""What is compared before a move: a policy, a method and options, and what is foretold of each. Pure.

Each draw is a guest, a link and fixed costs as they may be (``forecast``); all contenders meet the same ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping

import msgspec

from limosa.migration.policies import policy_table
from limosa.migration.policies.policy import Brief, Policy, at_second_pass
from limosa.prediction.dirty_memory import Region
from limosa.prediction.forecast import Forecast, Range, drawn_costs, drawn_jitter, drawn_link, forecast
from limosa.prediction.move_inputs import Costs, Link
from limosa.prediction.simulation import Simulated
from limosa.prediction.steered_simulation import Step, drive
from limosa.prediction.working_set import WorkingSet
from limosa.spec.migration_options import Value
from limosa.units import format_bytes, format_duration

DRAWS = 100
LINK_SIGMA = 0.03
"""Of the logarithm of the link's rate: as far as shaped links were off what they are said to carry."""
_BUSY = 0.7
"""A guest whose processors rest for more than the rest writes by a timer, mostly: throttled, it writes as much."""
_LEAST_HORIZON_S, _COPIES = 60.0, 10
"""A move is followed for so long, or for so many times as a bare copy of the guest's memory takes."""


class Contender(msgspec.Struct, frozen=True):
    """One way of making the move."""

    name: str
    policy: str = policy_table.NONE
    options: Mapping[str, Value] = {}
    """Beside those that the policy begins with."""
    switches: bool = False
    """Whether it is the method post-copy: over as soon as the first pass is."""


class Foretold(msgspec.Struct, frozen=True):
    """What may come of it."""

    way: Contender
    forecast: Forecast
    """Total, pause, bytes, exposure: medians and 90 % intervals of what completes, and the share that does."""
    outage_s: Range | None
    """What clients miss."""
    ends_s: float | None
    """When it is given up, in the middle of those that are; None: it is not."""
    remark: str
    """What a person should know of it, in a sentence; may be empty."""


class Conditions(msgspec.Struct, frozen=True):
    """Of what guest, over which link, within which limits."""

    memory: WorkingSet
    link_bytes_per_s: float
    brief: Brief
    busy_share: float | None = None
    """How much of its processors' time the guest took, 0 to 1; None: not read, taken for all of it."""

    @property
    def horizon_s(self) -> float:
        """For how long a move is followed."""
        copy_s = self.memory.memory_bytes / self.link_bytes_per_s
        return self.brief.deadline_s or max(_LEAST_HORIZON_S, _COPIES * copy_s)


def usual(brief: Brief) -> Iterator[Contender]:
    """Those that a person would think of, and Limosa's own policy."""
    yield Contender("qemu (300 ms)")
    yield Contender("downtime 2 s", options={"downtime-limit": 2000})
    yield Contender("throttle", options={"auto-converge": True})
    yield Contender("post-copy", options={"postcopy-ram": True}, switches=True)
    yield Contender(f"auto ({format_duration(brief.outage_s)})", "auto")


def foretold(contender: Contender, given: Conditions, draws: int = DRAWS) -> Foretold:
    """What may come of *contender*."""
    policy, ends, hints = policy_table.named(contender.policy), list[float](), list[str]()

    def told(step: Step) -> None:
        if step.action.kind == "cancel":
            ends.append(step.after_s)
            hints.append(step.action.hint)

    drawn = _drawn(given, {**policy.begins(given.brief), **contender.options})
    driving = drive(_with_switch(policy) if contender.switches else policy, given.brief, given.horizon_s, told)
    found = forecast(drawn, driving, deadline_s=given.horizon_s, count=draws)
    outage = None if found.pause_s is None else _longer(found.pause_s, given.brief.gap_s)
    return Foretold(
        way=contender,
        forecast=found,
        outage_s=outage,
        ends_s=sorted(ends)[len(ends) // 2] if ends else None,
        remark=hints[0] if hints else _remark(contender, found, given),
    )


def _longer(pause: Range, by_s: float) -> Range:
    return Range(pause.median + by_s, pause.low + by_s, pause.high + by_s)


def _drawn(given: Conditions, options: Mapping[str, Value]) -> Callable[[random.Random], Simulated]:
    memory = given.memory

    def draw(chance: random.Random) -> Simulated:
        return Simulated(
            [Region(float(memory.memory_bytes), memory.zero_share or 0.0)],
            memory.drawn(chance).dirtied_bytes,
            drawn_link(chance, Link(given.link_bytes_per_s), LINK_SIGMA),
            options,
            drawn_costs(chance, Costs()),
            busy_share=1.0 if given.busy_share is None else given.busy_share,
            jitter=drawn_jitter(chance),
        )

    return draw


def _with_switch(policy: Policy) -> Policy:
    """The method post-copy, as a policy."""
    return Policy(name=policy.name, says=policy.says, source=policy.source, step=at_second_pass, memory=False)


def _remark(contender: Contender, found: Forecast, given: Conditions) -> str:
    if found.exposure_s is not None and found.exposure_s.median > 0:
        return f"{format_duration(found.exposure_s.median)} in which a host that goes down is the guest's loss"
    if found.completes >= 0.5:
        return ""
    left = least_bytes(given)
    if left is None:
        return "passes get shorter too slowly"
    if contender.options.get("auto-converge") and (given.busy_share or 1.0) < _BUSY:
        return f"its processors are {given.busy_share:.0%} busy: throttling takes little from it"
    pause = format_duration(left / given.link_bytes_per_s)
    return f"passes come down to {format_bytes(round(left))}: a pause of {pause} would be needed"


def least_bytes(given: Conditions) -> float | None:
    """With how many bytes passes begin in the end: W(t) = B t, the largest such t; None: with ever less."""
    curve, rate = given.memory.curve(), given.link_bytes_per_s
    low, high = 1e-3, given.memory.memory_bytes / rate
    if curve.dirtied_bytes(high) >= rate * high:
        return float(given.memory.memory_bytes)
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if curve.dirtied_bytes(middle) > rate * middle else (low, middle)
    return rate * low if low > 2e-3 else None
