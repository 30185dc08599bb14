"""The benchmarks at a reduced length: they run, leave nothing behind, and their samples fit together."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from limosa import requirements

pytestmark = pytest.mark.system
MIGRATE = Path(__file__).parents[2] / "benchmarks" / "migrate.py"
STARTS = MIGRATE.with_name("start.py")
AGAINST_VIRSH = MIGRATE.with_name("against_virsh.py")


def run(folder: Path, *arguments: str, script: Path = MIGRATE) -> subprocess.CompletedProcess[str]:
    if missing := asyncio.run(requirements.missing()):
        pytest.skip(f"not installed: {', '.join(r.program for r in missing)}")
    # The benchmark's own state directory goes below TMPDIR, so that what it leaves there can be seen.
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-P", script, *arguments],
        env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    if "limosa.errors.MachineError" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return done


def test_migrations_in_turns(tmp_path: Path) -> None:
    done = run(tmp_path, "--guest", "bare", "--count", "2", "--json")
    result: dict[str, Any] = json.loads(done.stdout)
    moves = result["moves"]
    ways = [move["way"] for move in moves]
    assert ways == ["limosa migrate", "bare QMP", "bare QMP", "limosa migrate", "limosa migrate", "bare QMP"]
    assert [move["warm_up"] for move in moves] == [True, True, False, False, False, False]
    # Each move begins where the one before it ended, and each way goes as often there as back.
    assert all(after["source"] == before["target"] for before, after in itertools.pairwise(moves))
    counted = [(move["way"], move["target"]) for move in moves if not move["warm_up"]]
    assert len(set(counted)) == 4
    for move in moves:
        assert 0 <= move["qemu_downtime_ms"] <= move["qemu_total_ms"] < move["whole_ms"]
    assert result["guest"] == "bare"
    assert result["accel"] in ("kvm", "tcg")


def test_starts(tmp_path: Path) -> None:
    done = run(tmp_path, "--count", "1", "--json", script=STARTS)
    found = json.loads(done.stdout)
    assert len(found) == 6 and all(len(starts) == 1 for starts in found.values())
    nothing, status = found["python -c pass"][0], found["limosa status, 2 hosts"][0]
    assert 0 < nothing["processor_ms"] < status["processor_ms"]


def test_bad_count_is_refused(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, MIGRATE, "--count", "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--count has to be 1 or more" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("how", "ways"), [
    ("pre-copy", ("virsh", "limosa", "bare QMP")),
    ("post-copy", ("virsh", "limosa")),
    ("parallel", ("virsh", "limosa")),
])  # fmt: skip
def test_turns_with_virsh(tmp_path: Path, how: str, ways: tuple[str, ...]) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", AGAINST_VIRSH, "--count", "2", "--how", how, "--json"],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.stderr.startswith("skipped: "):
        pytest.skip(done.stderr.strip().removeprefix("skipped: "))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    result = json.loads(done.stdout)
    counted = [move for move in result["moves"] if not move["warm_up"]]
    assert {move["way"] for move in counted} == set(ways)
    for way in ways:
        its = [move for move in counted if move["way"] == way]
        assert [move["packet_gap_ms"] is None for move in its] == [True, True, False, False]
        assert {move["target"] for move in its} == {"host1", "host2"}
        assert all(0 < move["qemu_total_ms"] < move["whole_ms"] for move in its)
    assert result["memory_bytes"]["virsh"] == 512 << 20
