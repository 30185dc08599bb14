"""Figures from looks at query-migrate, with a clock of the test's own."""

from __future__ import annotations

import pytest

from limosa.migration.progress import Progress, expected_end_s
from limosa.qemu.monitor import MigrateInfo, Ram


def info(transferred: int, remaining: int = 0, dirty_pages: int = 0) -> MigrateInfo:
    ram = Ram(
        total=1000, transferred=transferred, remaining=remaining, dirty_pages_rate=dirty_pages, dirty_sync_count=3
    )
    return MigrateInfo(status="active", ram=ram)


def test_rates() -> None:
    progress = Progress("web", started_s=100.0)
    first = progress.look(info(0, 900), 100.0)
    assert first.throughput_bytes_per_s == 0 and first.expected_end_s is None
    second = progress.look(info(200, 700, dirty_pages=1), 100.1)
    assert second.throughput_bytes_per_s == pytest.approx(2000)
    assert second.elapsed_ms == pytest.approx(100)
    assert second.dirty_rate_bytes_per_s == 4096
    assert second.expected_end_s is None  # more is dirtied than sent
    assert (second.total_bytes, second.remaining_bytes, second.transferred_bytes, second.iteration) == (
        1000,
        700,
        200,
        3,
    )


def test_throughput_forgets() -> None:
    """Over half a second: a burst at the beginning is no figure for what goes on now."""
    progress = Progress("web", started_s=0.0)
    progress.look(info(0), 0.0)
    progress.look(info(10_000), 0.1)
    for tick in range(2, 20):
        said = progress.look(info(10_000 + 10 * tick), tick / 10)
    assert said.throughput_bytes_per_s == pytest.approx(100, rel=0.2)


def test_last_change() -> None:
    progress = Progress("web", started_s=0.0)
    progress.look(info(5), 1.0)
    progress.look(info(5), 2.0)
    assert progress.last_change_s == 1.0
    progress.look(info(6), 3.0)
    assert progress.last_change_s == 3.0


@pytest.mark.parametrize(
    ("remaining", "throughput", "dirty", "end"),
    [
        (1000, 100, 0, 10),
        (1000, 100, 50, 20),
        (1000, 100, 100, None),
        (1000, 100, 101, None),
        (0, 1, 0, 0),
        (5, 0, 0, None),
    ],
)
def test_expected_end(remaining: int, throughput: float, dirty: float, end: float | None) -> None:
    assert expected_end_s(remaining, throughput, dirty) == end
