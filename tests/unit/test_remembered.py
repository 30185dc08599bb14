"""What was found out is kept, and a cache that is of no use costs time only."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from limosa import remembered


class Answer(msgspec.Struct, frozen=True):
    number: int


def test_an_answer_is_found_again_by_its_question(tmp_path: Path) -> None:
    kept = remembered.place("answers", remembered.key("a", "b"), tmp_path / "new")
    remembered.write(kept, Answer(7))
    assert remembered.read(kept, Answer) == Answer(7)
    assert remembered.read(remembered.place("answers", remembered.key("ab"), tmp_path / "new"), Answer) is None


def test_what_cannot_be_read_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"number": "seven"}')
    assert remembered.read(tmp_path / "a.json", Answer) is None


def test_a_cache_that_takes_no_file_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    remembered.write(tmp_path / "file" / "a.json", Answer(7))


def test_what_nobody_asked_for_in_a_long_time_goes(tmp_path: Path) -> None:
    old, kept = tmp_path / "old.json", tmp_path / "kept.json"
    for path in (old, kept):
        remembered.write(path, Answer(1))
    long_ago = time.time() - remembered.KEPT_S - 1
    os.utime(old, (long_ago, long_ago))
    remembered.write(tmp_path / "new.json", Answer(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.json", "new.json"]
