"""Figures from looks at query-migrate, with a clock of the test's own."""

from __future__ import annotations

import itertools

import pytest

from limosa.cli.live import LiveFace
from limosa.cli.progress import progress_line
from limosa.events import MigrationProgressed, StageStarted
from limosa.migration.progress import Progress, expected_end_s
from limosa.qemu.monitor import MigrateInfo, Ram

MIB = 1 << 20


def info(transferred: int, remaining: int = 0, dirty_pages: int = 0, passes: int = 1) -> MigrateInfo:
    ram = Ram(
        total=1000 * MIB,
        transferred=transferred,
        remaining=remaining,
        dirty_pages_rate=dirty_pages,
        dirty_sync_count=passes,
    )
    return MigrateInfo(status="active", ram=ram)


def test_what_qemu_has_not_said_is_not_zero() -> None:
    """While it connects QEMU has no figures at all; the dirty rate is not known before it has been measured once."""
    progress = Progress("web", started_s=100.0)
    said = progress.look(MigrateInfo(status="setup"), 100.0)
    assert said.total_bytes is said.remaining_bytes is said.transferred_bytes is None
    assert said.dirty_rate_bytes_per_s is said.throughput_bytes_per_s is said.iteration is None
    assert progress_line(said) == "setup: QEMU has no figures yet"
    first = progress.look(info(0, 900 * MIB), 100.1)
    assert first.remaining_bytes == 900 * MIB and first.dirty_rate_bytes_per_s is first.throughput_bytes_per_s is None
    assert progress_line(first) == "900 MiB of 1000 MiB remain, iteration 1"


def test_rates() -> None:
    progress = Progress("web", started_s=100.0)
    progress.look(info(0, 900 * MIB), 100.0)
    second = progress.look(info(40 * MIB, 820 * MIB, dirty_pages=256), 100.2)
    assert second.throughput_bytes_per_s == pytest.approx(200 * MIB)
    assert second.settled_bytes_per_s == pytest.approx(400 * MIB)
    assert second.elapsed_ms == pytest.approx(200)
    assert second.dirty_rate_bytes_per_s == MIB
    assert second.expected_end_s == pytest.approx(820 / 399)
    assert progress_line(second) == "820 MiB of 1000 MiB remain, 200 MiB/s, dirty 1 MiB/s, iteration 1, end in 2.055 s"


def test_a_dirty_rate_of_nothing_is_a_reading_once_qemu_had_time_to_measure_it() -> None:
    """It measures over more than a second; a pass that ends before leaves its 0 as it was."""
    progress = Progress("web", started_s=0.0)
    progress.look(info(0, 900 * MIB), 0.0)
    assert progress.look(info(MIB, 9 * MIB, passes=2), 0.9).dirty_rate_bytes_per_s is None
    progress.look(info(2 * MIB, 8 * MIB, passes=2), 1.5)
    assert progress.look(info(3 * MIB, 7 * MIB, passes=3), 1.6).dirty_rate_bytes_per_s == 0
    done = progress.look(MigrateInfo(status="completed", ram=Ram(total=1000 * MIB, dirty_sync_count=3)), 1.7)
    assert done.dirty_rate_bytes_per_s is None and done.remaining_bytes == 0


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.875])
def test_first_pass_ends_when_it_is_said_to(zeros: float) -> None:
    """Pages of zeros pass without bytes on the wire: by throughput alone the end would be up to 8 times too far away."""
    wire, total = 100 * MIB, 800 * MIB
    took_s = total * (1 - zeros) / wire
    progress = Progress("web", started_s=0.0)
    for now in itertools.takewhile(lambda now: now < took_s, itertools.count(0.0, 0.02)):
        said = progress.look(info(round(wire * now), round(total * (1 - now / took_s))), now)
        if said.pass_end_s is not None:
            assert now + said.pass_end_s == pytest.approx(took_s, rel=0.02)


def test_no_end_at_these_rates_is_said_of_rates_that_were_measured() -> None:
    progress = Progress("web", started_s=0.0)
    progress.look(info(0, 900 * MIB), 0.0)
    said = progress.look(info(10 * MIB, 890 * MIB, dirty_pages=25_600, passes=1), 0.2)
    assert progress_line(said).endswith("dirty 100 MiB/s, iteration 1, no end at these rates")


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
    ("looks", "hint"),
    [
        ([], "QEMU had not begun to send memory; over a link that works, a longer --timeout leaves it the time"),
        (
            [(0, 900, 0, 1), (10, 880, 0, 1)],
            "880 MiB of 1000 MiB remained in the first pass over its memory, some 8.8 s more at the speed seen: "
            "give it a longer --timeout",
        ),
        (
            [(0, 100, 0, 2), (10, 90, 25_600, 2)],
            "90 MiB of 1000 MiB remained, and the guest wrote to 100 MiB/s of memory while 50 MiB/s went over: let it "
            "write less, give it a faster link or a larger --downtime-limit",
        ),
    ],
)
def test_hint_when_time_is_up_blames_what_was_seen(looks: list[tuple[int, int, int, int]], hint: str) -> None:
    progress = Progress("web", started_s=0.0)
    progress.look(MigrateInfo(status="setup"), 0.0)
    for number, (sent, left, dirty, passes) in enumerate(looks):
        progress.look(info(sent * MIB, left * MIB, dirty, passes), 1 + number / 5)
    assert progress.why_unfinished() == hint


@pytest.mark.parametrize(
    ("remaining", "settled", "dirty", "end"),
    [
        (1000, 100, 0, 10),
        (1000, 100, 50, 20),
        (1000, 100, 100, None),
        (1000, 100, 101, None),
        (0, 1, 0, 0),
        (5, 0, 0, None),
        (5, None, 0, None),
        (5, 1, None, None),
    ],
)
def test_expected_end(remaining: int, settled: float | None, dirty: float | None, end: float | None) -> None:
    assert expected_end_s(remaining, settled, dirty) == end


def test_a_terminal_shows_no_bar_of_what_was_not_read() -> None:
    face = LiveFace()
    face(StageStarted(stage="migrate"))
    face(MigrationProgressed(guest="web", status="setup", elapsed_ms=1.0))
    assert face._progress.tasks[0].total is None
    assert "setup: QEMU has no figures yet" in face._progress.tasks[0].fields["detail"]
