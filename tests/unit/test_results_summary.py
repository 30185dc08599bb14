"""The summary is derived from raw data alone, and says what a careful reader should know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limosa.probes.cpu_loop import CpuSamples
from limosa.probes.ticks import Ticks
from limosa.results import store
from limosa.results.cpu_speed import client_time_ns, cpu_speed
from limosa.results.environment import (
    CpuTimes,
    busy_share,
    read_cpu_times,
    read_load_average,
    read_machine,
    steal_share,
)
from limosa.results.format import (
    Check,
    ClientReport,
    Clocks,
    Environment,
    HostEnvironment,
    Migration,
    MigrationSummary,
    Pause,
    ProbeReport,
    Summary,
)
from limosa.results.remarks import _about_migrations, looks_faster
from limosa.results.store import RunDirectory
from limosa.results.summary import summarise
from limosa.results.summary_tables import calibration_table, migrations_table, milliseconds, tables

MS = 1_000_000
EPOCH_NS = 1_795_000_000_000_000_000

HOST = HostEnvironment(
    kind="namespaces", kernel="6.1", cpu_model="x", cpus=2, memory_bytes=1, qemu_path="q", qemu_version="7.2"
)
QUIET = Environment(
    hosts={"host1": HOST},
    accel="kvm",
    accel_reason="booted",
    machine="pc-q35-7.2",
    cpu="host",
    image={},
    load_average_before=0.1,
)


def move(index: int, stop_ms: int, length_ms: int, total_ms: int) -> Migration:
    return Migration(
        index=index,
        guest="g",
        source="host1",
        target="host2",
        outcome="completed",
        started_ns=EPOCH_NS + (stop_ms - total_ms) * MS,
        ended_ns=EPOCH_NS + (stop_ms + length_ms + 50) * MS,
        stop_ns=EPOCH_NS + stop_ms * MS,
        resume_ns=EPOCH_NS + (stop_ms + length_ms) * MS,
        qemu={
            "total-time": total_ms,
            "downtime": length_ms // 3,
            "ram": {"transferred": 100 << 20, "dirty-sync-count": 4},
        },
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Two moves: pauses of 90 and 30 ms at 3 and 6 s; the guest computes half as fast during the first."""
    run = RunDirectory.create(kind="demo", lab="l", guest="g", base=tmp_path)
    run.write(store.ENVIRONMENT, QUIET)
    run.write(store.MIGRATIONS, [move(1, 3000, 90, 900), move(2, 6000, 30, 300)])
    run.write(store.CHECKS, [Check(name="guest-alive", passed=True, detail="it answers")])
    run.write(
        store.CLIENT, ClientReport(time_ns=0, wall_s=9, cpu_s=0.1, wakeups=9, tick=ProbeReport(), service=ProbeReport())
    )
    guest_ms = np.arange(8000)
    lost_ms = np.where(guest_ms >= 3000, 90, 0) + np.where(guest_ms >= 5910, 30, 0)
    rows = [f"{g},{g * MS},{g * MS},{EPOCH_NS + (g + lost) * MS}" for g, lost in zip(guest_ms, lost_ms, strict=True)]
    (run.samples / "ticks.csv").write_text(
        "sequence,guest_monotonic_ns,guest_realtime_ns,received_ns\n" + "\n".join(rows) + "\n"
    )
    turns = [f"{g * MS},{50 * MS},{50 if 2100 <= g < 3000 else 100}" for g in range(0, 8000, 50)]
    (run.samples / "cpu.csv").write_text("guest_monotonic_ns,duration_ns,events\n" + "\n".join(turns) + "\n")
    run.finish("completed")
    return run


def test_clocks_and_speed_come_from_the_samples(run: RunDirectory) -> None:
    summary = summarise(run)
    first, second = summary.migrations
    assert first.clocks.guest_lost_ms == pytest.approx(90) and second.clocks.guest_lost_ms == pytest.approx(30)
    assert first.clocks.tick_gap_ms == pytest.approx(90) and second.clocks.tick_gap_ms == pytest.approx(30)
    assert (first.clocks.qemu_downtime_ms, first.clocks.stop_resume_ms) == (30, 90)
    assert (first.duration_ms, first.command_ms, first.iterations) == (900, 1040, 4)
    assert first.throughput_bytes_per_s == pytest.approx((100 << 20) / 0.9)
    assert first.cpu_before_events_per_s == pytest.approx(2000)
    assert first.cpu_during_events_per_s == pytest.approx(1000, rel=0.1)
    assert second.cpu_during_events_per_s == pytest.approx(2000)


def test_the_single_copy_check_is_made_and_made_again(run: RunDirectory) -> None:
    summary = summarise(run)
    assert [check.name for check in summary.checks] == ["guest-alive", "single-copy"]
    run.write(store.CHECKS, summary.checks)
    assert summarise(run).checks == summary.checks


def test_remarks_of_a_quiet_run(run: RunDirectory) -> None:
    remarks = summarise(run).remarks
    assert any("3.0 times as long" in r for r in remarks)
    assert any("Probes were active (ticks, a TCP service)" in r for r in remarks)
    assert any("leaves out 60 ms that the guest lost" in r for r in remarks)
    assert any("no reading of echo gap, service stall" in r for r in remarks)
    assert not any("TCG" in r or "busy" in r for r in remarks)


def test_a_clock_that_ran_wrong_is_remarked_upon(run: RunDirectory) -> None:
    assert "guest's clock ran" not in " ".join(summarise(run).remarks)
    fast = [f"{g},{4 * g * MS},{4 * g * MS},{EPOCH_NS + g * MS}" for g in range(8000)]
    (run.samples / "ticks.csv").write_text(
        "sequence,guest_monotonic_ns,guest_realtime_ns,received_ns\n" + "\n".join(fast) + "\n"
    )
    assert "clock ran 4.00 times as fast as the client's" in " ".join(summarise(run).remarks)


