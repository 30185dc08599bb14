"""A short run of the bench in a real lab: every figure is made again from the samples, by another way."""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


def limosa(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"XDG_STATE_HOME": str(state), "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-m", "limosa", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=240, env=environment, check=False)


@pytest.mark.slow
def test_cpu_and_throughput_through_a_migration(tmp_path: Path) -> None:
    words = ("bench", "during-migration", "--load", "cpu", "--load", "receive", "--before", "3 s", "--after", "3 s")
    done = limosa(tmp_path, *words, "--memory", "64 MiB", "--json")
    if "is not installed" in done.stdout or "this machine lacks" in done.stdout:
        pytest.skip(json.loads(done.stdout)["error"])
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["complete"]
    assert [part["part"]["load"] for part in result["parts"]] == ["cpu", "receive"]
    for part in result["parts"]:
        assert part["part"]["status"] == "measured", part["part"]["reason"]
        moments = part["moments"]
        assert moments["begin_ns"] < moments["start_ns"] < moments["stop_ns"] < moments["resume_ns"] < moments["end_ns"]
        assert part["outage_ms"] > 0
    samples = Path(result["run"]) / result["parts"][0]["part"]["directory"] / "samples"
    moments = result["parts"][0]["moments"]
    with (samples / "sysbench.csv").open() as file:
        rows = list(csv.DictReader(file))
    inside = [
        float(row["events_per_s"])
        for row in rows
        if moments["begin_ns"] <= int(row["arrived_ns"]) - 10**9 and int(row["arrived_ns"]) <= moments["start_ns"]
    ]
    assert inside
    course = result["parts"][0]["measures"]["sysbench"]["course"]
    assert course["before"]["value"] == pytest.approx(statistics.median(inside))
    said = [line for line in (samples / "load.txt").read_text().splitlines() if " eps: " in line]
    assert len(said) == len(rows)
    explained = limosa(tmp_path, "explain", "bench", result["run"], "--json")
    assert json.loads(explained.stdout) == result["explanations"]
    assert not list((tmp_path / "limosa" / "labs").iterdir()), "the lab ends with its bench"


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    done = limosa(tmp_path, "bench", "during-migration", "--load", "dsik", "--json")
    assert done.returncode == 2
    assert "dsik" in json.loads(done.stdout)["error"]
    done = limosa(tmp_path, "bench", "during-migration", "--before", "0 s", "--json")
    assert done.returncode == 2
