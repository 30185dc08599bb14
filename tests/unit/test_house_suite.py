"""The suite's own order, turns and last words."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from limosa.deadline import Deadline
from tests import turns

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"


def test_skipped_are_grouped_and_whole_files_are_shouted(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.read_text())
    files = {
        "tests/system/test_kvm.py": "import pytest\n@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_a(n):\n    pytest.skip('no KVM here')\n",
        "tests/unit/test_one.py": "import pytest\ndef test_a(): pass\ndef test_b():\n    pytest.skip('no KVM here')\n",
    }
    for name, text in files.items():
        path = pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "tests")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(
        [
            "*skipped, and why*",
            "   3  no KVM here  (tests/system/test_kvm.py, tests/unit/test_one.py)",
            "NOT TESTED AT ALL: tests/system/test_kvm.py (2 skipped): no KVM here",
            "1 passed, 3 skipped in *",
        ]
    )


def test_order_is_gate_unit_system(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.read_text())
    for folder in ("system", "gate", "unit", "other"):
        path = pytester.path / "tests" / folder / f"test_{folder}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("def test_a(): pass\n")
    result = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider", "-p", "no:asyncio", "tests")
    assert "skipped, and why" not in result.stdout.str()
    ran = [line.split("/")[1] for line in result.outlines if "PASSED" in line]
    assert ran == ["gate", "unit", "system", "other"]


def test_one_that_hangs_fails_and_the_next_begins(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at once on CI's machine, before the run is over, as that may never be."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    text = "import time\ndef test_a(): time.sleep(1000)\ndef test_b(): pass\n"
    _suite(pytester, {"tests/unit/test_hangs.py": text})
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio", "-o", "timeout=0.5", "tests")
    result.assert_outcomes(passed=1, failed=1)
    said = result.stdout.str()
    assert "test_hangs.py::test_a (call): Failed: Timeout" in said.partition("FAILURES")[0]


SLOW = {
    "tests/unit/test_mixed.py": "import pytest\n@pytest.mark.slow\n@pytest.mark.parametrize('n', [1, 2])\n"
    "def test_slow(n): pass\ndef test_quick(): pass\n",
}


@pytest.mark.parametrize(("arguments", "passed", "left_out"), [
    ((), 1, 2),
    (("--slow",), 3, 0),
    (("-m", "slow"), 2, 0),
    (("tests/unit/test_mixed.py::test_slow",), 2, 0),
])  # fmt: skip
def test_slow_tests_are_left_out_and_counted(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    passed: int,
    left_out: int,
) -> None:
    monkeypatch.delenv("LIMOSA_SLOW", raising=False)
    _suite(pytester, SLOW)
    words = arguments if arguments[-1:] and "::" in arguments[-1] else (*arguments, "tests")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio", *words)
    result.assert_outcomes(passed=passed)
    _says_left_out(result.outlines, passed, left_out)


def _says_left_out(lines: list[str], passed: int, left_out: int) -> None:
    line = f"left out because slow: {left_out}; ./limosa test --slow runs them too"
    assert (line in lines) == (left_out > 0), lines
    assert lines[-1].startswith(f"{passed} passed"), "the last line stays pytest's own"


def test_workers_tell_what_they_left_out(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMOSA_SLOW", raising=False)
    _suite(pytester, SLOW)
    # Workers are processes of their own, and find tests.turns in this clone.
    program = (
        f"import sys, pytest; sys.path.insert(0, {str(CONFTEST.parents[1])!r}); sys.exit(pytest.main(sys.argv[1:]))"
    )
    argv = [sys.executable, "-P", "-c", program, "-p", "no:cacheprovider", "-p", "no:asyncio", "-n", "1", "tests"]
    monkeypatch.setenv(turns.NESTED, "1")
    done = subprocess.run(argv, cwd=pytester.path, capture_output=True, text=True, check=False, timeout=60)
    _says_left_out(done.stdout.splitlines(), 1, 2)


def test_the_environment_may_ask_for_slow_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    _suite(pytester, SLOW)
    for value, passed in (("1", 3), ("0", 1)):
        monkeypatch.setenv("LIMOSA_SLOW", value)
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio", "tests")
        result.assert_outcomes(passed=passed, deselected=3 - passed)


def _suite(pytester: pytest.Pytester, files: dict[str, str]) -> None:
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makefile(".ini", pytest="[pytest]\nmarkers =\n  slow: s\n  alone: a\naddopts = -q --strict-markers\n")
    for name, text in files.items():
        path = pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class _Turns:
    """Threads that take turns at two directories; flock sees each opening as another party, as with processes."""

    def __init__(self, folder: Path) -> None:
        self.door, self.machine = folder / "door", folder / "machine"
        self.door.mkdir()
        self.machine.mkdir()

    def take(self, *, alone: bool) -> tuple[threading.Event, threading.Event, threading.Thread]:
        """(it has its turn, it may go, the thread)."""
        here, leave = threading.Event(), threading.Event()

        def party() -> None:
            with turns.turn(alone=alone, door=self.door, machine=self.machine):
                here.set()
                leave.wait(10)

        thread = threading.Thread(target=party)
        thread.start()
        return here, leave, thread


def test_one_that_is_alone_waits_and_is_not_overtaken(tmp_path: Path) -> None:
    place = _Turns(tmp_path)
    first, second = place.take(alone=False), place.take(alone=False)
    assert first[0].wait(5) and second[0].wait(5), "others run side by side"
    third = place.take(alone=True)
    assert not third[0].wait(0.05)
    first[1].set()
    assert not third[0].wait(0.05), "one of the others is still there"
    _wait_at_the_door(place)
    fourth = place.take(alone=False)
    assert not fourth[0].wait(0.05), "whoever comes later does not overtake"
    second[1].set()
    assert third[0].wait(5)
    assert not fourth[0].wait(0.05), "alone is alone"
    third[1].set()
    assert fourth[0].wait(5)
    fourth[1].set()
    for *_, thread in (first, second, third, fourth):
        thread.join(5)
        assert not thread.is_alive()


def _wait_at_the_door(place: _Turns) -> None:
    """Until the one who waits has the door."""
    deadline = Deadline.after(5)
    while not deadline.passed:
        descriptor = os.open(place.door, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        finally:
            os.close(descriptor)
    raise AssertionError("nobody waits")
