"""``limosa demo`` ended before its end, by SIGKILL at any moment and by the polite signals: nothing is left of it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from limosa.lab import sweep
from tests import micro_image, slow
from tests.limosa_command import Command, Traces

pytestmark = pytest.mark.system

KILLS = 20 if slow.wanted() else 10
LINES = 8
"""What a demo says before its second migration is over."""
LONGEST_S = 1.5
"""Longer than most steps of a demo take on a quiet machine."""

GONE_S = 5.0
"""The fabric notices at once that its maker is gone; the kernel takes a moment to end some fifty processes."""


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    """The micro image, so that a demo does not end while it builds it."""
    micro_image.at_hand()


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="limosa-end-"))
    yield path
    shutil.rmtree(path)


def moments() -> list[tuple[int, float]]:
    """After how many lines, and how long after the last of them, in s: each run goes through all of a demo anew.

    Lines, and not seconds alone: how long a demo takes to reach a step is the machine's affair.
    """
    seed = int(os.environ.get("LIMOSA_TEST_SEED", time.time_ns() % 1_000_000))
    print(f"LIMOSA_TEST_SEED={seed}")
    chosen = random.Random(seed)
    return [(kill * (LINES + 1) // KILLS, chosen.uniform(0, LONGEST_S)) for kill in range(KILLS)]


def test_kill_at_any_moment_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = Command(home)
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    for lines, more_s in moments():
        traces = Traces(home)
        child = command.begin("demo", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert child.stderr is not None
        said = [child.stderr.readline().decode() for _ in range(lines)]
        assert all(said), f"the demo ended before that: {said}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(more_s)
        traces.look()
        child.kill()
        said.append(child.communicate()[1].decode())
        print(f"{more_s:.1f} s after", said[lines - 1].strip() if lines else "its start")
        assert child.returncode in (-signal.SIGKILL, 0), said
        traces.assert_gone(GONE_S, folders=False)
        sweep()  # as the next demo does: a maker killed before its fabric stood leaves files, and nothing else
        traces.assert_gone(within_s=0)


@pytest.mark.parametrize(("number", "exit_code", "after"), [
    (signal.SIGINT, 130, "boot guest1"),
    (signal.SIGTERM, 143, "set the guest to work"),
])  # fmt: skip
def test_polite_signal_leaves_nothing_and_marks_the_run(
    home: Path, number: signal.Signals, exit_code: int, after: str
) -> None:
    command, traces = Command(home), Traces(home)
    child = command.begin("demo", stdout=subprocess.DEVNULL)
    assert child.stderr is not None
    for line in child.stderr:
        if line.decode().startswith(after):
            break
    # Half a second into what follows: opening the measurement after the boot, the guest at rest after its work began.
    time.sleep(0.5)
    traces.look()
    child.send_signal(number)
    said = child.communicate(timeout=30)[1].decode()
    assert child.returncode == exit_code, said
    assert "Traceback" not in said, said
    traces.assert_gone(within_s=3)
    (run,) = command.runs
    head = msgspec.json.decode((run / "run.json").read_bytes())
    assert (head["status"], head["error"]) == ("cancelled", "interrupted")
    assert head["ended_ns"] > head["started_ns"]
