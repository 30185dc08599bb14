"""The journal: what is on disk after a crash, with a full disk, and what a later command reads from it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from limosa.errors import LimosaError
from limosa.migration import journal as migration
from limosa.migration.journal import Entry, Journal, unfinished
from limosa.migration.phases import AFTER_SWITCH, FINAL, Phase


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "guests" / "web" / "migration.jsonl", "web", "host1", "host2")
    made.begin()
    return made


def read(journal: Journal) -> list[Entry]:
    return migration.read(journal.path)


def test_what_was_written_is_read(journal: Journal) -> None:
    heard: list[Entry] = []
    journal.on_entry = lambda entry: heard.append(entry if entry == read(journal)[-1] else pytest.fail("not on disk"))
    for phase in (Phase.STARTING_TARGET, Phase.MOVING, Phase.COMPLETED):
        journal.write(phase, "detail of " + phase)
    assert read(journal) == journal.entries == heard
    first = heard[0]
    assert (first.guest, first.source, first.target, first.detail) == (
        "web",
        "host1",
        "host2",
        "detail of starting-target",
    )


@pytest.mark.parametrize("phase", list(Phase))
def test_unfinished(journal: Journal, phase: Phase) -> None:
    assert unfinished(journal.path, "web") is None
    journal.write(Phase.STARTING_TARGET)
    journal.write(phase)
    found = unfinished(journal.path, "web")
    assert (found is None) == (phase in FINAL)
    assert found is None or found.phase is phase
    sent = phase in AFTER_SWITCH
    assert found is None or found.guest_host == ("host2" if sent else "host1")


def test_begin_drops_the_last_migration(journal: Journal) -> None:
    journal.write(Phase.MOVING)
    journal.begin()
    assert unfinished(journal.path, "web") is None


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_last_line_cut_short(journal: Journal, cut: int) -> None:
    """A crash in the middle of a line: its step had not begun, and later lines are whole all the same."""
    journal.write(Phase.PREPARING)
    whole = journal.path.stat().st_size
    journal.write(Phase.MOVING)
    end = whole + cut if cut > 0 else journal.path.stat().st_size + cut
    os.truncate(journal.path, end)
    found = unfinished(journal.path, "web")
    # Without its last byte the line says all the same what was about to happen, and that is taken as said.
    assert found is not None and found.phase is (Phase.PREPARING if cut > 0 else Phase.MOVING)
    Journal(journal.path, "web", "host1", "host2").close(Phase.CANCELLED)
    assert unfinished(journal.path, "web") is None
    assert [entry.phase for entry in read(journal)] == [Phase.PREPARING, Phase.CANCELLED]


@pytest.mark.parametrize("room", [0, 30])
def test_full_disk(journal: Journal, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    journal.write(Phase.MOVING)
    before, real = journal.path.read_bytes(), os.pwrite

    def full(descriptor: int, data: Any, offset: int) -> int:
        left = len(before) + room - offset
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, bytes(data)[:left], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(LimosaError, match="journal cannot be written: No space left on device") as caught:
        journal.write(Phase.SWITCHED)
    assert str(journal.path) in caught.value.hint
    assert journal.path.read_bytes() == before and journal.entries[-1].phase is Phase.MOVING
    journal.close(Phase.COMPLETED)  # does not raise: the guest has moved, whatever the disk says
    assert journal.entries[-1].phase is Phase.COMPLETED
    monkeypatch.undo()
    found = unfinished(journal.path, "web")
    assert found is not None and found.phase is Phase.MOVING  # so the next command looks


def test_directory_that_takes_no_file(tmp_path: Path) -> None:
    (tmp_path / "web").write_text("a file where a directory should be")
    with pytest.raises(LimosaError, match="journal cannot be written"):
        Journal(tmp_path / "web" / "migration.jsonl", "web", "host1", "host2").begin()


def test_no_journal(tmp_path: Path) -> None:
    assert unfinished(tmp_path / "none.jsonl", "web") is None
