"""What is written of a migration for others, and what they read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from limosa.events import Event, Events, MigrationPhaseChanged, MigrationProgressed, Note, QmpExchanged
from limosa.migration import diary


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "diary.jsonl"


def look(elapsed_s: float, guest: str = "db", status: str = "active") -> MigrationProgressed:
    return MigrationProgressed(guest=guest, status=status, elapsed_ms=elapsed_s * 1000)


def phase(name: str) -> MigrationPhaseChanged:
    return MigrationPhaseChanged(guest="db", source="host1", target="host2", phase=name)


def write(path: Path, *events: Event, anew: bool = True) -> None:
    told = Events()
    with diary.written(told, path, "db", anew=anew):
        for event in events:
            told.emit(event)


async def read(path: Path) -> list[Event]:
    return [event async for event in diary.follow(path, lambda: False)]


async def test_it_has_what_is_done_and_seen_of_this_guest(path: Path) -> None:
    done = [
        phase("moving"),
        QmpExchanged(guest="db", host="host1", command="migrate"),
        QmpExchanged(guest="db", host="host1", qmp_event="STOP"),
        Note(text="it does not converge"),
        look(1),
    ]
    others = [
        look(1, guest="web"),
        Note(text="of another", guest="web"),
        QmpExchanged(guest="db", host="host1", command="query-migrate"),
        QmpExchanged(guest="db", host="host1", command="object-add", arguments={"dir": "keys"}),
    ]
    write(path, *done, *others)
    assert await read(path) == done
    assert path.stat().st_mode & 0o777 == 0o600


async def test_one_that_never_ends_fills_no_disk(path: Path) -> None:
    """Looks every 20 ms for an hour; what is told of it is at no time older than a five-hundredth of the time."""
    write(path, *(look(tick / 50) for tick in range(50 * 3600)))
    seen = [event.elapsed_ms / 1000 for event in await read(path) if isinstance(event, MigrationProgressed)]
    assert len(seen) < 2800
    assert all(after - before <= max(0.12, after / 500 + 0.02) for before, after in pairwise(seen))


async def test_a_status_that_is_new_is_never_left_out(path: Path) -> None:
    write(path, look(100.0), look(100.01), look(100.02, status="device"), look(100.03, status="completed"))
    assert [e.status for e in await read(path) if isinstance(e, MigrationProgressed)] == [
        "active", "device", "completed",
    ]  # fmt: skip


def test_the_last_look_is_of_this_migration(path: Path) -> None:
    assert diary.last_look(path, 0) is None
    last = look(2.0)
    write(path, *(Note(text="x" * 100) for _ in range(1000)), look(1.0), last, phase("switched"))
    assert diary.last_look(path, last.time_ns) == last
    assert diary.last_look(path, last.time_ns + 1) is None
    path.write_bytes(path.read_bytes() + b'{"event": "migration-pro')  # cut short
    assert diary.last_look(path, 0) == last


async def test_who_goes_on_with_a_migration_goes_on_with_its_trace(path: Path) -> None:
    write(path, phase("post-copy"))
    write(path, phase("recovering"), anew=False)
    assert [event.phase for event in await read(path) if isinstance(event, MigrationPhaseChanged)] == [
        "post-copy", "recovering",
    ]  # fmt: skip
    write(path, phase("moving"))
    assert len(await read(path)) == 1


async def test_a_reader_sees_it_grow_until_it_is_over(path: Path) -> None:
    told, seen = Events(), list[Event]()
    with diary.written(told, path, "db", anew=True):
        told.emit(phase("moving"))
        async for event in diary.follow(path, lambda: True):
            if not seen:
                told.emit(phase("completed"))
                told.emit(Note(text="what comes later"))
            seen.append(event)
    assert [event.phase for event in seen if isinstance(event, MigrationPhaseChanged)] == ["moving", "completed"]
    assert len(seen) == 2


def test_a_disk_that_takes_nothing_does_not_matter(path: Path) -> None:
    write(path.parent / "not there" / "diary.jsonl", phase("moving"))
    assert diary.last_look(path.parent, 0) is None
