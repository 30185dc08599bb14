"""A damaged journal: only its last line can be cut short; whatever else cannot be relied on, a person decides."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from limosa import durable
from limosa.errors import DecisionError
from limosa.migration import journal as migration
from limosa.migration.journal import Journal, set_aside, unfinished
from limosa.migration.phases import Phase

HOSTS = ("host1", "host2")
STEPS = (Phase.STARTING_TARGET, Phase.PREPARING, Phase.MOVING, Phase.SWITCHED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The journal of a move that was killed when everything was sent."""
    return written(tmp_path / "guests" / "web" / "migration.jsonl", *STEPS)


def written(path: Path, *phases: Phase, guest: str = "web", target: str = "host2") -> Path:
    made = Journal(path, guest, "host1", target)
    made.begin()
    for phase in phases:
        made.write(phase)
    return path


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True)))), None)[1]


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def linked_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a byte": lines(lambda all: [all[0].replace(b"host1", b"hosT1"), *all[1:]]),
    "the phase": lines(lambda all: [*all[:-1], all[-1].replace(b"switched", b"preparing")]),
    "a line that is nonsense": lines(lambda all: [*all[:2], b"\xff\xfe\0\r\n", *all[2:]]),
    "a line that is empty": lines(lambda all: [*all[:1], b"\n", *all[1:]]),
    "the last line, which is whole": lines(lambda all: [*all[:-1], all[-1][:30] + b"\n"]),
    "a line that is missing": lines(lambda all: [*all[:1], *all[2:]]),
    "the first line is missing": lines(lambda all: all[1:]),
    "a line twice": lines(lambda all: [*all, all[-1]]),
    "a line of an older version at the end": lines(lambda all: [*all, all[1][:-19] + b"}\n"]),
    "zeros in the middle": lines(lambda all: [all[0], bytes(len(all[1]) - 1) + b"\n", *all[2:]]),
    "no end": lines(lambda all: all * 3000),
    "a directory": directory,
    "a link to itself": linked_to_itself,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_for_a_person(path: Path, kind: str) -> None:
    DAMAGE[kind](path)
    with pytest.raises(DecisionError, match="journal of web's last migration cannot be relied on") as caught:
        unfinished(path, "web", HOSTS)
    assert caught.value.exit_code == 7 and str(path) in caught.value.message and len(caught.value.message) < 400
    assert "limosa stop web --force --host HOST" in caught.value.hint
    set_aside(path)
    assert unfinished(path, "web", HOSTS) is None
    assert len(list(path.parent.iterdir())) == 1  # it is kept for whoever wants to know


@pytest.mark.parametrize("kept", range(0, 150, 7))
def test_only_the_last_line_is_cut_short(path: Path, kept: int) -> None:
    *whole, last = path.read_bytes().splitlines(keepends=True)
    os.truncate(path, sum(map(len, whole)) + min(kept, len(last) - 2))
    found = unfinished(path, "web", HOSTS)
    assert found is not None and found.phase is Phase.MOVING
    Journal(path, "web", "host1", "host2").close(Phase.CANCELLED)
    assert [entry.phase for entry in migration.read(path)] == [*STEPS[:-1], Phase.CANCELLED]


def test_another_guests_journal(path: Path) -> None:
    written(path, *STEPS, Phase.COMPLETED, guest="db")
    with pytest.raises(DecisionError, match="it is of guest db"):
        unfinished(path, "web", HOSTS)


def test_hosts_that_the_lab_does_not_have(path: Path) -> None:
    written(path, *STEPS, target="host9")
    with pytest.raises(DecisionError, match="the lab has no host host9"):
        unfinished(path, "web", HOSTS)
    written(path, *STEPS, Phase.COMPLETED, target="host9")
    assert unfinished(path, "web", HOSTS) is None  # that is over; the host may have left the lab file since


def test_journal_of_an_older_version(path: Path) -> None:
    """Its lines have no checksum. It is read, and closed by this version."""
    line = '{"phase":"%s","time_ns":1,"guest":"web","source":"host1","target":"host2","detail":""}\n'
    path.write_text(line % "starting-target" + line % "moving")
    found = unfinished(path, "web", HOSTS)
    assert found is not None and found.phase is Phase.MOVING
    Journal(path, "web", "host1", "host2").close(Phase.CANCELLED)
    assert unfinished(path, "web", HOSTS) is None and len(migration.read(path)) == 3


def test_the_stream_is_told_from_the_move_on(path: Path) -> None:
    made = Journal(path, "web", "host1", "host2")
    made.begin()
    made.write(Phase.PREPARING)
    made.stream = "tcp:10.0.0.2:4444"
    made.write(Phase.MOVING)
    made.write(Phase.RESCUING, "the link is silent")
    assert [entry.stream for entry in migration.read(path)] == ["", "tcp:10.0.0.2:4444", "tcp:10.0.0.2:4444"]


def test_new_journal_is_on_the_disk_with_its_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut would take is what no folder was synced for: the file's own, and that of a new folder."""
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", lambda folder: synced.append(Path(folder)))
    path = tmp_path / "web" / "migration.jsonl"
    made = Journal(path, "web", "host1", "host2")
    made.begin()
    assert synced == [tmp_path]
    made.write(Phase.STARTING_TARGET)
    assert synced == [tmp_path, path.parent]
    made.write(Phase.PREPARING)
    assert synced == [tmp_path, path.parent]
