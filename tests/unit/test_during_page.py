"""What the page of a bench of migrations says first: no more than was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_during import MOMENTS, known, speed

from limosa.bench.during import moves_page
from limosa.bench.during.compare import Measure, Moved
from limosa.bench.during.course import course
from limosa.bench.during.parts import During, Part
from limosa.results.account import Account
from limosa.results.format import Clocks, Migration


def told(*found: Moved, complete: bool = True, error: str = "") -> Account:
    parts = [moved.part for moved in found]
    during = During(
        guest="web", before_s=20, after_s=30, memory_bytes=0, max_bandwidth_bytes_per_s=None, parts=parts,
        complete=complete,
    )  # fmt: skip
    return moves_page.of(during, list(found), error)


def moved(part: Part, level=known, outcome: str = "completed") -> Moved:  # noqa: ANN001
    samples = speed(level)
    measure = Measure(
        name="sysbench", label="sysbench", unit="events/s", samples=samples, window_ns=10**9,
        course=course(samples, MOMENTS, 10**9),
    )  # fmt: skip
    migration = Migration(
        index=1, guest="web", source="host1", target="host2", outcome=outcome, error="",  # type: ignore[arg-type]
        started_ns=MOMENTS.start_ns, ended_ns=MOMENTS.end_ns, stop_ns=MOMENTS.stop_ns, resume_ns=MOMENTS.resume_ns,
        parameters={}, qemu={}, phases=[],
    )  # fmt: skip
    clocks = Clocks(guest_lost_ms=101.0)
    return Moved(
        part=part, moments=MOMENTS, migration=migration, clocks=clocks, measures=[measure], rest_silence_ms=12.0
    )


CPU = Part(method="precopy", load="cpu", begin_ns=1, finish_ns=2)


def test_whole_and_steady() -> None:
    said = told(moved(CPU)).verdict
    assert (said.tone, said.mark, said.details) == ("good", "Measured", [])
    assert said.sentence == "web was measured through 1 migration; the longest silence was 101 ms, and 12 ms at rest."
    assert said.facts == [("101 ms", "longest silence, precopy, cpu")]


def test_unsteady_is_said() -> None:
    said = told(moved(CPU, lambda second: 100 if int(second) % 4 < 2 else 80)).verdict
    assert (said.tone, said.mark) == ("warn", "Measured, but unsteady")
    assert "even before a migration: sysbench" in said.details[0]


def test_a_guest_that_got_little_of_a_cpu_makes_it_unsound() -> None:
    whole = moved(CPU)
    starved = replace(whole.measures[0], name="cpu-given", course=course(speed(lambda _: 0.2), MOMENTS, 10**9))
    said = told(replace(whole, measures=[*whole.measures, starved])).verdict
    assert (said.tone, said.mark) == ("warn", "Unsound")
    assert "only 0.2 of one" in said.details[0]


def test_cut_short_after_the_move_keeps_its_figures() -> None:
    part = Part(method="precopy", load="cpu", status="partial", reason="interrupted", begin_ns=1)
    said = told(moved(part), complete=False, error="interrupted").verdict
    assert (said.tone, said.mark) == ("warn", "Measured in part")
    assert any("stopped before its end" in detail for detail in said.details)
    assert said.facts
    assert sum("nterrupted" in detail for detail in said.details) == 1


@pytest.mark.parametrize("outcome", ["failed", "none"])
def test_nothing_moved(outcome: str) -> None:
    part = Part(method="precopy", load="cpu", status="failed", reason="guest web does not run")
    empty = Moved(part=part, moments=None, migration=None, clocks=Clocks(), measures=[])
    found = told(moved(part, outcome="failed") if outcome == "failed" else empty)
    said = found.verdict
    assert (said.tone, said.mark, said.facts) == ("bad", "Not measured", [])
    assert said.details[0].endswith("failed. Guest web does not run.")
    if outcome == "none":
        assert found.plot is None
