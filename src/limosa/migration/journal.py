"""A migration's journal: each step is on disk before it happens, so that the next command can finish what one began."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import msgspec

from limosa.errors import LimosaError


class Phase(StrEnum):
    """The steps of a migration, in order; each names what is about to happen."""

    STARTING_TARGET = "starting-target"
    """The target QEMU is launched."""
    PREPARING = "preparing"
    """Capabilities and parameters are set on both sides; the target listens."""
    MOVING = "moving"
    """The source sends."""
    SWITCHED = "switched"
    """The source has sent everything and stopped for good; the target starts by itself."""
    ENDING_SOURCE = "ending-source"
    """The target runs; the source QEMU is ended."""
    RESCUING = "rescuing"
    """Something interrupted it; the guest is being kept where it runs."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED})


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the journal."""

    phase: Phase
    time_ns: int
    guest: str
    source: str
    target: str
    detail: str = ""


class Journal(msgspec.Struct):
    """Append-only JSON lines at ``path``; the file of a finished migration is kept until the next one begins."""

    path: Path
    guest: str
    source: str
    target: str
    entries: list[Entry] = msgspec.field(default_factory=list)
    on_entry: Callable[[Entry], None] = lambda _: None

    def begin(self) -> None:
        """Start anew; what the last migration wrote is dropped. Raises LimosaError when that cannot be."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def write(self, phase: Phase, detail: str = "") -> None:
        """Record that *phase* is about to happen. Raises LimosaError when the disk does not take it."""
        entry = Entry(
            phase=phase, time_ns=time.time_ns(), guest=self.guest, source=self.source, target=self.target, detail=detail
        )
        try:
            _append(self.path, msgspec.json.encode(entry))
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.entries.append(entry)
        self.on_entry(entry)

    def close(self, phase: Phase, detail: str = "") -> None:
        """Record the end. A disk that does not take it changes nothing about the guest: the next command looks."""
        try:
            self.write(phase, detail)
        except LimosaError:
            self.entries.append(
                Entry(phase=phase, time_ns=time.time_ns(), guest=self.guest, source=self.source, target=self.target)
            )


def _append(path: Path, line: bytes) -> None:
    """Add one whole line, or none: what a crash or a full disk cut short before is overwritten."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        whole = os.pread(descriptor, os.fstat(descriptor).st_size, 0).rfind(b"\n") + 1
        try:
            os.ftruncate(descriptor, whole)
            view, at = memoryview(line + b"\n"), whole
            while view:
                written = os.pwrite(descriptor, view, at)
                view, at = view[written:], at + written
            os.fdatasync(descriptor)
        except OSError:
            os.ftruncate(descriptor, whole)
            raise
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> LimosaError:
    return LimosaError(f"the migration's journal cannot be written: {error.strerror}", hint=f"make room for {path}")


def unfinished(path: Path) -> Entry | None:
    """The last entry of a journal whose migration has not ended; None when there is none.

    A last line cut short by a crash is ignored: its step had not begun.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    last: Entry | None = None
    for line in lines:
        try:
            last = msgspec.json.decode(line, type=Entry)
        except msgspec.DecodeError:
            break
    return None if last is None or last.phase in FINAL else last
