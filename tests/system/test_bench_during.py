"""A short run of the bench in a real lab: every figure is made again from the samples, by another way."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_report_browser import browse, works

from limosa.deadline import Deadline
from tests.limosa_command import Command

pytestmark = pytest.mark.system
__all__ = ["works"]


def limosa(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"XDG_STATE_HOME": str(state), "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-m", "limosa", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=240, env=environment, check=False)


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
    given = result["parts"][0]["measures"]["cpu-given"]["course"]
    for phase in ("before", "after"):
        assert 0 < given[phase]["value"] < 1.2, "one busy virtual CPU: other work takes the rest"
    during = given["during"]
    if moments["end_ns"] - moments["start_ns"] > 3 * 10**9:  # a quicker move holds no second of sysbench's whole
        assert during is not None
    assert during is None or 0 < during["value"] < 1.2
    said = [line for line in (samples / "load.txt").read_text().splitlines() if " eps: " in line]
    assert len(said) == len(rows)
    explained = limosa(tmp_path, "explain", "bench", result["run"], "--json")
    assert json.loads(explained.stdout) == {name: result[name] for name in ("explanations", "findings")}
    assert not list((tmp_path / "limosa" / "labs").iterdir()), "the lab ends with its bench"
    page = Path(result["report"]).read_text()
    for shown in ('data-plot="during-1"', "precopy, cpu", "sysbench", result["explanations"][0][:40]):
        assert shown in page


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    done = limosa(tmp_path, "bench", "during-migration", "--load", "dsik", "--json")
    assert done.returncode == 2
    assert "dsik" in json.loads(done.stdout)["error"]
    done = limosa(tmp_path, "bench", "during-migration", "--before", "0 s", "--json")
    assert done.returncode == 2
    done = limosa(tmp_path, "bench", "during-migration", "--memory", "900 GiB", "--json")
    assert done.returncode == 2
    assert "does not fit into guest1" in json.loads(done.stdout)["error"]
    done = limosa(tmp_path, "explain", "bench", "--json")
    assert done.returncode == 2
    assert "which run" in json.loads(done.stdout)["error"]


@contextmanager
def begun(home: Path, stage: str, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A bench that has come to *stage*, and its run directory."""
    command = Command(home)
    child = command.begin("bench", "during-migration", "--memory", "0 B", *words)
    try:
        deadline = Deadline.after(90)
        while not (reached := [run for run in command.runs if f'"{stage}"' in _text(run / "events.jsonl")]):
            if child.poll() is not None:
                said = child.communicate()[1].decode()
                if child.returncode == 3:
                    pytest.skip(said)
                raise AssertionError(said)
            assert not deadline.passed, f"the bench did not come to {stage}"
            time.sleep(0.1)
        yield child, reached[0]
    finally:
        child.kill()
        child.wait()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def qemus(child: subprocess.Popen[bytes]) -> list[int]:
    """The QEMUs of the bench's lab, which has the bench's pid in its name."""
    mark = f"guest=during-{child.pid}/".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if line.startswith(b"qemu-system") and mark in line:
            found.append(int(entry.name))
    return found


def test_a_guest_that_dies_is_marked(tmp_path: Path) -> None:
    words = ("--load", "latency", "--load", "receive", "--before", "60 s", "--json")
    with begun(tmp_path, "before: 60 s", *words) as (child, run):
        (pid,) = qemus(child)
        os.kill(pid, signal.SIGKILL)
        out, err = child.communicate(timeout=40)
    assert child.returncode == 1, err
    said = json.loads(out)
    parts = [each["part"] for each in said["parts"]]
    assert [(part["load"], part["status"]) for part in parts] == [("latency", "partial"), ("receive", "failed")]
    assert parts[0]["reason"] == "the guest died while it was measured"
    head = json.loads((run / "run.json").read_text())
    assert (head["status"], parts[0]["reason"] in head["error"]) == ("failed", True)
    echoes = (run / parts[0]["directory"] / "samples" / "echo.csv").read_text().splitlines()
    assert len(echoes) > 2, "what was measured before is kept"
    page = (run / "report.html").read_text()
    assert "Not measured" in page and parts[0]["reason"].capitalize() in page


@pytest.mark.slow
def test_interrupted_after_the_move_keeps_what_it_showed(tmp_path: Path, works: None) -> None:
    words = ("--load", "latency", "--before", "2 s", "--after", "600 s")
    with begun(tmp_path, "after: 600 s", *words) as (child, run):
        time.sleep(2)  # something has to be measured after the move, too
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
        assert qemus(child) == []
    assert child.returncode == 130, err.decode()
    assert f"limosa report {run.name}" in err.decode()
    assert b"Traceback" not in err
    assert json.loads((run / "run.json").read_text())["status"] == "cancelled"
    (part,) = json.loads((run / "during.json").read_text())["parts"]
    assert (part["status"], part["reason"]) == ("partial", "interrupted")
    Command(tmp_path).ok("report", run.name, "--png")
    assert (run / "during.png").stat().st_size > 10_000
    seen = browse(tmp_path / "profile", (run / "report.html").as_uri(), "--dump-dom")
    assert [line for line in seen.stderr.splitlines() if "CONSOLE" in line] == []
    assert 'data-status="drawn"' in seen.stdout
    for word in ("start", "blackout", "end"):
        assert re.search(rf">{word}</text>", seen.stdout), word
    assert "stopped before its end" in seen.stdout
    assert "Measured in part" in seen.stdout
