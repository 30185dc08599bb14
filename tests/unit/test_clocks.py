"""The clocks against generated samples of which the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from limosa.probes.exchange import Exchanges
from limosa.probes.ticks import Ticks
from limosa.probes.whole_numbers import Column
from limosa.results.clocks import (
    Window,
    clock_rate,
    echo_gap_ms,
    guest_lost_ms,
    separated,
    service_stall_ms,
    tick_gap_ms,
    usual_hole_ns,
)
from limosa.results.format import Migration
from limosa.results.metrics import LONGEST_WAIT
from limosa.results.observation import observed_moves
from limosa.results.samples import LOST, Samples
from limosa.results.single_copy import check_single_copy, find_copies
from limosa.results.summary import clocks_of

MS = 1_000_000
EPOCH_NS = 1_795_000_000_000_000_000
BOOT_NS = 7_000_000_000
NOTHING = Exchanges(*(np.empty(0, np.int64) for _ in range(3)))


@dataclass(frozen=True)
class Stay:
    """A pause in the made-up world: at *at_ms* of guest time, for *length_ms*, then *deaf_ms* of lost packets."""

    at_ms: float
    length_ms: float
    deaf_ms: float = 0.0


def world(
    stays: list[Stay],
    *,
    seed: int,
    length_ms: int = 6000,
    jitter_ms: float = 0.05,
    drift: float = 0.0,
    loss: float = 0.0,
    doubled: float = 0.0,
    overtaken: float = 0.0,
) -> tuple[Ticks, list[Window]]:
    """Ticks of a guest that was paused as told, and the windows that QMP would have reported."""
    chance = np.random.default_rng(seed)
    sequence = np.arange(length_ms)
    guest_ns = sequence * MS + chance.integers(0, 20_000, length_ms)
    sent_ns = (guest_ns * (1 + drift)).astype(np.int64) + EPOCH_NS
    kept = chance.random(length_ms) >= loss
    windows: list[Window] = []
    for stay in stays:
        at_ns = int(stay.at_ms * MS)
        stop_ns = EPOCH_NS + int(at_ns * (1 + drift)) + sum(w.resume_ns - w.stop_ns for w in windows)
        resume_ns = stop_ns + int(stay.length_ms * MS)
        sent_ns[guest_ns >= at_ns] += resume_ns - stop_ns
        windows.append(Window.of_migration(stop_ns, resume_ns))
        kept &= ~((sent_ns >= resume_ns) & (sent_ns < resume_ns + stay.deaf_ms * MS))
    arrived_ns = sent_ns + 80_000 + chance.exponential(jitter_ms * MS, length_ms).astype(np.int64)
    arrived_ns[chance.random(length_ms) < overtaken] += 3 * MS
    chosen = np.concatenate([np.flatnonzero(kept), np.flatnonzero(kept & (chance.random(length_ms) < doubled))])
    # A doubled datagram's copy comes a little later than the first.
    late_ns = np.concatenate([np.zeros(kept.sum(), np.int64), np.full(len(chosen) - kept.sum(), 200_000)])
    arrived_ns = arrived_ns[chosen] + late_ns
    order = np.argsort(arrived_ns, kind="stable")
    chosen = chosen[order]
    return Ticks(sequence[chosen], guest_ns[chosen] + BOOT_NS, sent_ns[chosen], arrived_ns[order]), separated(windows)


@pytest.mark.parametrize("length_ms", [5, 20, 100, 500])
@pytest.mark.parametrize("seed", range(4))
def test_ticks_read_a_pause(length_ms: float, seed: int) -> None:
    ticks, [window] = world([Stay(3000.3, length_ms)], seed=seed)
    assert tick_gap_ms(ticks, window) == pytest.approx(length_ms, abs=1.0)
    assert guest_lost_ms(ticks, window) == pytest.approx(length_ms, abs=0.1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "trouble",
    [
        {"jitter_ms": 0.5},
        {"drift": 200e-6},
        {"drift": -500e-6},
        {"loss": 0.02},
        {"doubled": 0.05},
        {"overtaken": 0.05},
        {"jitter_ms": 0.3, "drift": 100e-6, "loss": 0.01, "doubled": 0.01, "overtaken": 0.01},
    ],
    ids=str,
)
def test_trouble_on_the_way_does_not_move_the_reference(trouble: dict[str, float], seed: int) -> None:
    ticks, [window] = world([Stay(4500.7, 60)], seed=seed, length_ms=8000, **trouble)
    assert guest_lost_ms(ticks, window) == pytest.approx(60, abs=0.35)
    assert tick_gap_ms(ticks, window) == pytest.approx(60, abs=6)


def test_drift_would_be_seen_if_it_were_not_removed() -> None:
    ticks, [window] = world([Stay(400, 60)], seed=1, drift=900e-6, length_ms=3000)
    assert guest_lost_ms(ticks, window) != pytest.approx(60, abs=0.35), "0.4 s cannot tell the drift"


@pytest.mark.parametrize("drift", [0.5, -0.6, 0.02])
def test_a_clock_that_runs_wrong_tells_nothing(drift: float) -> None:
    ticks, [window] = world([Stay(4500.7, 60)], seed=2, drift=drift, length_ms=8000)
    assert guest_lost_ms(ticks, window) is None
    assert clock_rate(ticks) == pytest.approx(1 / (1 + drift), rel=1e-3)


def test_a_right_clock_has_the_rate_one_in_spite_of_pauses_and_jitter() -> None:
    ticks, _ = world([Stay(2000, 400), Stay(3000, 300)], seed=3, jitter_ms=2, drift=200e-6, overtaken=0.05)
    assert clock_rate(ticks) == pytest.approx(1, abs=0.01)


def test_packets_lost_after_the_move_count_for_the_client_not_for_the_guest() -> None:
    ticks, [window] = world([Stay(3000, 40, deaf_ms=120)], seed=5)
    assert tick_gap_ms(ticks, window) == pytest.approx(160, abs=1.5)
    assert guest_lost_ms(ticks, window) == pytest.approx(40, abs=0.2)


def test_a_second_hole_soon_after_the_move_counts() -> None:
    ticks, [window] = world([Stay(3000, 40)], seed=5)
    lost = (ticks.received_ns > window.resume_ns + 300 * MS) & (ticks.received_ns < window.resume_ns + 400 * MS)
    holed = Ticks(*(column[~lost] for column in columns(ticks)))
    assert tick_gap_ms(holed, window) == pytest.approx(100, abs=1.5)


def test_two_moves_close_together_are_told_apart() -> None:
    ticks, windows = world([Stay(3000, 30), Stay(3600, 300)], seed=2)
    assert [tick_gap_ms(ticks, w) for w in windows] == pytest.approx([30, 300], abs=1.5)
    assert [guest_lost_ms(ticks, w) for w in windows] == pytest.approx([30, 300], abs=0.3)


def test_without_separation_the_neighbour_would_be_counted() -> None:
    ticks, windows = world([Stay(3000, 30), Stay(3600, 300)], seed=2)
    alone = Window.of_migration(windows[0].stop_ns, windows[0].resume_ns)
    assert tick_gap_ms(ticks, alone) == pytest.approx(300, abs=1.5)


def test_separated_keeps_the_order_given() -> None:
    later, earlier = Window(5_000 * MS, 5_010 * MS), Window(1_000 * MS, 1_010 * MS)
    assert [window.stop_ns for window in separated([later, earlier])] == [later.stop_ns, earlier.stop_ns]
    assert separated([later, earlier])[1].latest_ns < later.stop_ns


def test_no_pause_reads_nothing() -> None:
    ticks, [window] = world([Stay(3000, 0)], seed=3)
    assert tick_gap_ms(ticks, window) == pytest.approx(0, abs=1.0)
    assert guest_lost_ms(ticks, window) == pytest.approx(0, abs=0.1)


def test_too_few_ticks_are_no_reading() -> None:
    ticks, [window] = world([Stay(10, 50)], seed=3, length_ms=400)
    assert guest_lost_ms(ticks, window) is None, "9 ticks before the pause"
    empty = Ticks(*(column[:0] for column in columns(ticks)))
    assert tick_gap_ms(empty, window) is None and guest_lost_ms(empty, window) is None


def test_a_guest_that_never_came_back_has_no_reading() -> None:
    ticks, [window] = world([Stay(3000, 50)], seed=3)
    before = Ticks(*(column[ticks.received_ns < window.stop_ns] for column in columns(ticks)))
    assert tick_gap_ms(before, window) is None and guest_lost_ms(before, window) is None


def test_the_usual_hole_is_the_one_a_random_moment_meets() -> None:
    assert usual_hole_ns(np.full(1000, MS)) == MS
    bursts = np.array(([10_000] * 3 + [4 * MS]) * 100)
    assert usual_hole_ns(bursts) == 4 * MS, "three of four holes are short, nearly all the time is in the fourth"


def columns(ticks: Ticks) -> tuple[Column, ...]:
    return ticks.sequence, ticks.guest_monotonic_ns, ticks.guest_realtime_ns, ticks.received_ns


def exchanges(answers: list[tuple[float, float | None]]) -> Exchanges:
    """From (sent, answered) in ms after the epoch."""
    sent = [EPOCH_NS + int(s * MS) for s, _ in answers]
    received = [LOST if r is None else EPOCH_NS + int(r * MS) for _, r in answers]
    return Exchanges(np.arange(len(sent)), np.array(sent), np.array(received))


def at(stop_ms: float, resume_ms: float) -> Window:
    return Window.of_pause(EPOCH_NS + int(stop_ms * MS), EPOCH_NS + int(resume_ms * MS))


@pytest.mark.parametrize("held", [True, False], ids=["held", "lost"])
@pytest.mark.parametrize("phase_ms", range(0, 50, 7))
def test_echoes_read_a_pause_to_one_interval(held: bool, phase_ms: int) -> None:
    """Requests during the pause are answered after it (held in a queue) or never."""
    window = at(1000 + phase_ms, 1230 + phase_ms)
    answers: list[tuple[float, float | None]] = []
    for sent in range(0, 3000, 50):
        paused = 1000 + phase_ms <= sent < 1230 + phase_ms
        answers.append((sent, (1230 + phase_ms + 0.5 if held else None) if paused else sent + 0.5))
    error_ms = (echo_gap_ms(exchanges(answers), window) or 0) - 230
    assert -50.5 <= error_ms <= 50.5
    assert not held or error_ms <= 1, "held requests are answered at once, so the reading is never too long"


def test_service_stall_is_the_longest_wait_less_the_usual() -> None:
    answers: list[tuple[float, float | None]] = [(s, s + 0.4) for s in range(0, 1000, 50)]
    answers += [(1000, 1310.4)] + [(s, s + 0.4) for s in range(1350, 2000, 50)]
    assert service_stall_ms(exchanges(answers), at(1001, 1200)) == pytest.approx(310)
    assert service_stall_ms(exchanges(answers), at(1560, 1570)) == 0, "between two requests"


def test_a_request_lost_with_its_connection_waits_for_the_next_answer() -> None:
    answers: list[tuple[float, float | None]] = [(s, s + 0.4) for s in range(0, 1000, 50)]
    answers += [(1000, None), (1700, None), (1900, 1900.4), (1950, 1950.4)]
    assert service_stall_ms(exchanges(answers), at(1001, 1200)) == pytest.approx(900)
    assert service_stall_ms(exchanges(answers[:-2]), at(1001, 1200)) is None, "never answered again"


def migration(index: int, stop_ns: int | None, resume_ns: int | None, started_ns: int, ended_ns: int) -> Migration:
    return Migration(
        index=index,
        guest="g",
        source="host1",
        target="host2",
        outcome="completed" if stop_ns else "failed",
        started_ns=started_ns,
        ended_ns=ended_ns,
        stop_ns=stop_ns,
        resume_ns=resume_ns,
        qemu={"downtime": 12},
    )


def test_all_clocks_of_a_run() -> None:
    ticks, windows = world([Stay(3000, 30), Stay(5000, 80)], seed=7)
    moves = [
        migration(n, w.stop_ns, w.resume_ns, w.stop_ns - 500 * MS, w.resume_ns + 20 * MS)
        for n, w in enumerate(windows, 1)
    ]
    first, second = (clocks_of(observed) for observed in observed_moves(moves, Samples(ticks=ticks)))
    assert (first.qemu_downtime_ms, first.stop_resume_ms, second.stop_resume_ms) == (12, 30, 80)
    assert second.guest_lost_ms == pytest.approx(80, abs=0.2)
    assert (first.echo_gap_ms, first.service_stall_ms) == (None, None)


def test_a_failed_migration_shows_what_clients_saw_and_no_pause() -> None:
    ticks, _ = world([], seed=7)
    failed = migration(1, None, None, EPOCH_NS + 3000 * MS, EPOCH_NS + 3400 * MS)
    [read] = (clocks_of(observed) for observed in observed_moves([failed], Samples(ticks=ticks)))
    assert (read.stop_resume_ms, read.guest_lost_ms) == (None, None)
    assert read.tick_gap_ms == pytest.approx(0, abs=1)


def test_the_longest_wait_is_looked_for_in_the_whole_migration() -> None:
    """Held up for 900 ms when sending begins, then 60 ms of blackout 2 s later."""
    ticks, [_, blackout] = world([Stay(2500, 900), Stay(4500, 60)], seed=3)
    moved = migration(1, blackout.stop_ns, blackout.resume_ns, EPOCH_NS + 2400 * MS, EPOCH_NS + 5600 * MS)

    def longest_wait_ms(move: Migration, ticks: Ticks) -> float | None:
        return LONGEST_WAIT.derive(observed_moves([move], Samples(ticks=ticks))[0])

    assert tick_gap_ms(ticks, blackout) == pytest.approx(60, abs=1)
    assert longest_wait_ms(moved, ticks) == pytest.approx(900, abs=1)
    later = migration(1, blackout.stop_ns, blackout.resume_ns, EPOCH_NS + 4000 * MS, EPOCH_NS + 5600 * MS)
    assert longest_wait_ms(later, ticks) == pytest.approx(60, abs=1)
    assert longest_wait_ms(moved, world([], seed=3, length_ms=0)[0]) is None


def joined(one: Ticks, other: Ticks) -> Ticks:
    both = [np.concatenate(pair) for pair in zip(columns(one), columns(other), strict=True)]
    order = np.argsort(both[3], kind="stable")
    return Ticks(*(column[order] for column in both))


@pytest.mark.parametrize("seed", range(3))
def test_one_guest_on_a_bad_network_is_one_guest(seed: int) -> None:
    ticks, _ = world([Stay(3000, 40, deaf_ms=90)], seed=seed, loss=0.02, doubled=0.05, overtaken=0.05)
    found = find_copies(ticks)
    assert found.single
    assert found.lost > 90 and found.doubled > 100 and found.overtaken > 50


def test_a_source_that_ran_on_is_found() -> None:
    moved, _ = world([Stay(3000, 40)], seed=1)
    stayed, _ = world([], seed=2)
    ran_on = Ticks(*(column[(stayed.sequence >= 3000) & (stayed.sequence < 3050)] for column in columns(stayed)))
    found = find_copies(joined(moved, ran_on))
    assert found.conflicts == 50 and not found.single
    check = check_single_copy(joined(moved, ran_on))
    assert check is not None and not check.passed and "50 tick numbers" in check.detail


def test_an_old_state_that_woke_up_is_found() -> None:
    ticks, _ = world([], seed=1)
    old = Ticks(ticks.sequence[:1], ticks.guest_monotonic_ns[:1], ticks.guest_realtime_ns[:1], ticks.received_ns[-1:])
    assert find_copies(joined(ticks, old)).rewinds == 1


def test_a_restarted_sender_is_found() -> None:
    ticks, _ = world([], seed=1)
    again = Ticks(ticks.sequence[:50], *(column[-50:] + 60 * MS for column in columns(ticks)[1:]))
    assert not find_copies(joined(ticks, again)).single
