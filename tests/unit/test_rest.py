"""What is read while a guest does not move, and how a rate that was asked for is told beside the one that came."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from limosa.probes.exchange import Exchanges
from limosa.probes.ticks import Ticks
from limosa.results import rest
from limosa.results.clocks import MS, clock_offsets_ms
from limosa.results.format import LoadReading, Migration, MigrationSummary, Rate, Summary
from limosa.results.metrics import BY_KEY
from limosa.results.observation import observed_moves
from limosa.results.remarks import _about_migrations, _about_time_of_day
from limosa.results.samples import Samples
from limosa.results.summary import at_rest
from limosa.results.summary_tables import rates_table, rest_table

S = 1000 * MS
MIB = 1 << 20
BEGIN = 1_795_000_000 * S
NONE = Exchanges(*(np.empty(0, np.int64) for _ in range(3)))


def move(start_s: float, end_s: float, index: int = 1) -> Migration:
    return Migration(
        index=index,
        guest="g",
        source="host1",
        target="host2",
        outcome="completed",
        started_ns=BEGIN + round(start_s * S),
        ended_ns=BEGIN + round(end_s * S),
        stop_ns=BEGIN + round((end_s - 0.1) * S),
        resume_ns=BEGIN + round((end_s - 0.05) * S),
    )


def ticks(length_s: int, hole: tuple[float, float] | None = None, every_ms: int = 1) -> Ticks:
    """One a millisecond, none in *hole*."""
    at = np.arange(0, length_s * S, every_ms * MS, dtype=np.int64)
    if hole is not None:
        at = at[(at <= hole[0] * S) | (at >= hole[1] * S)]
    return Ticks(np.arange(len(at)), at, at + BEGIN, at + BEGIN)


def exchanges(length_s: int, slow_at_s: float = -1.0) -> Exchanges:
    """Each 50 ms, answered after 2 ms; one of them after 180 ms."""
    sent = np.arange(0, length_s * S, 50 * MS, dtype=np.int64) + BEGIN
    took = np.where(np.abs(sent - BEGIN - slow_at_s * S) < 20 * MS, 180 * MS, 2 * MS)
    return Exchanges(np.arange(len(sent)), sent, sent + took)


def seconds(stretches: list[rest.Stretch]) -> list[tuple[float, float]]:
    return [((a - BEGIN) / S, (b - BEGIN) / S) for a, b in stretches]


def test_rest_is_before_between_and_after_the_moves() -> None:
    """A second after each is left out: switches learn the new place. So is the first one, in which probes start."""
    moves = [move(4, 6), move(9, 10, 2)]
    assert seconds(rest.stretches(moves, [], [], ticks(15), NONE, NONE)) == [
        (1, 4),
        (7, 9),
        (11, pytest.approx(15, abs=0.002)),
    ]
    load = [LoadReading(time_ns=BEGIN + 2 * S), LoadReading(time_ns=BEGIN + 13 * S)]
    assert seconds(rest.stretches(moves, [], load, ticks(15), NONE, NONE)) == [(2, 4), (7, 9), (11, 13)]
    assert rest.stretches(moves, [], [], ticks(0), NONE, NONE) == []


def test_silences_at_rest_are_the_floor_of_those_of_a_move() -> None:
    moves = [move(4, 6)]
    samples = (ticks(10, hole=(2.0, 2.12)), NONE, exchanges(10, slow_at_s=8.0))
    found = at_rest(rest.stretches(moves, [], [], *samples), Samples(*samples))
    assert found is not None and found.length_s == pytest.approx(6, abs=0.1)
    assert found.service_stall_ms == found.longest_wait_ms == pytest.approx(178)
    assert found.tick_gap_ms == pytest.approx(119, abs=2) and found.echo_gap_ms is None
    during = (ticks(10, hole=(5.0, 5.5)), NONE, exchanges(10, slow_at_s=5.0))
    quiet = at_rest(rest.stretches(moves, [], [], *during), Samples(*during))
    assert quiet is not None and quiet.longest_wait_ms == quiet.tick_gap_ms == 0
    assert rest_table(Summary(rest=found)).rows == (("in 6.0 s", "178 ms", "178 ms", "-", "119 ms"),)
    assert rest_table(Summary()).rows == ()


def test_a_rate_is_told_as_it_was_asked_for_and_as_it_came() -> None:
    """200 MiB/s were asked for: 154 came at rest, 50 while the guest moved. Asked for nothing, nothing is short."""
    written = [(2, 0), (4, 308), (6, 408), (10, 1024)]
    load = [LoadReading(time_ns=BEGIN + t * S, memory_bytes=b * MIB, disk_writes=20 * t) for t, b in written]
    moves = [move(4, 6)]
    resting = rest.stretches(moves, [], load, ticks(12), NONE, NONE)
    asked = {"write_rate_bytes_per_s": 200 * MIB, "disk_writes_per_s": 20.0}
    probes = {"ticks per s": 1000, "echoes per s": 20.0}
    found = {r.name: r for r in rest.rates(asked, probes, load, moves, resting, ticks(12), exchanges(12))}
    memory = found["memory writes"]
    assert memory.requested == 200 * MIB and memory.at_rest == pytest.approx(154 * MIB)
    assert memory.moving == [pytest.approx(50 * MIB)]
    assert rest.short(memory) and not [name for name in found if name != "memory writes" and rest.short(found[name])]
    assert rest.shortfall(memory) == "Memory writes: 200 MiB/s asked for, 154 MiB/s reached at rest"
    assert found["ticks"].at_rest == pytest.approx(1000, rel=0.01)
    assert found["echoes"].moving == [pytest.approx(20, rel=0.1)]
    row = MigrationSummary(index=1, source="a", target="b", outcome="completed", command_ms=1.0)
    shown = rates_table(Summary(migrations=[row], rates=[memory, replace(memory, requested=None)]))
    assert shown.columns == ("", "requested", "at rest", "migration 1")
    assert [cells[1:] for cells in shown.rows] == [
        ("200 MiB/s", "154 MiB/s", "50 MiB/s"),
        ("as fast as it goes", "154 MiB/s", "50 MiB/s"),
    ]
    assert not rest.short(replace(memory, requested=None)) and not rest.short(replace(memory, at_rest=None))


def test_ticks_that_the_guest_could_not_send_are_said() -> None:
    slow = ticks(12, every_ms=3)
    found = rest.rates({}, {"ticks per s": 1000}, [], [], [(BEGIN + S, BEGIN + 11 * S)], slow, NONE)
    assert rest.shortfall(found[0]) == "Ticks: 1,000/s asked for, 333/s reached at rest"


def _behind_ms(found: Ticks) -> float | None:
    return BY_KEY["clock_behind_ms"].derive(observed_moves([move(4, 6)], Samples(ticks=found))[0])


def test_a_time_of_day_that_falls_behind_is_said_with_its_measure() -> None:
    """By 50 ms over a pause of 50 ms, from 0.2 s behind; a guest that sets itself right is behind by nothing."""
    at = np.arange(0, 10 * S, MS, dtype=np.int64)
    behind = np.where(at > 5950 * MS, 250 * MS, 200 * MS)
    arrived = at + BEGIN + np.where(at > 5900 * MS, 50 * MS, 0)
    steps = Ticks(np.arange(len(at)), at, arrived - behind, arrived)
    assert _behind_ms(steps) == pytest.approx(50, abs=0.5)
    assert clock_offsets_ms(steps) == (200, 250)
    right = Ticks(np.arange(len(at)), at, arrived - 200 * MS, arrived)
    assert _behind_ms(right) == pytest.approx(0, abs=0.5)
    row = MigrationSummary(index=1, source="a", target="b", outcome="completed", command_ms=1.0, clock_behind_ms=50.0)
    assert _about_time_of_day(Summary(migrations=[row], clock_behind_ms=(200.0, 250.0))) == [
        "The guest's time of day fell behind this machine's: by 50 ms in migration 1. It stands still while the guest"
        " does; it was 0.20 s behind when the run began, and 0.25 s when it ended. Limosa does not set it."
    ]
    assert _about_time_of_day(Summary(migrations=[replace(row, clock_behind_ms=0.2)])) == []
    assert _about_time_of_day(Summary(migrations=[replace(row, clock_behind_ms=None)])) == []


def test_a_first_move_is_called_slower_only_when_it_was() -> None:
    def said(first_ms: float) -> str:
        rows = [
            MigrationSummary(index=i, source="a", target="b", outcome="completed", command_ms=1.0, duration_ms=ms)
            for i, ms in ((1, first_ms), (2, 712.0))
        ]
        return " ".join(_about_migrations(rows))

    assert "first move" not in said(600.0) and "first move" not in said(831.0)
    assert "The first move took 3.0 times as long as the others at the median: compare moves 2 and up." in said(2136.0)


def test_a_rate_that_was_not_measured_is_not_zero() -> None:
    assert rest.worded(Rate(name="ticks", unit="/s"), None) == "-"
    once = [LoadReading(time_ns=BEGIN, memory_bytes=0)]
    assert rest.rates_of_work({"write_rate_bytes_per_s": 1}, once, [], [(BEGIN, BEGIN + S)]) == []
    twice = [*once, LoadReading(time_ns=BEGIN + S, memory_bytes=MIB)]
    found = rest.rates_of_work({}, twice, [(BEGIN + 5 * S, BEGIN + 6 * S)], [(BEGIN, BEGIN + S)])
    assert (found[0].at_rest, found[0].moving) == (MIB, [None])
