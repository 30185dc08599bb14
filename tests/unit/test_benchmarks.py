"""The figures that benchmarks/migrate.py prints follow from its samples."""

from __future__ import annotations

from benchmarks import migrate


def _move(way: str, whole_ms: float, total_ms: float, *, warm_up: bool = False) -> migrate.Move:
    return migrate.Move(way, "host1", "host2", whole_ms, total_ms, 5.0, warm_up)


def test_ratio_is_limosa_to_bare_whatever_came_first() -> None:
    limosa, bare = migrate.WAYS
    found = [_move(limosa, 9000, 100, warm_up=True), _move(bare, 9000, 100, warm_up=True)]
    found += [_move(bare, 300, 100), _move(limosa, 500, 100), _move(limosa, 500, 100), _move(bare, 300, 100)]
    lines = migrate.summary(found).splitlines()
    assert lines[1].split() == [*limosa.split(), "2", "500", "ms", "100", "ms", "400", "ms", "5", "ms"]
    assert lines[2].split() == [*bare.split(), "2", "300", "ms", "100", "ms", "200", "ms", "5", "ms"]
    assert lines[3] == "limosa / bare QMP: whole process 1.67, difference 2.00"


def test_enough_moves_get_an_interval() -> None:
    found = [_move(way, 300, 100) for way in migrate.WAYS for _ in range(8)]
    assert "300 ms [300, 300]" in migrate.summary(found)
