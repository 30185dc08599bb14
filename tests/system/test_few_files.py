"""A process that may open few files: the default lab comes up and its guest moves, or the limit is told."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import micro_image
from tests.limosa_command import Command, Traces

pytestmark = pytest.mark.system

LAB = Path(__file__).parents[2] / "examples" / "two-hosts.yaml"


@pytest.fixture
def home() -> Iterator[Path]:
    micro_image.at_hand()
    home = Path(tempfile.mkdtemp(prefix="limosa-few-"))
    traces = Traces(home)
    yield home
    Command(home).run("down", "--lab", "few")
    traces.assert_gone(within_s=0)
    shutil.rmtree(home)


def limited(home: Path, files: int) -> Command:
    """The limit can be raised by nobody but root's own hand: it is the hard one too."""
    (home / "few.yaml").write_text(LAB.read_text().replace("name: two-hosts", "name: few"))
    return Command(home, ("prlimit", f"--nofile={files}:{files}"))


def test_as_many_as_some_shells_permit(home: Path) -> None:
    few = limited(home, 128)
    few.ok("up", "few.yaml", timeout_s=300)
    few.ok("migrate", "guest1", "host2", "--lab", "few")
    assert few.ok("status", "--lab", "few", "--json").json["guests"][0]["host"] == "host2"


@pytest.mark.parametrize("files", [12, 16, 18])
def test_too_few(home: Path, files: int) -> None:
    """Fewer would be too few for the interpreter; with these each thing that is begun may be the one that fails."""
    done = limited(home, files).run("up", "few.yaml", timeout_s=300)
    assert done.returncode != 0 and "Traceback" not in done.errors, done
    assert len([line for line in done.errors.splitlines() if line.startswith("limosa: ")]) == 1, done
    if files == 12:
        done.refused(3, "a command may have 12 files open here, and needs more", hint="ulimit -Hn 1024")
