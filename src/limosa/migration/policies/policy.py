"""What a policy is: what it begins with, and what it does at a look, with the reason. Pure.

Durations of a system's schedule are meant for its machines, which have gigabytes to move: ``Brief.seconds`` scales them
for the guests of a laboratory. Pauses and rates are never scaled, nor what a person asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from limosa.migration.history import History
from limosa.spec.migration_options import OPTIONS, Value
from limosa.spec.resolved import PostCopyUse

GIB = 1 << 30
MOST_DOWNTIME_MS = 2_000_000
"""The largest ``downtime-limit`` that QEMU takes: in effect, stop now."""

_SECOND_PASS = 2

Kind = Literal["set", "post-copy", "pause", "cancel"]


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be done now. Nothing at all is no action."""

    kind: Kind
    """``set``: QEMU is told *options*. ``post-copy``: the target goes on without the rest. ``pause``: the guest stands
    still until all is sent. ``cancel``: it stays on the source."""
    options: Mapping[str, Value] = {}
    """By the names of ``limosa.spec.migration_options``, in QEMU's units."""
    hint: str = ""
    """Of ``cancel``: what would have worked."""

    @property
    def words(self) -> str:
        """In a few words, as a person is told."""
        if self.kind == "set":
            told = (f"{name} {OPTIONS[name].kind.shown(value)}" for name, value in self.options.items())
            return ", ".join(told)
        return {"post-copy": "post-copy", "pause": "the guest is paused", "cancel": "given up"}[self.kind]


POST_COPY, PAUSE = Action("post-copy"), Action("pause")


def cancel(hint: str = "") -> Action:
    """It stays on the source."""
    return Action("cancel", hint=hint)


def pause_of(limit_ms: float) -> Action:
    """The pause that QEMU may plan for."""
    return Action("set", {"downtime-limit": round(limit_ms)})


class Judgement(NamedTuple):
    """What a policy makes of a look."""

    action: Action | None = None
    why: str = ""
    """One sentence, with its numbers; of no action it is empty."""
    memory: Any = None
    """What it is given at the next look."""


class Brief(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy knows of a move before it begins: the guest, and what the person allows."""

    memory_bytes: int
    post_copy: PostCopyUse = "never"
    """``never``; ``last``: only where else it would be given up; ``ok``: whenever it helps."""
    outage_s: float = 0.3
    """How long a client may go without an answer."""
    deadline_s: float | None = None
    """By when it is to be over, from its beginning; None: whenever."""
    gap_s: float = 0.1
    """By how much longer clients go without an answer than no instruction of the guest runs."""
    fixed_s: float = 0.045
    """What a switch-over takes beside what is sent in it."""
    held_bytes: float = 2.6e6
    """What the kernel holds of a stream that fills its link, and has to send before the last of it: QEMU's estimate of
    the pause does not know of it (``limosa.prediction.move_inputs.BUFFERED_BYTES``)."""
    throttle_percent: int = 0
    """How much may be taken from the guest's processors; 0: nothing."""
    exceed: bool = False
    """Whether, at the end of patience, a longer pause is better than giving up."""
    max_bandwidth_bytes_per_s: int | None = None
    """What the person allows; None: no limit."""
    time_scale: float = 1.0
    """By how much the durations of a system's schedule are multiplied."""

    def seconds(self, of_system_s: float) -> float:
        """A duration of a system's schedule, in seconds of this move."""
        return of_system_s * self.time_scale

    @property
    def may_post_copy(self) -> bool:
        """Whether post-copy was allowed at all."""
        return self.post_copy != "never"


Step = Callable[[History, Brief, Any], Judgement]


def let_be(_seen: History, _brief: Brief, memory: Any) -> Judgement:
    """The step of a policy that leaves all to QEMU's own loop."""
    return Judgement(memory=memory)


def at_second_pass(seen: History, _brief: Brief, done: bool) -> Judgement:
    """The step of a policy that goes over to post-copy, once, as the second pass begins."""
    if done or (seen.now.iteration or 0) < _SECOND_PASS:
        return Judgement(memory=done)
    return Judgement(POST_COPY, f"pass {seen.now.iteration} has begun", memory=True)


def no_options(_brief: Brief) -> dict[str, Value]:
    """What a policy begins with that changes nothing."""
    return {}


class Policy:
    """One way of steering, a row of the table."""

    def __init__(
        self,
        *,
        name: str,
        says: str,
        source: str,
        begins: Callable[[Brief], dict[str, Value]] = no_options,
        step: Step = let_be,
        memory: Any = None,
        tick_s: float = 0.0,
        post_copy: Literal["no", "may", "must"] = "no",
        needs_deadline: bool = False,
    ) -> None:
        self.name = name
        self.says = says
        """What it does, in a few words that go on after its name."""
        self.source = source
        """The system, its version, and where in its source this stands."""
        self.begins = begins
        """The options that it begins with."""
        self.step = step
        """What it does at a look."""
        self.memory = memory
        """What it is given at the first look."""
        self.tick_s = tick_s
        """How far its looks are apart, and the first from the beginning, scaled; 0: it judges at every one."""
        self.post_copy = post_copy
        """Whether it makes use of post-copy: never, where it is allowed, or always."""
        self.needs_deadline = needs_deadline
        """Whether it does nothing without one."""


def elapsed(seen: History) -> str:
    """How long it has taken by now, for a sentence."""
    return f"{seen.now.at_s:.1f} s"
