"""The example for notebooks, run as a script: what it prints is what the run directory says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from limosa import requirements

pytestmark = pytest.mark.system
NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.py"


def test_notebook(tmp_path: Path) -> None:
    if missing := asyncio.run(requirements.missing()):
        pytest.skip(f"not installed: {', '.join(r.program for r in missing)}")
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", NOTEBOOK], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    if "limosa.errors.MachineError" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / "limosa" / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    [migration] = summary["migrations"]
    assert f"host1 to host2: {migration['duration_ms']:.0f} ms in all" in done.stdout
    assert "guest1 runs on host2" in done.stdout
    assert re.search(rf"tick_gap_ms +{migration['clocks']['tick_gap_ms']:.1f} ms", done.stdout)
    assert "FAILED" not in done.stdout
    assert {check["name"] for check in summary["checks"]} >= {"memory-checksum", "disk-writes", "single-copy"}
    # The hole is at least the pause by the tick clock, which takes the usual distance off.
    longest = re.search(r"longest hole: ([\d.]+) ms", done.stdout)
    assert longest and float(longest[1]) >= migration["clocks"]["tick_gap_ms"]
    ticks = len((run / "samples" / "ticks.csv").read_text().splitlines()) - 1
    assert f"{ticks} ticks" in done.stdout
    assert (run / "report.html").is_file()
    # The ephemeral lab went with the script.
    assert list((tmp_path / "limosa" / "labs").iterdir()) == []
