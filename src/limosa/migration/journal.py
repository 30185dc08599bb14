"""A migration's journal: each step is on disk before it happens, so that the next command can finish what one began.

It is JSON lines, each with a checksum over itself and all lines before it. Only the last line can be cut short, by a
crash in the middle of it. Whatever else cannot be read is damage, and then nothing is done until a person decides.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import zlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import msgspec

from limosa import durable, untrusted
from limosa.errors import DecisionError, LimosaError
from limosa.migration.phases import AFTER_SWITCH, BETWEEN, FINAL, Phase
from limosa.migration.plan import MigrationPlan
from limosa.migration.policies.policy import Action

MAX_BYTES = 1 << 20
"""Far more than any journal has; a larger one is none."""

_SUM = re.compile(rb',"sum":"([0-9a-f]{8})"\}$')


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the journal."""

    phase: Phase
    time_ns: int
    guest: str
    source: str
    target: str
    detail: str = ""
    action: Action | None = None
    """What the plan's policy has decided, for the reason in ``detail``; the phase goes on. None: a phase begins."""
    stream: str = ""
    """Where the source sends, from ``moving`` on: the URI that it was given."""
    plan: MigrationPlan | None = None
    """In the first entry; None where an older version wrote it."""

    @property
    def decided(self) -> dict[str, Any]:
        """A policy's decision as ``limosa.results.format.Decision`` has it."""
        assert self.action is not None, "it is one"
        return {
            "time_ns": self.time_ns,
            "action": self.action.kind,
            "words": self.action.words,
            "options": dict(self.action.options),
            "why": self.detail,
        }

    @property
    def guest_host(self) -> str:
        """The host where the guest is by now: the source until that has stopped for good."""
        return self.target if self.phase in AFTER_SWITCH else self.source


class Journal:
    """Append-only JSON lines at *path*; the file of a finished migration is kept until the next one begins."""

    def __init__(self, path: Path, guest: str, source: str, target: str, plan: MigrationPlan | None = None) -> None:
        self.path, self.guest, self.source, self.target = path, guest, source, target
        self.stream, self.plan = "", plan
        self.entries: list[Entry] = []
        self.on_entry: Callable[[Entry], None] = lambda _: None

    def begin(self) -> None:
        """Start anew; what the last migration wrote is dropped. Raises LimosaError when that cannot be."""
        try:
            if not self.path.parent.is_dir():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                durable.sync_folder(self.path.parent.parent)
            if self.path.is_file() and not self.path.is_symlink():
                os.truncate(self.path, 0)  # on the disk with the first entry
            else:
                durable.remove(self.path)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def write(self, phase: Phase, detail: str = "", action: Action | None = None) -> None:
        """Record that *phase*, or in it *action*, is about to happen. Raises LimosaError when the disk does not take
        it."""
        entry = self._entry(phase, detail, action)
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
            self.entries.append(self._entry(phase, ""))

    def decide(self, action: Action, why: str) -> None:
        """Record that *action* is about to be done, in the phase that goes on. Raises LimosaError likewise."""
        self.write(self.entries[-1].phase, why, action)

    def _entry(self, phase: Phase, detail: str, action: Action | None = None) -> Entry:
        return Entry(
            phase=phase,
            time_ns=time.time_ns(),
            guest=self.guest,
            source=self.source,
            target=self.target,
            detail=detail,
            action=action,
            stream=self.stream,
            plan=None if self.entries else self.plan,
        )


