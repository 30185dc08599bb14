"""Figures from looks at query-migrate, with a clock of the test's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest

from limosa.cli.live import LiveFace
from limosa.cli.progress_line import progress_line
from limosa.events import MigrationProgressed, StageStarted
from limosa.migration.progress import Progress
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
    assert second.expected_end_s is None and second.converges is None
    assert progress_line(second) == (
        "820 MiB of 1000 MiB remain, 200 MiB/s, dirty 1 MiB/s, iteration 1, this pass ends in at most 4.1 s"
    )


def test_a_dirty_rate_of_nothing_is_a_reading_once_qemu_had_time_to_measure_it() -> None:
    """It measures over more than a second; a pass that ends before leaves its 0 as it was."""
    progress = Progress("web", started_s=0.0)
    progress.look(info(0, 900 * MIB), 0.0)
    progress.look(info(MIB, 9 * MIB, passes=2), 0.8)
    assert progress.look(info(2 * MIB, 8 * MIB, passes=2), 0.9).dirty_rate_bytes_per_s is None
    progress.look(info(3 * MIB, 7 * MIB, passes=2), 1.5)
    progress.look(info(4 * MIB, 7 * MIB, passes=3), 1.6)
    assert progress.look(info(5 * MIB, 6 * MIB, passes=3), 1.7).dirty_rate_bytes_per_s == 0
    done = progress.look(MigrateInfo(status="completed", ram=Ram(total=1000 * MIB, dirty_sync_count=3)), 1.8)
    assert done.dirty_rate_bytes_per_s is None and done.remaining_bytes == 0


def test_first_pass_ends_no_later_than_it_is_said_to() -> None:
    """As a guest's memory is: data first, then zeros, which take nothing on the wire. Seen: 75 MiB at 10 MiB/s, then
    425 MiB within a second, where the end had been said to be 48 s away all the time."""
    progress = Progress("web", started_s=0.0)
    for now in itertools.takewhile(lambda now: now < 8.5, itertools.count(0.0, 0.02)):
        sent, zeros = min(now, 7.5) * 10 * MIB, max(0.0, now - 7.5) * 425 * MIB
        said = progress.look(info(round(sent), round(500 * MIB - sent - zeros)), now)
        assert said.expected_end_s is None
        assert said.pass_end_at_most_s is None or 8.45 <= now + said.pass_end_at_most_s < 55
    assert "this pass ends in at most" in progress_line(said)


def passes(
    written_bytes: Callable[[float], float], count: int = 6
) -> list[tuple[float, MigrationProgressed, Progress]]:
    """Looks at passes that send 100 MiB/s, from the second on; the first one took 6 s. *written_bytes* is how much
    memory the guest has written to after so many seconds."""
    progress, at_s, left = Progress("web", started_s=0.0), 0.0, written_bytes(6.0)
    progress.look(info(0, 600 * MIB), -6.0)
    found = []
    for number in range(2, 2 + count):
        took_s = left / (100 * MIB)
        for part in (0.01, 0.25, 0.5, 0.75):
            now = at_s + part * took_s
            looked = info(round(now * 100 * MIB), round(left * (1 - part)), 10 * 256, number)
            found.append((now, progress.look(looked, now), progress))
        at_s, left = at_s + took_s, written_bytes(took_s)
    return found


def test_later_passes_end_when_they_are_said_to() -> None:
    """The guest writes a third of what is sent, always elsewhere: 2 s, 0.67 s, 0.22 s, ... are 3 s."""
    looks = passes(lambda seconds: seconds * 100 * MIB / 3)
    told = [(now + said.expected_end_s, said.converges) for now, said, _ in looks if said.expected_end_s is not None]
    # From the third pass on, but for the first look in each, at which it may still be counted.
    assert told == [(pytest.approx(3.0, abs=0.1), True)] * 15


def test_a_guest_that_writes_the_same_pages_again_does_not_converge() -> None:
    """Its working set of 50 MiB is dirty after each pass, however short. QEMU counts a page once in a period, so its
    dirty rate stays below what is sent; seen: "end in 4 s" of a guest that writes 800 MiB/s over 128 MiB."""
    last, progress = passes(lambda seconds: min(50 * MIB, seconds * 800 * MIB))[-1][1:]
    assert last.converges is False and last.expected_end_s is None
    assert progress_line(last).endswith("no end in sight")
    assert "a pass found no less to send than the one before (50 MiB, then 50 MiB)" in progress.why_unfinished()


def test_why_there_is_no_end_is_known_within_three_passes_after_the_first() -> None:
    """With the pause that would be needed for what each pass leaves: 50 MiB at 100 MiB/s; not where it is allowed."""
    for count in (1, 2):
        last, progress = passes(lambda seconds: min(50 * MIB, seconds * 800 * MIB), count)[-1][1:]
        why = progress.why_endless(0.3)
        assert last.iteration == 1 + count and bool(why) == (count == 2)
    assert "49.5 MiB, then 50 MiB" in why and "a pause of some 500 ms would be needed" in why, why
    assert progress.why_endless(0.6) == ""
    # The limit of the bandwidth, which was seen, ends where the guest stands still.
    assert "a pause of some 250 ms" in progress.why_endless(0.2, lambda seen: 2 * seen)
    assert progress.why_endless(0.3, lambda seen: 2 * seen) == ""


def test_a_guest_that_outruns_its_link_slowly_is_told_of_as_soon() -> None:
    """It writes at 1.2 times what goes over, at random in 400 MiB: passes get shorter at first, and none gets below 125
    MiB. No end is expected of it either."""
    working_set = 400 * MIB

    def written(seconds: float) -> float:
        return working_set * -math.expm1(-seconds * 120 * MIB / working_set)

    last, progress = passes(written, 2)[-1][1:]
    assert last.iteration == 3 and last.converges is True and last.expected_end_s is None
    why = progress.why_endless(0.3)
    assert progress._least_bytes() == pytest.approx(125.5 * MIB, rel=0.15)  # as near as the beginnings that were seen
    assert "passes come down to some 1" in why and "a pause of some 1." in why, why
    assert progress.why_endless(1.5) == ""


def test_figures_of_a_pass_that_is_still_being_counted_are_not_taken() -> None:
    """As it was seen: QEMU counts the pass, and for 0.4 s what is dirty; until it sends, its rate is that of before."""
    progress = Progress("web", started_s=0.0)
    for now in (0.0, 1.0, 2.0):
        progress.look(info(round((10 + now * 60) * MIB), round((200 - now * 60) * MIB)), now)
    for now, left in ((2.1, 5), (2.3, 60), (2.5, 120)):
        said = progress.look(info(130 * MIB, left * MIB, passes=2), now)
        assert said.dirty_rate_bytes_per_s is None and said.settled_bytes_per_s == pytest.approx(60 * MIB)
    progress.look(info(131 * MIB, 127 * MIB, dirty_pages=7000, passes=2), 2.6)
    said = progress.look(info(143 * MIB, 115 * MIB, dirty_pages=7000, passes=2), 2.8)
    assert said.dirty_rate_bytes_per_s == 7000 * 4096 and said.settled_bytes_per_s == pytest.approx(60 * MIB)
    assert said.converges is None


def test_no_end_at_these_rates_is_said_of_rates_that_were_measured() -> None:
    progress = Progress("web", started_s=0.0)
    progress.look(info(0, 900 * MIB), 0.0)
    said = progress.look(info(10 * MIB, 890 * MIB, dirty_pages=25_600, passes=1), 0.2)
    assert progress_line(said).endswith("dirty 100 MiB/s, iteration 1, no end in sight")


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
            "880 MiB of 1000 MiB remained in the first pass over its memory, at most 17.6 s more for that at "
            "the speed seen: a longer --timeout shows whether later passes get shorter",
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


def test_a_terminal_shows_no_bar_of_what_was_not_read() -> None:
    face = LiveFace()
    face(StageStarted(stage="migrate"))
    face(MigrationProgressed(guest="web", status="setup", elapsed_ms=1.0))
    assert face._progress.tasks[0].total is None
    assert "setup: QEMU has no figures yet" in face._progress.tasks[0].fields["detail"]
