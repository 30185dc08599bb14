"""All runs that are kept: what each is and how it ended, and which go when room is wanted.

A run is being written as long as its writer holds the lock on its events; the lock goes with the process, however that
ends. One that says it is running, and is not, was interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from limosa import locks, temporary
from limosa.errors import LimosaError, MachineError
from limosa.results import store
from limosa.results.format import EVENTS
from limosa.results.store import RunDirectory

_FIRST_EVENT_S = 60.0
"""A run that has just been made has no events to lock yet."""


class KeptRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run. What a damaged one does not tell is empty."""

    id: str
    kind: str = ""
    lab: str = ""
    guest: str = ""
    began_ns: int
    ended_ns: int | None = None
    outcome: str
    """``completed``, ``failed``, ``cancelled``; ``running``; ``interrupted``, without an end; ``damaged``."""
    error: str = ""
    size_bytes: int
    directory: str
    report: str
    """Its page; empty while there is none."""


def kept(base: Path | None = None) -> list[KeptRun]:
    """All runs, the newest first."""
    found = list[KeptRun]()
    for path in reversed(store.all_runs(base)):
        with contextlib.suppress(FileNotFoundError):  # another command has just removed it
            found.append(of(RunDirectory(path)))
    return found


def of(directory: RunDirectory) -> KeptRun:
    """What there is to say of one."""
    page = directory.path / "report.html"
    found = KeptRun(
        id=directory.id,
        began_ns=(directory.path / store.RUN.file).stat().st_mtime_ns,
        outcome="damaged",
        size_bytes=_size_bytes(directory.path),
        directory=str(directory.path),
        report=str(page) if page.is_file() else "",
    )
    try:
        run = directory.read(store.RUN)
    except LimosaError as error:
        return msgspec.structs.replace(found, error=error.message)
    return msgspec.structs.replace(
        found,
        kind=run.kind,
        lab=run.lab,
        guest=run.guest,
        began_ns=run.started_ns,
        ended_ns=run.ended_ns,
        outcome=_outcome(directory, run.status),
        error=run.error,
    )


def _outcome(directory: RunDirectory, status: str) -> str:
    if status == "running":
        return "running" if is_written(directory) else "interrupted"
    return "running" if _is_held(directory) else status


@contextlib.contextmanager
def held(run: RunDirectory) -> Iterator[None]:
    """Have the run count as running for the length of the block though its end is on record: it is needed still."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # it has no events, or lies on a file system without locks
            descriptor = os.open(run.path / EVENTS, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def is_written(run: RunDirectory) -> bool:
    """Whether somebody is writing it now."""
    try:
        return _is_locked(run)
    except FileNotFoundError:
        return time.time() - run.path.stat().st_mtime < _FIRST_EVENT_S
    except OSError:
        return True  # nobody knows


def _is_held(run: RunDirectory) -> bool:
    with contextlib.suppress(OSError):
        return _is_locked(run)
    return False


def _is_locked(run: RunDirectory) -> bool:
    """Raises OSError where nobody can know."""
    return locks.is_held(run.path / EVENTS)


def superfluous(
    runs: Sequence[KeptRun], *, keep: int | None = None, older_than_s: float | None = None
) -> list[KeptRun]:
    """Which of *runs* (newest first) go: those beyond the newest *keep* that began longer ago than that, never one
    that is being written."""
    latest_ns = time.time_ns() - round((older_than_s or 0.0) * 1e9)
    beyond = runs[keep or 0 :]
    return [run for run in beyond if run.outcome != "running" and run.began_ns <= latest_ns]


def remove(run: KeptRun) -> bool:
    """Delete a run, from sight first; False when somebody has begun to write it, or took it away, meanwhile.

    Raises MachineError when it may not be.
    """
    path = Path(run.directory)
    try:
        if of(RunDirectory(path)).outcome == "running":
            return False
        with temporary.folder("gone", path.parent) as folder:  # what a killed command leaves of it is swept
            gone = path.rename(folder / path.name)
            if not gone.is_symlink():  # else it leads to somebody's own folder, which stays
                shutil.rmtree(gone)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise MachineError(f"{path} cannot be removed: {error.strerror or error}", hint="is it your own?") from error
    return True


def _size_bytes(directory: Path) -> int:
    """What its files take on the disk."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total