def _append(path: Path, line: bytes) -> None:
    """Add one whole line, or none: what a crash or a full disk cut short before is overwritten."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        before = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        whole = before.rfind(b"\n") + 1
        try:
            os.ftruncate(descriptor, whole)
            view, at = memoryview(_sealed(line, before[:whole]) + b"\n"), whole
            while view:
                written = os.pwrite(descriptor, view, at)
                view, at = view[written:], at + written
            os.fdatasync(descriptor)
            if not whole:
                durable.sync_folder(path.parent)
        except OSError:
            os.ftruncate(descriptor, whole)
            raise
    finally:
        os.close(descriptor)


def _sealed(line: bytes, before: bytes) -> bytes:
    """*line* with its checksum, which covers all that is *before* it too: no line can be missing."""
    return line[:-1] + b',"sum":"%08x"}' % zlib.crc32(line, zlib.crc32(before))


def _unwritable(path: Path, error: OSError) -> LimosaError:
    return LimosaError(f"the migration's journal cannot be written: {error.strerror}", hint=f"make room for {path}")


def became_post_copy(entries: Iterable[Entry]) -> bool:
    """Whether a migration has come as far as that its source was about to be told to."""
    return any(entry.phase in BETWEEN for entry in entries)


def paused_guest(entries: Iterable[Entry]) -> bool:
    """Whether the guest may stand still because its migration's policy had it paused."""
    return any(entry.action is not None and entry.action.kind == "pause" for entry in entries)


def unfinished(path: Path, guest: str, hosts: Collection[str] | None = None) -> Entry | None:
    """The last entry of *guest*'s journal when its migration has not ended; None when there is none.

    A last line cut short by a crash is ignored: its step had not begun. Raises DecisionError when the journal is
    damaged, is another guest's, or names a host that is not among *hosts*: what happened is not known then.
    """
    try:
        entries = read(path)
        if any(entry.guest != guest for entry in entries):
            raise ValueError(f"it is of guest {entries[-1].guest}")
        last = entries[-1] if entries and entries[-1].phase not in FINAL else None
        if last is not None and hosts is not None:
            for host in (last.source, last.target):
                if host not in hosts:
                    raise ValueError(f"the lab has no host {host}")
    except ValueError as error:
        raise _damaged(path, guest, str(error)) from error
    except OSError as error:
        raise _damaged(path, guest, error.strerror or str(error)) from error
    return last


def read(path: Path) -> list[Entry]:
    """Every step that is on disk. Raises OSError, and ValueError for a line that is not as it was written."""
    *whole, torn = _content(path).split(b"\n")
    entries, before, sealed = list[Entry](), b"", False
    for number, line in enumerate(whole, 1):
        try:
            entry, sums = _opened(line, before)
        except ValueError as error:
            raise ValueError(f"line {number} {error}") from error
        if sealed and not sums:
            raise ValueError(f"line {number} has no checksum")
        if entries and (entry.source, entry.target) != (entries[0].source, entries[0].target):
            raise ValueError(f"line {number} is of another migration")
        entries.append(entry)
        before, sealed = before + line + b"\n", sums
    with contextlib.suppress(ValueError):  # without its end a line may say all the same what was about to happen
        entries.append(_opened(torn, before)[0])
    return entries


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return b""
    if len(data) > MAX_BYTES:
        raise ValueError("it is far too long")
    return data


def _opened(line: bytes, before: bytes) -> tuple[Entry, bool]:
    """The entry of *line*, and whether it has a checksum: those that older versions wrote have none."""
    found = _SUM.search(line)
    content = line[: found.start()] + b"}" if found else line
    if found and _sealed(content, before) != line:
        raise ValueError("is not as it was written")
    try:
        return untrusted.decode(content, type=Entry), found is not None
    except msgspec.DecodeError as error:
        raise ValueError("cannot be read") from error


def _damaged(path: Path, guest: str, why: str) -> DecisionError:
    return DecisionError(
        f"the journal of {guest}'s last migration cannot be relied on: {why} ({path}); whether it moved is not known",
        hint=f"limosa status shows where {guest} is; limosa stop {guest} --force --host HOST ends the copy on a host "
        "where you do not want it (also when there is none), lets the other one go on, and sets the journal aside",
    )


def set_aside(path: Path) -> None:
    """Rename a journal that is damaged, whatever it is: a person has decided. Raises LimosaError."""
    try:
        path.rename(path.with_name(f"{path.name}.damaged-{time.time_ns()}"))
        durable.sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LimosaError(
            f"the damaged journal {path} cannot be renamed: {error.strerror}", hint="rename or remove it yourself"
        ) from error


def remove(path: Path) -> None:
    """Remove a journal, whatever is in its place. Raises OSError."""
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
