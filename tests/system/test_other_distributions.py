"""What README promises, tried: the demo of a newcomer and the main system tests in a root of another Debian.

All of the suite there is ``./limosa test --on trixie``, which one of these tests is, where slow ones are wanted.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import elsewhere, leftovers, other_root
from tests.distributions import DISTRIBUTIONS, INSIDE, Distribution
from tests.other_root import NEWCOMER, ROOT_USER, Person

MAIN = (
    "tests/system/test_lab.py",
    "tests/system/test_migration.py",
    "tests/system/test_nfs.py",
    "tests/system/test_ssh_ways.py",
)
"""What is run there each time."""
TRIXIE = DISTRIBUTIONS["trixie"]


@pytest.fixture(scope="module")
def trixie() -> Iterator[Distribution]:
    """A distribution that can be tried here; whatever the tests do in it, nothing of it is left on the machine."""
    if reason := other_root.refusal(TRIXIE) or other_root.unreachable(TRIXIE):
        pytest.skip(reason)
    before = leftovers.snapshot([other_root.rooms()])
    yield TRIXIE
    assert not leftovers.wait_settled(before, patience_s=30)
    assert not list(other_root.cache().glob(f"{other_root.rooms().name}*"))


def test_a_room_that_a_killed_run_left_is_removed(trixie: Distribution) -> None:
    left = other_root.cache() / ".limosa-room0.leftover.limosa-tmp"
    (left / "upper/etc").mkdir(parents=True)
    with other_root.room(trixie, []) as used:
        assert not left.exists()
        with other_root.room(trixie, []) as other:
            assert used.work.exists() and other.work.exists()
    assert not used.work.exists() and not other.work.exists()


def test_the_demo_of_a_newcomer_installs_what_it_needs(trixie: Distribution) -> None:
    """A fresh machine: git, Python and sudo, and no package list. One command."""
    with other_root.room(trixie, other_root.bare(trixie)) as made:
        home = made.own_folder("/root", ROOT_USER)
        folder = other_root.put_clone(made, ROOT_USER)
        argv = made.argv([f"{folder}/limosa", "demo"], ROOT_USER, folder)
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert list(home.glob(".local/state/limosa/runs/*/report.html"))


@pytest.mark.parametrize("person", [ROOT_USER, NEWCOMER], ids=["root", "user"])
def test_the_main_tests_pass(trixie: Distribution, person: Person) -> None:
    status, last = elsewhere.suite(trixie, person, ["-n", "0", *MAIN])
    assert status == 0, "\n".join(last)
    assert re.search(r"\d+ passed", last[-1]), last


@pytest.mark.slow
def test_the_whole_suite_passes(trixie: Distribution) -> None:
    assert elsewhere.main(trixie.name, []) == 0


@pytest.mark.parametrize(
    ("name", "status", "says"), [("noble", 3, "Ubuntu 24.04 is untried"), ("nonsense", 2, "trixie (Debian 13)")]
)
def test_what_cannot_be_tried_is_said(name: str, status: int, says: str) -> None:
    argv = [sys.executable, "-P", "-m", "pytest", "--on", name]
    done = subprocess.run(argv, cwd=other_root.ROOT, capture_output=True, text=True)
    assert done.returncode == status
    assert says in done.stderr and "Traceback" not in done.stderr


def test_a_machine_that_cannot_make_one_says_why(tmp_path: Path) -> None:
    """Nothing of the system's is on the PATH."""
    if INSIDE in os.environ:
        says = "already"
    elif os.geteuid() != 0:
        says = "only root can make"
    else:
        says = "mmdebstrap is not installed"
    argv = [sys.executable, "-P", "-m", "pytest", "--on=trixie"]
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(argv, cwd=other_root.ROOT, capture_output=True, text=True, env=environment)
    assert (done.returncode, says in done.stderr) == (3, True), done.stderr