def test_remarks_of_a_busy_emulated_run(run: RunDirectory) -> None:
    busy = replace(
        QUIET,
        accel="tcg",
        accel_reason="KVM ran no Linux",
        load_average_before=9,
        steal_share=0.2,
        governor="powersave",
    )
    run.write(store.ENVIRONMENT, busy)
    broken = ProbeReport(broken=2, last_error="reset", kernel_drops=7, problem="ticks.csv: No space")
    run.write(store.CLIENT, ClientReport(time_ns=0, wall_s=9, cpu_s=0.1, wakeups=9, service=broken))
    said = " ".join(summarise(run).remarks)
    for words in ("KVM ran no Linux", "load average 9.0", "20%", "powersave", "broke 2 times", "dropped 7", "No space"):
        assert words in said


def test_a_run_without_anything_says_so(tmp_path: Path) -> None:
    run = RunDirectory.create(kind="demo", lab="l", guest="g", base=tmp_path)
    run.mark_incomplete("the client did not start")
    run.finish("failed", "x")
    summary = summarise(run)
    assert summary.migrations == [] and summary.checks == []
    assert any("the client did not start" in r for r in summary.remarks)
    assert tables(summary) == []


def test_tables_have_a_cell_for_every_column(run: RunDirectory) -> None:
    for table in tables(summarise(run)):
        assert all(len(row) == len(table.columns) for row in table.rows)
    table = migrations_table(summarise(run))
    cells = {row[0]: row[1:] for row in table.rows}
    assert table.columns[1:] == ("1: host1 → host2", "2: host1 → host2")
    assert cells["guest lost"] == ("90.0 ms", "30.0 ms") and cells["echo gap"] == ("-", "-")
    assert cells["transferred"][0] == "100 MiB" and cells["CPU during"][1] == "2,000/s (100%)"


def test_calibration_shows_the_median_error_of_each_clock(run: RunDirectory) -> None:
    run.write(
        store.PAUSES,
        [
            Pause(requested_ms=90, stop_ns=EPOCH_NS + 3000 * MS, resume_ns=EPOCH_NS + 3089 * MS),
            Pause(requested_ms=30, stop_ns=EPOCH_NS + 6000 * MS, resume_ns=EPOCH_NS + 6030 * MS),
        ],
    )
    table = calibration_table(summarise(run))
    assert table.columns[:5] == ("pause", "times", "guest lost", "STOP to RESUME", "tick gap")
    assert table.rows[1][:5] == ("90 ms", "1", "90.0 ms", "-1.00 ms", "+0.00 ms")
    assert table.rows[0][3:6] == ("+0.00 ms", "+0.00 ms", "-")


def test_figures_for_people() -> None:
    assert [milliseconds(v) for v in (None, 0.04, 999.96, 12_345)] == ["-", "0.0 ms", "1,000 ms", "12.3 s"]
    assert tables(Summary()) == []


def test_guest_times_are_mapped_across_a_pause() -> None:
    guest = np.array([0, 1, 2, 3]) * 1000 * MS
    ticks = Ticks(np.arange(4), guest, guest, guest + EPOCH_NS + np.array([0, 0, 500, 500]) * MS)
    asked = np.array([-500, 500, 2500, 4000]) * MS
    assert list((client_time_ns(ticks, asked) - EPOCH_NS) // MS) == [-500, 500, 3000, 4500]
    assert cpu_speed(CpuSamples(asked[:0], asked[:0], asked[:0]), ticks, 0, 1 << 62) is None


def test_this_machine_is_read() -> None:
    machine = read_machine()
    assert machine.cpus >= 1 and machine.memory_bytes > 1 << 20 and machine.cpu_model and machine.kernel
    load = read_load_average()
    assert load is not None and load >= 0
    times = read_cpu_times()
    assert times.total > times.idle >= 0


def test_shares_of_cpu_time(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  100 0 50 800 50 0 0 40 7 0\ncpu0 1\n")
    before = read_cpu_times(tmp_path)
    assert before == CpuTimes(total=1040, idle=850, steal=40)
    after = CpuTimes(total=1140, idle=900, steal=50)
    assert steal_share(before, after) == pytest.approx(0.1) and busy_share(before, after) == pytest.approx(0.5)
    assert steal_share(before, before) is None
    assert read_machine(tmp_path, tmp_path).memory_bytes is None, "a machine that tells nothing"
    assert read_load_average(tmp_path) is None


def test_a_guest_that_seems_faster_while_it_moves_is_remarked_upon() -> None:
    row = MigrationSummary(
        index=1,
        source="host1",
        target="host2",
        outcome="completed",
        duration_ms=1.0,
        command_ms=1.0,
        transferred_bytes=1,
        throughput_bytes_per_s=1.0,
        iterations=1,
        clocks=Clocks(),
        cpu_before_events_per_s=1000.0,
        cpu_during_events_per_s=1500.0,
    )
    assert looks_faster(row)
    assert not looks_faster(replace(row, cpu_during_events_per_s=990.0))
    assert not looks_faster(replace(row, cpu_before_events_per_s=None))
    assert len(said := [one for one in _about_migrations([row]) if "CPU loop" in one]) == 1
    assert "during migration 1 than before" in said[0]
    assert "That figure says nothing of the move" in said[0]
    moves = [row, replace(row, index=2), replace(row, index=3, cpu_during_events_per_s=900.0), replace(row, index=4)]
    assert len(said := [one for one in _about_migrations(moves) if "CPU loop" in one]) == 1, "said once for all moves"
    assert "during migrations 1, 2 and 4 than before" in said[0]
