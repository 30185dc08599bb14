"""Ctrl-C, SIGTERM and a terminal that is closed: a verb tidies up, then its exit code says by what it was ended."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

VERB = """
import asyncio, os, signal, sys
from pathlib import Path
from limosa.cli.face import face, run
from limosa.errors import DecisionError
from limosa.events import Note
from limosa.tasks import uninterrupted
async def tidy():
    await asyncio.sleep(0.01)
    Path(sys.argv[1]).write_text("tidied up")
async def rescue():
    print("begun", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    raise DecisionError("a person must decide", hint="so or so")
async def work():
    if "decide" in sys.argv:
        await uninterrupted(rescue())
    with face(False) as events:
        try:
            print("begun", flush=True)
            await asyncio.sleep(60)
        finally:
            events.note("on the way out", level="warning")
            await uninterrupted(tidy())
try:
    run(work)
except KeyboardInterrupt:
    os._exit(130)
except SystemExit as ended:  # as limosa does: the interpreter's own end would complain of a closed terminal
    os._exit(ended.code)
"""


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """What this process was told to ignore, as below ``nohup``, its children would ignore too."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def begun(tmp_path: Path, *words: str, **streams: int) -> subprocess.Popen[bytes]:
    environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm"}
    argv = [sys.executable, "-c", VERB, str(tmp_path / "said"), *words]
    return subprocess.Popen(argv, env=environment, **streams)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with begun(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as verb:
        assert verb.stdout is not None and verb.stdout.readline() == b"begun\n"
        verb.send_signal(number)
        assert verb.wait(20) == code
    assert (tmp_path / "said").read_text() == "tidied up"


def test_a_terminal_that_is_closed_ends_it_in_order(tmp_path: Path) -> None:
    """The kernel tells the session's leader, and nothing more can be printed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm"}
    pid, terminal = pty.fork()
    if not pid:
        os.execve(sys.executable, [sys.executable, "-c", VERB, str(tmp_path / "said")], environment)
    said = b""
    while b"begun" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    assert (tmp_path / "said").read_text() == "tidied up"


def test_below_nohup_it_goes_on(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited
    try:
        verb = begun(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGHUP, before)
    with verb:
        assert verb.stdout is not None and verb.stdout.readline() == b"begun\n"
        verb.send_signal(signal.SIGHUP)
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"it ended with {verb.wait(0.1)}")
        verb.send_signal(signal.SIGTERM)
        assert verb.wait(20) == 143


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_a_person_has_to_know_is_said_though_it_was_cancelled(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with begun(tmp_path, "decide", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as verb:
        assert verb.stdout is not None and verb.stdout.readline() == b"begun\n"
        verb.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            verb.wait(0.2)  # it is not broken off
        _, said = verb.communicate(b"\n", timeout=20)
        assert (verb.returncode, b"a person must decide" in said) == (code, True), said
