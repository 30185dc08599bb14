"""Typed, frozen events, and the stream that carries them from the engine to whoever listens.

A sink is any callable that takes an Event: the terminal, a JSON-lines file, the results store, a web page.
Each class has a constant ``name``; ``to_json`` derives the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

import msgspec

from limosa import untrusted

_GUEST: ContextVar[str] = ContextVar("guest", default="")
"""The guest that this task is at work on, where several are worked on side by side."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What happened and when: ``time_ns`` is CLOCK_REALTIME, the clock of QMP and packet timestamps too."""

    name: ClassVar[str] = "event"
    time_ns: int = msgspec.field(default_factory=time.time_ns)


class StageStarted(Event, frozen=True, kw_only=True):
    """A step that a person would name has begun."""

    name: ClassVar[str] = "stage-started"
    stage: str
    guest: str = ""
    """The guest that it is for, where several are worked on side by side."""


class StageFinished(Event, frozen=True, kw_only=True):
    """The step ended after ``duration_s``; ``ok`` is false when it did not do what it is named for."""

    name: ClassVar[str] = "stage-finished"
    stage: str
    duration_s: float
    ok: bool = True
    guest: str = ""


class Note(Event, frozen=True, kw_only=True):
    """One sentence for the person: ``level`` is info or warning."""

    name: ClassVar[str] = "note"
    text: str
    level: str = "info"
    guest: str = ""


class CommandRan(Event, frozen=True, kw_only=True):
    """A command line ran on a host (``host`` is empty for this machine)."""

    name: ClassVar[str] = "command-ran"
    host: str
    argv: tuple[str, ...]
    returncode: int
    duration_s: float


class QmpExchanged(Event, frozen=True, kw_only=True):
    """A QMP command and its answer, or an event that QEMU sent by itself (``qmp_event`` is its name)."""

    name: ClassVar[str] = "qmp"
    guest: str
    host: str
    command: str = ""
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    answer: Any = None
    error: str = ""
    qmp_event: str = ""
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    duration_ms: float = 0.0


class MigrationPhaseChanged(Event, frozen=True, kw_only=True):
    """The migration's state machine took a step; it is in the journal already."""

    name: ClassVar[str] = "migration-phase"
    guest: str
    source: str
    target: str
    phase: str


class MigrationSteered(Event, frozen=True, kw_only=True):
    """A policy decided that something is done now; it is in the journal already."""

    name: ClassVar[str] = "migration-steered"
    guest: str
    policy: str
    action: str
    """``set``, ``post-copy``, ``pause`` or ``cancel``."""
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    """What QEMU is told, by the options' names, in its units."""
    why: str
    """One sentence."""


class MigrationProgressed(Event, frozen=True, kw_only=True):
    """One look at ``query-migrate`` on the source. Sizes in bytes, rates in bytes per second.

    None is what was not read: QEMU has no figures before it sends, and no dirty rate before it measured one.
    """

    name: ClassVar[str] = "migration-progress"
    guest: str
    status: str
    elapsed_ms: float
    total_bytes: int | None = None
    remaining_bytes: int | None = None
    transferred_bytes: int | None = None
    dirty_rate_bytes_per_s: float | None = None
    throughput_bytes_per_s: float | None = None
    """On the wire."""
    settled_bytes_per_s: float | None = None
    """How fast what remains gets less: a page of zeros is settled too, and takes hardly anything on the wire."""
    iteration: int | None = None
    expected_downtime_ms: float | None = None
    """The pause that QEMU expects: what was dirty at its last look, at the rate at which it sends."""
    throttle_percent: int | None = None
    """What auto-converge takes from each vCPU; None: it is not at work."""
    pass_end_at_most_s: float | None = None
    """Seconds until all that remains now is sent, if none of it is zeros: where those lie is not known before."""
    converges: bool | None = None
    """Whether there is less to send from pass to pass; None: not known, as before the third pass mostly."""
    expected_end_s: float | None = None
    """Seconds until the end when passes go on to get shorter as the last one did. None: not known, or they do not."""


Sink = Callable[[Event], None]


class Step:
    """A stage under way. One that raises has failed; one whose failure is a result says so by ``fail``."""

    def __init__(self) -> None:
        self.ok = True

    def fail(self) -> None:
        """It did not do what its name says."""
        self.ok = False


class Events:
    """Carries events to its sinks, in order. Sinks must not block and must not raise."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = list(sinks)
        self._said: set[str] = set()

    def add(self, sink: Sink) -> None:
        """Let *sink* hear everything from now on."""
        self._sinks.append(sink)

    def remove(self, sink: Sink) -> None:
        """Stop telling *sink*."""
        self._sinks.remove(sink)

    def emit(self, event: Event) -> None:
        """Tell every sink."""
        for sink in tuple(self._sinks):
            sink(event)

    def note(self, text: str, *, level: str = "info", once: bool = False) -> None:
        """Say one sentence to the person; *once*: unless it was said before."""
        if once and text in self._said:
            return
        self._said.add(text)
        self.emit(Note(text=text, level=level, guest=_GUEST.get()))

    @contextmanager
    def about(self, guest: str) -> Iterator[None]:
        """Stages and notes of what this task does inside are for *guest*."""
        token = _GUEST.set(guest)
        try:
            yield
        finally:
            _GUEST.reset(token)

    @contextmanager
    def stage(self, stage: str) -> Iterator[Step]:
        """Mark what happens inside as one step with a duration."""
        guest = _GUEST.get()
        self.emit(StageStarted(stage=stage, guest=guest))
        started, step, ended = time.monotonic(), Step(), False
        try:
            yield step
            ended = True
        finally:
            ok = ended and step.ok
            self.emit(StageFinished(stage=stage, duration_s=time.monotonic() - started, ok=ok, guest=guest))


def told(text: str, guest: str) -> str:
    """*text* of an event for a person: of several guests it says which is meant."""
    words = text.replace(":", " ").replace(",", " ").split()
    return f"{guest}: {text}" if guest and guest not in words else text


def to_json(event: Event) -> bytes:
    """One JSON object on one line: ``event`` is the name, then the fields."""
    return msgspec.json.encode({"event": event.name, **msgspec.to_builtins(event)})


KINDS: dict[str, type[Event]] = {kind.name: kind for kind in Event.__subclasses__()}
"""Every class of event by its name."""


def from_json(line: bytes) -> Event | None:
    """The event that ``to_json`` wrote; None for a name that this version does not know.

    Raises msgspec.MsgspecError for a line that is none.
    """
    raw = untrusted.decode(line, type=dict[str, Any])
    kind = KINDS.get(raw.pop("event", ""))
    return None if kind is None else msgspec.convert(raw, kind)
