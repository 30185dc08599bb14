"""Whether somebody holds a lock: what it says of a file that is held, that is let go, and that is not there."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from limosa import locks


def test_a_lock_is_held_until_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as file:
        assert not locks.is_held(path)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert locks.is_held(path)
    assert not locks.is_held(path)


def test_who_looks_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with path.open("r+") as looking, path.open("r+") as taking:
        assert not locks.is_taken(looking.fileno())
        fcntl.flock(taking, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert locks.is_taken(looking.fileno())


def test_of_a_file_that_is_not_there_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        locks.is_held(tmp_path / "lock")
