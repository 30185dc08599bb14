"""``limosa migrate --measure``: the clocks beside a move of a lab that goes on, whatever the guest lets be measured."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from move_bench import TAKES_USERFAULTFD

from limosa.results import store
from limosa.results.format import Migration
from limosa.results.store import RunDirectory
from tests.limosa_command import Command, Traces

pytestmark = pytest.mark.system

LAB = """\
name: measured
hosts: {host1: {}, host2: {}}
guests:
  web: {host: host1, memory: 256 MiB}
  plain: {host: host1, image: bare, memory: 32 MiB}
"""
CLOCKS = {"qemu_downtime_ms", "stop_resume_ms", "tick_gap_ms", "echo_gap_ms", "service_stall_ms", "guest_lost_ms"}
AMPLE = ("--downtime-limit", "5 s")
"""The bare guest dirties all of its memory in every round: it moves only when the pause may hold all of it."""


@pytest.fixture(scope="module")
def command() -> Iterator[Command]:
    home = Path(tempfile.mkdtemp(prefix="limosa-measured-"))
    command, traces = Command(home), Traces(home)
    (home / "measured.yaml").write_text(LAB)
    command.ok("up", "measured.yaml", timeout_s=240)
    traces.look()
    yield command
    command.ok("down", "--lab", "measured")
    traces.assert_gone(within_s=0)
    shutil.rmtree(home)


def latest(command: Command) -> RunDirectory:
    return RunDirectory(command.runs[-1])


def the_move(run: RunDirectory) -> Migration:
    (move,) = run.read(store.MIGRATIONS)
    return move


def ends(command: Command, name: str) -> tuple[str, str]:
    """The host that the guest *name* is on, and the other one."""
    there = next(guest["host"] for guest in command.ok("status", "--json").json["guests"] if guest["name"] == name)
    return there, {"host1": "host2", "host2": "host1"}[there]


def read(summary: dict[str, Any]) -> set[str]:
    """The clocks of the one move that have a reading."""
    (row,) = summary["migrations"]
    return {name for name, reading in row["clocks"].items() if reading is not None}


def test_a_guest_with_an_agent_has_all_clocks_and_a_report(command: Command) -> None:
    done = command.ok("migrate", "web", "host2", "--measure", "--json", "--set", "max-bandwidth=200 MiB/s").json
    run = latest(command)
    assert done["passed"] and Path(done["run"]) == run.path and Path(done["report"]).is_file()
    assert read(done["summary"]) == CLOCKS
    about, move = run.read(store.RUN), the_move(run)
    assert (about.kind, about.guest, about.status) == ("migrate", "web", "completed")
    assert (move.source, move.target, move.outcome) == ("host1", "host2", "completed")
    assert move.plan["method"] == "pre-copy" and move.plan["options"] == {"max-bandwidth": 200 << 20}
    assert {check.name for check in run.read(store.CHECKS) if check.passed} == {
        "tcp-connection", "guest-alive", "ssh-session",
    }  # fmt: skip


def test_a_guest_without_an_agent_has_what_can_be_had(command: Command) -> None:
    done = command.ok("migrate", "plain", "host2", "--measure", *AMPLE)
    assert "plain has neither an agent nor a network: only QEMU's own clocks are read" in done.errors
    run = latest(command)
    assert f"report: {run.path / 'report.html'}" in done.text and "STOP to RESUME" in done.text
    move, (check,) = the_move(run), run.read(store.CHECKS)
    assert move.stop_ns is not None and move.resume_ns is not None and move.stop_ns < move.resume_ns
    assert (check.name, check.passed) == ("guest-alive", True) and "runs on host2" in check.detail
    assert read(command.ok("report", run.id, "--json").json["summary"]) == {"qemu_downtime_ms", "stop_resume_ms"}


@TAKES_USERFAULTFD
def test_of_post_copy_the_pause_is_told_and_not_qemus_downtime(command: Command) -> None:
    # A guest at rest has so little left after the first pass that QEMU hands over by itself, and so has one that had no
    # time to write: this one always writes, and the first pass takes 1.6 s.
    (_, target), slow = ends(command, "plain"), ("--downtime-limit", "1 ms", "--max-bandwidth", "20 MiB/s")
    done = command.ok("migrate", "plain", target, "--measure", "--method", "post-copy", *slow)
    run = latest(command)
    move, (row,) = the_move(run), command.ok("report", run.id, "--json").json["summary"]["migrations"]
    assert "starting-post-copy" in dict(move.phases) and move.stamped_by == "this machine"
    assert move.qemu["downtime"] is not None and row["clocks"]["qemu_downtime_ms"] is None
    assert row["exposure_ms"] > 0 and row["clocks"]["stop_resume_ms"] > 0
    assert "postcopy-blocktime" in move.plan["target"]["capabilities"], "where both can, it is on"
    assert row["blocktime_ms"] == move.qemu_target["postcopy-blocktime"] <= row["vcpu_blocktime_ms"]
    assert "the loss of either host would have cost the guest" in done.text


def test_a_move_that_fails_is_a_run_too_and_the_command_fails(command: Command) -> None:
    limits = ("--downtime-limit", "1 ms", "--max-bandwidth", "2 MiB/s", "--timeout", "1 s")
    source, target = ends(command, "plain")
    done = command.run("migrate", "plain", target, "--measure", "--json", *limits)
    assert done.returncode == 6 and not done.json["passed"]
    run = latest(command)
    assert run.read(store.RUN).status == "failed" and the_move(run).outcome == "failed"
    assert f"plain is on {source}" in done.errors


@pytest.mark.parametrize(("host", "code", "said"), [("host9", 2, "host9"), ("same", 4, "already")])
def test_what_is_seen_at_once_makes_no_run(command: Command, host: str, code: int, said: str) -> None:
    runs = command.runs
    guests = command.ok("status", "--json").json["guests"]
    there = next(guest["host"] for guest in guests if guest["name"] == "web")
    command.run("migrate", "web", there if host == "same" else host, "--measure").refused(code, said)
    assert command.runs == runs
