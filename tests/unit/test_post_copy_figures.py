"""What is told of a move that went over to post-copy, or between two machines: what is not known is absent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from limosa.cli.migrate import _sentences
from limosa.migration.phases import Phase
from limosa.migration.plan import MigrationPlan, Side
from limosa.migration.transfer import Outcome, StampedBy
from limosa.probes.ticks import Ticks
from limosa.qemu.monitor import MigrateInfo
from limosa.results import exposure
from limosa.results.format import Migration
from limosa.results.metrics import BY_KEY
from limosa.results.observation import Observation, observed_moves
from limosa.results.samples import Samples
from limosa.results.summary import clocks_of

S = 1_000_000_000
PHASES = [
    ("starting-target", 10 * S), ("moving", 11 * S), ("starting-post-copy", 12 * S), ("post-copy", 13 * S),
    ("switched", 16 * S), ("ending-source", 17 * S), ("completed", 18 * S),
]  # fmt: skip
PRE_COPY = [phase for phase in PHASES if "post-copy" not in phase[0]]
MOVE = Migration(
    index=1,
    guest="g",
    source="host1",
    target="host2",
    outcome="completed",
    started_ns=10 * S,
    ended_ns=18 * S,
    stop_ns=12 * S,
    resume_ns=14 * S,
    stamped_by="this machine",
    qemu={"downtime": 3, "total-time": 6000},
    qemu_target={"postcopy-blocktime": 188, "postcopy-vcpu-blocktime": [210, 470]},
    phases=PHASES,
)
FIGURES = ("qemu_downtime_ms", "stop_resume_ms", "exposure_ms", "blocktime_ms", "vcpu_blocktime_ms")


def observed(move: Migration) -> Observation:
    (one,) = observed_moves([move], Samples())
    return one


def figures(move: Migration) -> list[float | None]:
    return [BY_KEY[key].derive(observed(move)) for key in FIGURES]


def test_of_post_copy_the_pause_and_the_exposure_are_told_and_not_qemus_downtime() -> None:
    assert figures(MOVE) == [None, 2000.0, 4000.0, 188.0, 470.0]


def test_of_pre_copy_qemus_downtime_is_told_and_no_exposure() -> None:
    assert figures(replace(MOVE, phases=PRE_COPY, qemu_target={})) == [3.0, 2000.0, None, None, None]


def test_an_exposure_whose_end_was_not_seen_is_not_told() -> None:
    lost = [phase for phase in PHASES if phase[0] not in ("switched", "ending-source")]
    assert exposure.is_post_copy(lost) and exposure.exposure_ms(lost) is None


def test_a_target_that_says_nothing_of_use_gives_no_figure() -> None:
    for said in ({}, {"postcopy-vcpu-blocktime": []}, {"postcopy-vcpu-blocktime": "x", "postcopy-blocktime": None}):
        assert figures(replace(MOVE, qemu_target=said))[3:] == [None, None]


def test_the_phases_are_those_of_the_driver() -> None:
    assert {exposure.BEGINS, exposure.ENDS} == {Phase.STARTING_POST_COPY.value, Phase.SWITCHED.value}


@pytest.mark.parametrize(
    ("stamped_by", "pause_ms", "window"),
    [
        ("this machine", 2000.0, (12 * S, 14 * S)),
        ("another machine", 2000.0, (10 * S, 18 * S)),
        ("two machines", None, (10 * S, 18 * S)),
        ("", 2000.0, (12 * S, 14 * S)),
    ],
)
def test_moments_of_other_clocks_are_not_looked_for_among_the_samples(
    stamped_by: StampedBy, pause_ms: float | None, window: tuple[int, int]
) -> None:
    one = observed(replace(MOVE, stamped_by=stamped_by))
    assert clocks_of(one).stop_resume_ms == pause_ms
    assert (one.window.stop_ns, one.window.resume_ns) == window


def outcome(phases: list[tuple[str, int]], stamped_by: StampedBy) -> Outcome:
    plan = MigrationPlan(
        guest="g", method="post-copy", source=Side(host="host1"), target=Side(host="host2"), address="", stall_s=1,
        hand_over_s=1, poll_s=1,
    )  # fmt: skip
    info = MigrateInfo(downtime=3, total_time=6000)
    ahead_ns = None if stamped_by == "two machines" else 0
    return Outcome(
        *("host1", "host2", None, 10 * S, 18 * S, 12 * S, 14 * S, info, phases, plan),
        stamped_by=stamped_by, target_ahead_ns=ahead_ns,
    )  # fmt: skip


def test_the_command_says_what_is_known() -> None:
    assert _sentences("g", outcome(PHASES, "this machine"))[0] == (
        "g runs on host2: 6000 ms, stopped to running 2000 ms, its memory was on both hosts for 4000 ms"
    )
    said = _sentences("g", outcome(PRE_COPY, "two machines"))
    assert said[0] == "g runs on host2: 6000 ms, QEMU's downtime 3 ms"
    assert said[1].startswith("its clocks stood still for a time that is not known")


def test_two_clocks_are_one_where_their_difference_was_measured() -> None:
    apart = replace(MOVE, stamped_by="two machines", target_ahead_ns=-500_000_000)
    assert clocks_of(observed(apart)).stop_resume_ms == 2500.0


def test_the_guests_own_clock_is_read_where_another_machine_tells_of_the_pause() -> None:
    import numpy as np

    arrived = np.arange(5 * S, 25 * S, S // 1000)
    arrived = arrived[(arrived < 12 * S) | (arrived >= 14 * S)]
    guest = arrived - np.where(arrived >= 14 * S, 2 * S, 0)
    ticks = Ticks(np.arange(len(arrived)), guest, guest, arrived)
    far = replace(MOVE, stamped_by="two machines", stop_ns=500 * S, resume_ns=900 * S)
    (one,) = observed_moves([far], Samples(ticks=ticks))
    read = clocks_of(one)
    assert read.stop_resume_ms is None
    assert read.guest_lost_ms == pytest.approx(2000, abs=2) and read.tick_gap_ms == pytest.approx(2000, abs=5)
