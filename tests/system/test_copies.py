"""A guest is known by its processes: an unanswered question is no answer, and no process is ended for looking alike."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kill_witness import Seen, processes
from move_bench import AMPLE, LIMOSA, Bench, bench

NAME = f"copies-{secrets.token_hex(3)}"
"""Of this run alone, as the witness knows a guest by its lab's name."""
LAB = f"""\
name: {NAME}
hosts: {{host1: {{}}, host2: {{}}}}
guests: {{bare: {{host: host1, image: bare, memory: 64 MiB, accel: tcg}}}}
"""
HOLD = """
import socket, sys, time
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
print(flush=True)
time.sleep(600)
"""
KILLED_AT_SPAWN = """
import os, signal
from limosa import __main__ as command
from limosa.qemu import guest_process

async def first_monitor(*_):
    os.kill(os.getpid(), signal.SIGKILL)

guest_process._first_monitor = first_monitor
command.main()
"""
"""``limosa``, killed when its QEMU is launched and nothing of it is known yet but what was recorded before."""

NEVER_ANSWERS = """
from limosa import __main__ as command
from limosa.errors import LimosaError
from limosa.qemu import guest_process

async def first_monitor(*_):
    raise LimosaError("no answer, for this test")

guest_process._first_monitor = first_monitor
command.main()
"""
pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("c"), LAB, NAME, guests=False) as made:
        yield made


@pytest.fixture
def one(lab: Bench) -> Iterator[Seen]:
    """The only process of the guest, which was started for this test."""
    lab.run("start", "bare")
    (found,) = processes(NAME, "bare")
    yield found
    lab.run("stop", "bare", "--force")
    assert processes(NAME, "bare") == []


@contextlib.contextmanager
def on_host(lab: Bench, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process on host1 for as long as the context lasts; it has said a line."""
    argv = [*LIMOSA, "exec", "--lab", lab.name, "host1", "--", sys.executable, "-c", *words]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=lab.environment, start_new_session=True)
    try:
        assert child.stdout is not None and child.stdout.readline() == "\n"
        yield child
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


@pytest.mark.slow
def test_a_monitor_that_somebody_holds_is_no_news(lab: Bench, one: Seen) -> None:
    with on_host(lab, HOLD, "/run/limosa/guests/bare/observe.qmp"):
        status = lab.status()
        assert (status["state"], status["host"]) == ("no answer", "host1")
        started = lab.run("start", "bare")
        assert "monitors do not answer" in started.err
        refused = lab.run("stop", "bare", expect=4)
        assert "monitors do not answer" in refused.err and "limosa stop bare --force" in refused.err
        assert processes(NAME, "bare") == [one], "it was neither ended nor started again"
    lab.assert_once("host1")


def test_a_held_monitor_does_not_keep_a_guest_from_being_ended_by_force(lab: Bench, one: Seen) -> None:
    with on_host(lab, HOLD, "/run/limosa/guests/bare/control.qmp"):
        lab.run("stop", "bare", "--force")
        assert processes(NAME, "bare") == []
    assert lab.status()["state"] == "stopped"


ALIKE = "import sys, time; print(flush=True); time.sleep(600)"


def test_what_only_looks_alike_is_never_ended(lab: Bench) -> None:
    words = ["-name", f"guest={NAME}/bare,debug-threads=on", "-pidfile", "/run/limosa/guests/bare/qemu.pid"]
    with on_host(lab, ALIKE, *words) as alike:
        refused = lab.run("stop", "bare", "--force", expect=7)
        assert "is not on record" in refused.err
        lab.run("start", "bare")
        lab.run("up")
        assert alike.poll() is None
        assert lab.status()["state"] == "no answer"


def test_what_speaks_of_a_guest_is_not_taken_for_it(lab: Bench, one: Seen) -> None:
    with on_host(lab, ALIKE, "tail", "/run/limosa/guests/bare/qemu.pid"):
        lab.assert_once("host1")
        lab.migrate("host2")
        lab.assert_once("host2")
        lab.run("migrate", "bare", "host1", *AMPLE)


def test_a_start_that_was_killed_leaves_a_guest_that_is_known(lab: Bench) -> None:
    argv = [sys.executable, "-W", "error", "-c", KILLED_AT_SPAWN, "start", "bare", "--lab", lab.name]
    done = subprocess.run(argv, env=lab.environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done
    (left,) = processes(NAME, "bare")
    assert lab.status()["state"] == "running"
    lab.run("start", "bare")
    lab.run("up")
    assert processes(NAME, "bare") == [left]
    lab.migrate("host2")
    lab.assert_once("host2")
    lab.run("stop", "bare", "--force")


def test_a_failed_start_ends_its_own_process_alone(lab: Bench) -> None:
    argv = [sys.executable, "-W", "error", "-c", NEVER_ANSWERS, "start", "bare", "--lab", lab.name]
    done = subprocess.run(argv, env=lab.environment, capture_output=True, text=True)
    assert done.returncode == 1 and "for this test" in done.stderr, done
    assert processes(NAME, "bare") == [] and lab.directory.guest_record("bare") is None


def test_a_guest_without_a_record_is_seen_and_can_be_stopped(lab: Bench, one: Seen) -> None:
    (lab.directory.guest("bare") / "record.json").unlink()
    assert (lab.status()["state"], lab.status()["host"]) == ("running", "host1")
    lab.run("start", "bare")
    assert processes(NAME, "bare") == [one]
    lab.run("stop", "bare")


def test_a_record_names_both_hosts_before_the_second_copy_exists(lab: Bench, one: Seen) -> None:
    driver = Path(__file__).with_name("move_driver.py")
    words = ["migrate", "bare", "host2", *AMPLE, "--lab", lab.name]
    for step in ("preparing", "completed"):
        argv = [sys.executable, "-W", "error", str(driver), "signal:SIGKILL", step, "--", *words]
        assert subprocess.run(argv, env=lab.environment, capture_output=True).returncode == -signal.SIGKILL
        record = json.loads((lab.directory.guest("bare") / "record.json").read_text())
        assert {copy["host"] for copy in record["copies"]} == {"host1", "host2"}, step
        lab.run("start", "bare")
    record = json.loads((lab.directory.guest("bare") / "record.json").read_text())
    assert lab.place() == "host2" and len(processes(NAME, "bare")) == 1, record
    lab.run("migrate", "bare", "host1", *AMPLE)
    record = json.loads((lab.directory.guest("bare") / "record.json").read_text())
    assert [copy["host"] for copy in record["copies"]] == ["host1"] and record["copies"][0]["started"] > 0


def test_a_look_at_an_address_needs_no_monitor(lab: Bench, one: Seen) -> None:
    """What a migration under way holds is not asked for by whoever only wants to reach the guest."""
    endless = ("--downtime-limit", "1 ms", "--max-bandwidth", "20 MiB/s")
    moving = lab.begin("migrate", "bare", "host2", *endless)
    try:
        deadline = time.monotonic() + 30
        while len(processes(NAME, "bare")) < 2:
            assert time.monotonic() < deadline and moving.poll() is None
            time.sleep(0.02)
        assert "bare: " in lab.run("console", "bare", "--json").result["console"]
        assert lab.status()["state"] == "moving"
    finally:
        moving.send_signal(signal.SIGTERM)
        moving.communicate(timeout=60)
    lab.assert_once("host1")
