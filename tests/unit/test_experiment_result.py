"""When an experiment has passed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from limosa.experiment.result import Result
from limosa.results import store
from limosa.results.format import Check, Summary
from limosa.results.store import RunDirectory
from tests import run_sample


def _of(summary: Summary) -> Result:
    return Result(Path("run"), Path("report.html"), summary)


def test_migrations_and_pauses_both_count(tmp_path: Path) -> None:
    demo = RunDirectory.open(run_sample.demo(tmp_path / "demo")).read(store.SUMMARY)
    calibration = RunDirectory.open(run_sample.calibrate(tmp_path / "calibration")).read(store.SUMMARY)
    assert demo.migrations
    assert _of(demo).passed
    assert calibration.pauses
    assert not calibration.migrations
    assert _of(calibration).passed


def test_nothing_measured_failed_check_and_failed_move(tmp_path: Path) -> None:
    demo = RunDirectory.open(run_sample.demo(tmp_path / "demo")).read(store.SUMMARY)
    assert not _of(Summary()).passed
    assert not _of(replace(demo, checks=[Check(name="disk-writes", passed=False, detail="one is missing")])).passed
    moves = [replace(demo.migrations[0], outcome="failed"), *demo.migrations[1:]]
    assert not _of(replace(demo, migrations=moves)).passed
