"""What is seen of a migration under way, for whoever wants to know without asking QEMU: a file beside its journal.

The command that moves the guest writes its phases, its looks, what it tells QEMU and what it tells the person, an Event
a line. Unlike in the journal, nothing is decided by it: a line that the disk does not take is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec

from limosa.events import (
    Event,
    Events,
    MigrationPhaseChanged,
    MigrationProgressed,
    MigrationSteered,
    Note,
    QmpExchanged,
    from_json,
    to_json,
)
from limosa.migration.phases import FINAL

_EVERY_S = 0.1
"""A look is written when the last one is this old ..."""
_SHARE = 1 / 500
"""... and this share of the time that the migration has taken: one that never ends fills no disk (some 2,600 looks in
an hour), and a look is told of while it is new in comparison."""

_TAIL_BYTES = 64 << 10
"""The last look is within so much of the end: a line of the diary has some 500 bytes."""

_LOOK_S = 0.1
"""How often a reader looks whether there is more."""


@contextlib.contextmanager
def written(events: Events, path: Path, guest: str, *, anew: bool) -> Iterator[None]:
    """Write what *events* tell of *guest*'s migration to *path*; *anew*: without what an earlier one left there."""
    writer = _Writer(path, guest, anew=anew)
    events.add(writer)
    try:
        yield
    finally:
        events.remove(writer)
        writer.close()


class _Writer:
    """A sink that never raises."""

    def __init__(self, path: Path, guest: str, *, anew: bool) -> None:
        self._guest, self._descriptor = guest, -1
        self._last: MigrationProgressed | None = None
        """The look that was written last."""
        with contextlib.suppress(OSError):
            if anew:
                path.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(path, flags, 0o600)

    def __call__(self, event: Event) -> None:
        """Hear one event."""
        if self._descriptor >= 0 and self._wanted(event):
            with contextlib.suppress(OSError):
                os.write(self._descriptor, to_json(event) + b"\n")

    def _wanted(self, event: Event) -> bool:
        if isinstance(event, MigrationProgressed) and event.guest == self._guest:
            return self._new(event)
        if isinstance(event, QmpExchanged):
            return event.guest == self._guest and _acts(event)
        if isinstance(event, MigrationPhaseChanged | MigrationSteered):
            return event.guest == self._guest
        return isinstance(event, Note) and event.guest in ("", self._guest)

    def _new(self, look: MigrationProgressed) -> bool:
        last = self._last
        if last is not None and look.status == last.status and look.elapsed_ms >= last.elapsed_ms:
            age_ms = look.elapsed_ms - last.elapsed_ms
            if age_ms < max(_EVERY_S * 1000, look.elapsed_ms * _SHARE):
                return False
        self._last = look
        return True

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _acts(event: QmpExchanged) -> bool:
    """Whether it is something that was done, or that QEMU says by itself; what QEMU is asked is not."""
    return bool(event.qmp_event) or not event.command.startswith(("query-", "qmp_capabilities", "object-"))


def last_look(path: Path, since_ns: int) -> MigrationProgressed | None:
    """The last look that was written at *since_ns* (of CLOCK_REALTIME) or later; None where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).split(b"\n")
    except OSError:
        return None
    for line in reversed(lines):
        event = _event(line)
        if isinstance(event, MigrationProgressed):
            return event if event.time_ns >= since_ns else None
    return None


async def follow(path: Path, is_driven: Callable[[], bool]) -> AsyncIterator[Event]:
    """All that is in the diary, and what is written to it, until the migration is over, or nobody drives it any more
    (*is_driven*). Of one that cannot be read there is
    nothing."""
    position, rest = 0, b""
    while True:
        driven = is_driven()  # before the look: what was written while it was, is read
        more = _from(path, position)
        position, rest = position + len(more), rest + more
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if (event := _event(line)) is None:
                continue
            yield event
            if isinstance(event, MigrationPhaseChanged) and event.phase in FINAL:
                return
        if not more:
            if not driven:
                return
            await asyncio.sleep(_LOOK_S)


def _from(path: Path, position: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read(1 << 20)
    except OSError:
        return b""


def _event(line: bytes) -> Event | None:
    with contextlib.suppress(msgspec.MsgspecError):
        return from_json(line)
    return None
