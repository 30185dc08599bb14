"""A migration that another command makes: what ``status`` and ``watch`` say of it, without asking QEMU."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from move_bench import ENDLESS, GUEST, NEEDED, TAKES_USERFAULTFD, Bench, bench

from limosa.deadline import Deadline

LAB = """\
name: watched
networks: {lan: {rate: 1 Gbit/s}}
hosts: {host1: {}, host2: {}}
guests: {bare: {host: host1, image: bare, memory: 64 MiB, accel: tcg}}
"""
pytestmark = NEEDED


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("w"), LAB, "watched") as made:
        made.run("up")
        yield made


def heard(watching: subprocess.Popen[str], words: str) -> list[dict[str, Any]]:
    """The events that it prints until one says *words*."""
    found: list[dict[str, Any]] = []
    assert watching.stdout is not None
    for line in watching.stdout:
        found.append(json.loads(line))
        if words in line:
            return found
    raise AssertionError(f"it ended before it said {words}: {found}")


def wait_until_it_moves(lab: Bench) -> None:
    deadline = Deadline.after(60)
    while (lab.status()["move"] or {}).get("look") is None:
        assert not deadline.passed


def test_one_that_is_called_off(lab: Bench) -> None:
    source, target = lab.ends()
    assert "no migration" in lab.run("watch", GUEST, "--json", expect=4).result["error"]
    with lab.beside("migrate", GUEST, target, "--json", *ENDLESS) as mover:
        wait_until_it_moves(lab)
        with lab.beside("watch", GUEST, "--json") as watching:
            told = heard(watching, "does not converge")
            status = lab.status()
            assert status["state"] == "moving" and status["host"] == source
            move = status["move"]
            assert (move["source"], move["target"], move["method"]) == (source, target, "pre-copy")
            assert move["phase"] == "moving" and move["look"]["remaining_bytes"] > 0
            assert f"{source} → {target}, pre-copy, moving since" in lab.run("status").out
            mover.send_signal(signal.SIGTERM)
            rest, _ = watching.communicate(timeout=60)
        mover.communicate(timeout=60)
    assert mover.returncode == 143 and watching.returncode == 1
    later = [json.loads(line) for line in rest.splitlines()]
    assert [event["phase"] for event in later if "phase" in event] == ["rescuing", "cancelled"]
    looks = [event for event in told if event["event"] == "migration-progress"]
    assert len(looks) > 2 and looks[-1]["iteration"] <= 4  # within three passes after the first
    why = told[-1]["text"]
    assert "pre-copy of bare does not converge" in why and "a pause of some" in why and "--method post-copy" in why, why
    assert lab.status()["move"] is None


@TAKES_USERFAULTFD
def test_one_that_arrives(lab: Bench) -> None:
    """It goes on until somebody who watches it has it become post-copy."""
    source, target = lab.ends()
    with lab.beside("migrate", GUEST, target, *ENDLESS, "--set", "postcopy-ram=on") as mover:
        wait_until_it_moves(lab)
        with lab.beside("watch", GUEST) as watching:
            assert watching.stderr is not None
            told = list(iter(watching.stderr.readline, f"{source} → {target}: moving\n"))
            lab.run("switch", GUEST)
            out, rest = watching.communicate(timeout=60)
        mover.communicate(timeout=60)
    assert mover.returncode == 0 and out == f"{GUEST} is on {target}\n"
    assert f"{source} → {target}: preparing\n" in told
    for phase in ("starting-post-copy", "post-copy", "switched", "ending-source", "completed"):
        assert f"{source} → {target}: {phase}\n" in rest
