"""Places that take no file: refused before anything long begins, and a disk that fills up ends a run in a sentence."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_bad_input_machine import mounted, private

from tests import run_sample
from tests.limosa_command import Command, Traces

pytestmark = pytest.mark.system


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="limosa-place-"))
    traces = Traces(path)
    yield path
    traces.assert_gone(within_s=0)
    shutil.rmtree(path)


@pytest.mark.parametrize(
    "words",
    [
        ("homework", "--quick"),
        ("homework", "--again", "run"),
        ("report", "run"),
        ("report", "run", "--png"),
        ("report", "run", "--csv"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("place", ["read-only", "read-only/new", "file", "file/new"])
def test_output_is_refused_at_once(home: Path, words: tuple[str, ...], place: str) -> None:
    run = run_sample.demo(home / "run")
    (home / "file").touch()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    command = private(home, mounted(home / "read-only", "ro"))
    done = command.run(*(word if word != "run" else str(run) for word in words), "--output", str(home / place))
    done.refused(2, f"--output: {home / place} cannot be written", hint="name another place by --output")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before, "something was done before it"


def test_a_full_output(home: Path) -> None:
    run = run_sample.demo(home / "run")
    command = private(home, mounted(home / "full", "size=4k"))
    done = command.run("report", str(run), "--png", "--output", str(home / "full"))
    done.refused(3, f"no space left in {home / 'full'}", hint="make room, or name a place on another disk")


def test_a_picture_of_a_screen(home: Path) -> None:
    """It is asked before the lab is: there is none here."""
    done = Command(home).run("screen", "guest1", "--png", str(home / "no" / "a.png"))
    done.refused(2, "--png: ", hint="name another place by --png")


def test_a_run_that_cannot_be_written(home: Path) -> None:
    """Somebody else's, or on a medium that is read only."""
    run = run_sample.demo(home / "run")
    bind = f"mount --bind {shlex.quote(str(run))} {shlex.quote(str(run))}"
    command = private(home, bind, f"mount -o remount,ro,bind {shlex.quote(str(run))}")
    command.run("report", str(run)).refused(3, "cannot be written: Read-only file system", hint="name a place")


@pytest.mark.parametrize(
    "words",
    [
        ("demo",),
        ("bench", "during-migration", "--load", "receive", "--before", "2 s", "--after", "2 s", "--memory", "16 MiB"),
        ("bench", "cpu", "--guest", "bare", "--time", "1 s", "--repeat", "2"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_the_disk_is_full_while_a_run_is_written(home: Path, words: tuple[str, ...]) -> None:
    """The first files find room, and what is measured does not."""
    runs = home / "state" / "limosa" / "runs"
    runs.parent.mkdir(parents=True)
    command = private(home, mounted(runs, "size=36k"))
    done = command.run(*words, XDG_STATE_HOME=str(home / "state"))
    done.refused(3, f"no space left in {runs}", hint="make room, or set XDG_STATE_HOME to another disk")
