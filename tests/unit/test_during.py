"""What is said of a measure that went through a migration, on series whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limosa.bench.during import parse
from limosa.bench.during.course import Moments, Series, course, joined, recovered_ms, series, silence_ms, steady
from limosa.bench.during.parts import IPERF_COLUMNS, SYSBENCH_COLUMNS
from limosa.errors import LimosaError

S = 1_000_000_000
STEP = S // 10
WINDOW = S
MOMENTS = Moments(begin_ns=0, start_ns=20 * S, stop_ns=24 * S, resume_ns=24 * S + STEP, end_ns=25 * S, finish_ns=55 * S)


def speed(level, until_s: float = 55.0, *, more_is_better: bool = True) -> Series:  # noqa: ANN001
    """Samples of 0.1 s whose value is ``level`` of the second in which they begin."""
    return series(
        [(i * STEP, (i + 1) * STEP, float(level(i / 10))) for i in range(round(until_s * 10))],
        more_is_better=more_is_better,
    )


def known(second: float) -> float:
    """100 before, 60 during (0 in the blackout), 80 for 4 s after, then 100 again."""
    if 24 <= second < 24.1:
        return 0.0
    return 100.0 if second < 20 else 60.0 if second < 25 else 80.0 if second < 29 else 100.0


def test_levels_and_ratio() -> None:
    found = course(speed(known), MOMENTS, WINDOW)
    assert found.before and found.during and found.during_ratio
    assert (found.before.value, found.before.count) == (100.0, 200)
    assert (found.during.value, found.during.count) == (60.0, 49), "the sample in the blackout is not a speed"
    assert (found.during_ratio.value, found.during_ratio.low, found.during_ratio.high) == (0.6, 0.6, 0.6)
    assert found.steady


def test_recovery_is_when_it_stays() -> None:
    found = course(speed(known), MOMENTS, WINDOW)
    # The first window whose median is 100 begins when half of it lies behind the 29th second.
    assert found.recovered_ms == pytest.approx(3500, abs=100)


def test_at_once() -> None:
    assert course(speed(lambda s: 100), MOMENTS, WINDOW).recovered_ms == 0.0


def test_a_relapse_counts() -> None:
    found = course(speed(lambda s: 50 if 40 <= s < 42 else 100), MOMENTS, WINDOW)
    assert found.recovered_ms == pytest.approx(16_500, abs=100)


def test_never_back() -> None:
    found = course(speed(lambda s: 100 if s < 20 else 94), MOMENTS, WINDOW)
    assert found.recovered_ms is None
    assert found.after and found.after.value == 94
    assert course(speed(lambda s: 100 if s < 20 else 95), MOMENTS, WINDOW).recovered_ms == 0.0, "95 % is back"


def test_less_is_better() -> None:
    found = course(speed(lambda s: 1.0 if s < 20 or s >= 30 else 2.0, more_is_better=False), MOMENTS, WINDOW)
    assert found.during_ratio and found.during_ratio.value == 2.0
    assert found.recovered_ms == pytest.approx(4500, abs=100)


def test_an_unsteady_level_before_is_said() -> None:
    assert not course(speed(lambda s: 100 if int(s) % 4 < 2 else 80), MOMENTS, WINDOW).steady
    assert not steady(series([]), WINDOW)


def test_a_hole_without_samples_is_not_recovery() -> None:
    whole = speed(lambda s: 100)
    after = whole.inside(25 * S, 55 * S).outside(35 * S, 38 * S)
    found = recovered_ms(whole.inside(0, 20 * S), after, 25 * S, WINDOW)
    assert found is not None and found >= 9000


def test_no_samples() -> None:
    found = course(series([]), MOMENTS, WINDOW)
    assert (found.before, found.during, found.after, found.recovered_ms, found.steady) == (None,) * 4 + (False,)


def test_silence() -> None:
    quiet = speed(lambda s: 0 if 24 <= s < 24.7 or 2 <= s < 9 else 5)
    assert silence_ms(quiet, 24 * S, 26 * S) == pytest.approx(700)
    assert silence_ms(speed(lambda s: 5), 24 * S, 26 * S) == 0


def test_joined_keeps_the_sum() -> None:
    raw = speed(lambda s: 200 if int(s * 10) % 2 else 0, until_s=3)
    half = joined(raw, S // 2)
    assert len(half) == 6
    assert np.sum(half.value * (half.end_ns - half.begin_ns)) == pytest.approx(np.sum(raw.value) * STEP)


def test_lines_of_the_programs() -> None:
    assert parse.sysbench_line("[ 3s ] thds: 1 eps: 943.21 lat (ms,95%): 1.10") == (3, 943.21)
    assert parse.sysbench_line("    events per second:   950.11") is None
    line = "[  5]  59.80-59.90  sec  17.5 MBytes  1467522 Kbits/sec    0   1.93 MBytes"
    assert parse.iperf_line(line) == (59.8, 59.9, 1467522.0)
    assert parse.iperf_line("[  5]   0.00-9.99   sec  1.75 GBytes  1500000 Kbits/sec   0   sender") is None
    assert parse.iperf_line("[  5]   9.99-9.99   sec  0.00 Bytes  0.00 Kbits/sec") is None


def test_tables_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "iperf.csv"
    path.write_text(",".join(IPERF_COLUMNS) + f"\n{2 * S},0.0,0.1,1000.0\n{3 * S},0.1,0.2")
    found = parse.read_iperf(path)
    assert (found.value.tolist(), found.begin_ns.tolist()) == ([1e6], [2 * S - STEP]), "the torn line is left out"
    path.write_text("something,else\n")
    with pytest.raises(LimosaError, match="first line"):
        parse.read_iperf(path)
    assert len(parse.read_sysbench(tmp_path / "absent.csv")) == 0
    path.write_text(",".join(SYSBENCH_COLUMNS) + f"\n{2 * S},1\n")
    with pytest.raises(LimosaError, match="2 cells"):
        parse.read_sysbench(path)
