"""The run directory on disk: made whole or not at all, every file typed, read back as it was written.

``docs/results-format.md`` describes the files. The directory's name is the run's id: ``20260131-142501-demo-lab``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec

import limosa
from limosa import paths, temporary, untrusted
from limosa.errors import LimosaError, StateError
from limosa.events import Event, from_json, to_json
from limosa.results.format import (
    EVENTS,
    FORMAT_VERSION,
    Check,
    ClientReport,
    Environment,
    LoadReading,
    Migration,
    Pause,
    Run,
    Summary,
)
from limosa.spec.resolved import Lab

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Document(Generic[T]):
    """One JSON file of a run and the type in it."""

    file: str
    type: type[T]


RUN = Document("run.json", Run)
SPEC = Document("spec.json", Lab)
ENVIRONMENT = Document("environment.json", Environment)
MIGRATIONS = Document("migrations.json", list[Migration])
PAUSES = Document("pauses.json", list[Pause])
LOAD = Document("load.json", list[LoadReading])
CHECKS = Document("checks.json", list[Check])
SUMMARY = Document("summary.json", Summary)
CLIENT = Document("samples/client.json", ClientReport)
DOCUMENTS: tuple[Document[Any], ...] = (
    RUN,
    SPEC,
    ENVIRONMENT,
    MIGRATIONS,
    PAUSES,
    LOAD,
    CHECKS,
    SUMMARY,
    CLIENT,
)


class RunDirectory:
    """One run. Get it from ``create``, ``open``, or by what a person says (``meant``)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._incomplete: list[str] = []

    @classmethod
    def create(cls, *, kind: str, lab: str, guest: str, base: Path | None = None) -> RunDirectory:
        """Make a new run in *base* (default: ``limosa.paths.runs()``), with its run.json and no other file.

        It appears under its name only when it is complete; a second run in the same second gets ``-2`` after its
        name. Raises MachineError when there is no room or no permission.
        """
        base = paths.runs() if base is None else base
        started_ns = time.time_ns()
        stem = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(started_ns / 1e9))}-{kind}-{lab}"
        with contextlib.ExitStack() as stack:
            try:
                base.mkdir(parents=True, exist_ok=True)
                hidden = stack.enter_context(temporary.folder("run", base))
            except OSError as error:
                raise paths.cannot_write(error, base) from error
            hidden.chmod(0o755)
            (hidden / "samples").mkdir()
            for number in range(1, 1000):
                name = stem if number == 1 else f"{stem}-{number}"
                run = Run(id=name, kind=kind, lab=lab, guest=guest, started_ns=started_ns, limosa=limosa.__version__)
                cls(hidden).write(RUN, run)
                try:
                    # Renaming onto a directory that has something in it fails: that is the test for a free name.
                    hidden.rename(base / name)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise paths.cannot_write(error, base) from error
                    continue
                return cls(base / name)
            raise StateError(f"{base} has 999 runs named {stem}")

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run. Raises StateError if it is none, or was written by a newer Limosa."""
        found = cls(path)
        if not (path / RUN.file).is_file():
            raise StateError(
                f"{path} is not a run directory: it has no {RUN.file}",
                hint=f"runs are in {paths.runs()}; limosa demo makes one",
            )
        found.read(RUN)
        return found

    @property
    def id(self) -> str:
        """The run's id: the directory's name."""
        return self.path.name

    @property
    def samples(self) -> Path:
        """Where the raw samples are."""
        return self.path / "samples"

    def has(self, document: Document[Any]) -> bool:
        """Whether the file is there."""
        return (self.path / document.file).is_file()

    def read(self, document: Document[T]) -> T:
        """One typed file. Raises StateError when it is absent, LimosaError when it is damaged; both name it."""
        path = self.path / document.file
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise StateError(f"{path} is not there", hint="the run may still be going on") from error
        except OSError as error:
            raise LimosaError(f"{path} cannot be read: {error.strerror}") from error
        try:
            if document is RUN:
                _check_version(path, untrusted.decode(data))
            return untrusted.decode(data, type=document.type)
        except msgspec.MsgspecError as error:
            raise _damaged(path, error) from error

    def read_or(self, document: Document[T], default: T) -> T:
        """The file's content, or *default* when there is no such file."""
        return self.read(document) if self.has(document) else default

    def write(self, document: Document[T], content: T) -> None:
        """Replace one typed file whole. Raises MachineError when there is no room or no permission."""
        path = self.path / document.file
        fresh = path.with_name(f".{path.name}.new")
        data = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
        try:
            fresh.write_bytes(data)
            fresh.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise paths.cannot_write(error, path) from error

    def mark_incomplete(self, sentence: str) -> None:
        """Note what could not be recorded; ``finish`` writes it into run.json."""
        if sentence not in self._incomplete:
            self._incomplete.append(sentence)

    def finish(self, status: Literal["completed", "failed", "cancelled"], error: str = "") -> Run:
        """Close the run: its end, its outcome and what is missing from it."""
        run = self.read(RUN)
        missing = [*run.incomplete, *self._incomplete]
        run = replace(run, ended_ns=time.time_ns(), status=status, error=error, incomplete=missing)
        self.write(RUN, run)
        self._incomplete.clear()
        return run


class EventFile:
    """A sink that writes events.jsonl. It never raises: trouble is told once, and marks the run."""

    def __init__(self, run: RunDirectory, warn: Callable[[str], None]) -> None:
        self._run, self._warn, self._failed = run, warn, False
        self._fd = -1
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(run.path / EVENTS, flags, 0o644)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._fail(error)

    def __call__(self, event: Event) -> None:
        """Write one line, at once."""
        if self._failed:
            return
        try:
            line = to_json(event) + b"\n"
            if os.write(self._fd, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except (OSError, TypeError, ValueError) as error:
            self._fail(error)

    def close(self) -> None:
        """Close the file; further events are ignored."""
        self._failed = True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _fail(self, error: Exception) -> None:
        # First of all: the warning is an event itself and comes back here.
        self._failed = True
        sentence = f"events.jsonl is incomplete: {getattr(error, 'strerror', None) or error}"
        self._run.mark_incomplete(sentence)
        self._warn(sentence)


def read_events(run: RunDirectory) -> list[Event]:
    """The events of a run, in order; lines that cannot be read are left out. Raises StateError when it has none."""
    return read_event_lines(run)[0]


def read_event_lines(run: RunDirectory) -> tuple[list[Event], int]:
    """The events of a run, in order, and how many lines cannot be read. Raises StateError when it has no events."""
    path, found, bad = run.path / EVENTS, list[Event](), 0
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise StateError(f"{path} is not there", hint="the run recorded no events") from error
    for line in lines:
        try:
            event = from_json(line)
        except msgspec.MsgspecError:
            bad += 1
            continue
        if event is not None:
            found.append(event)
    return found, bad


def all_runs(base: Path | None = None) -> list[Path]:
    """The directories of all runs, oldest first."""
    base = paths.runs() if base is None else base
    if not base.is_dir():
        return []
    found = [p for p in base.iterdir() if not p.name.startswith(".") and (p / RUN.file).is_file()]
    return sorted(found, key=lambda p: (p.name[:15], p.stat().st_mtime_ns, p.name))


def _check_version(path: Path, raw: object) -> None:
    version = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise StateError(
            f"{path} was written by a newer Limosa: it has format {version}, this one reads up to {FORMAT_VERSION}",
            hint="use the newer Limosa to read it",
        )


def _damaged(path: Path, error: Exception) -> LimosaError:
    return LimosaError(f"{path} is damaged: {error}", hint=f"{paths.document('results-format.md')} describes the file")
