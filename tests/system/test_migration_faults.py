"""Every party of a migration is killed at every step. Afterwards the guest is in one place, whole, or said to be lost.

One lab serves all cases: that each of them can begin with a migration is the proof that the one before left nothing.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator

import pytest
from move_bench import GUEST, NEEDED, Bench, Ran, bench

BEFORE = ("starting-target", "preparing", "moving")
AFTER = ("switched", "ending-source")
AT_THE_END = {"ending-source": {1: "lost", 7: "ask"}}
"""What may come of a target host that dies in the last phase: whether the source was ended by then is a race."""
LAB = """\
name: faults
hosts: {host1: {}, host2: {}}
guests: {bare: {host: host1, image: bare, memory: 64 MiB, accel: tcg}}
"""
pytestmark = NEEDED


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("f"), LAB, "faults") as made:
        yield made


@pytest.fixture
def at(lab: Bench) -> tuple[str, str]:
    """Where the guest is and where it goes; hosts and guest are brought back first."""
    lab.run("up")
    return lab.ends()


def settle(lab: Bench, ran: Ran, source: str, target: str, allowed: dict[int, str]) -> None:
    """The exit code is one of *allowed*, and the guest is where that says: a host, ``lost`` or ``ask``."""
    assert ran.returncode in allowed, ran
    assert "Traceback" not in ran.err
    place = allowed[ran.returncode]
    if place == "lost":
        assert "went down" in ran.result["error"] and lab.processes().get(target, 0) == 0, ran
        assert lab.states() == {} and lab.status()["unfinished"] == ""
        lab.run("up")
        place = lab.place()
    elif place == "ask":
        # Nothing runs, and the source's memory is kept for whoever decides. The hint is a command that works.
        assert lab.states() == {source: "postmigrate"}
        assert "interrupted" in lab.status()["unfinished"]
        assert f"limosa stop {GUEST} --host HOST --force" in ran.result["hint"]
        lab.run("migrate", GUEST, target, expect=7)
        lab.run("stop", GUEST, "--host", target, "--force")
        place = source
    elif place == source:
        assert not ran.out or f"{GUEST} is on {source}" in ran.result["error"]
    lab.assert_once(place)


@pytest.mark.parametrize("when", ["starting-target", "preparing", "moving", "sending", *AFTER])
def test_controller_killed(lab: Bench, at: tuple[str, str], when: str) -> None:
    source, target = at
    assert lab.attempt(target, "signal:SIGKILL", when).returncode == -9
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        assert list(lab.states().values()).count("running") <= 1
    status = lab.status()
    assert f"{source} → {target} was interrupted" in status["unfinished"]
    told = lab.run("start", GUEST).err
    assert re.search(r"an interrupted migration was (undone|finished)", told), told
    assert ("finished" in told) or when not in AFTER
    lab.assert_once(target if "finished" in told else source)


@pytest.mark.parametrize("next_command", ["migrate", "up", "stop"])
def test_any_next_command_settles(lab: Bench, at: tuple[str, str], next_command: str) -> None:
    source, target = at
    ran = lab.attempt(target, "signal:SIGKILL", "sending")
    assert ran.returncode == -9 and lab.states() == {source: "running", target: "inmigrate"}
    if next_command == "migrate":
        lab.migrate(target)
    elif next_command == "stop":
        lab.run("stop", GUEST)
        assert lab.states() == {} and lab.status()["unfinished"] == ""
    lab.run("up")
    lab.assert_once({"migrate": target, "up": source, "stop": "host1"}[next_command])


@pytest.mark.parametrize("when", ["preparing", "moving", "sending", *AFTER])
def test_target_qemu_killed(lab: Bench, at: tuple[str, str], when: str) -> None:
    source, target = at
    action = f"qemu:{lab.host(target).keeper.pid}"
    ran = lab.attempt(target, action, when)
    allowed = {6: source} if when not in AFTER else {6: source, 7: "ask"} if when == "switched" else {7: "ask"}
    settle(lab, ran, source, target, allowed)


def test_target_qemu_killed_at_the_very_end(lab: Bench, at: tuple[str, str]) -> None:
    """The move is over and its source gone; before the command says where the guest is, it looks once more."""
    source, target = at
    settle(lab, lab.attempt(target, f"qemu:{lab.host(target).keeper.pid}", "completed"), source, target, {1: "lost"})


@pytest.mark.parametrize("when", [*BEFORE, "sending", *AFTER])
def test_source_qemu_killed(lab: Bench, at: tuple[str, str], when: str) -> None:
    source, target = at
    ran = lab.attempt(target, f"kill:{lab.pid(source)}", when)
    settle(lab, ran, source, target, {0: target} if when in AFTER else {1: "lost"})


@pytest.mark.parametrize("when", [*BEFORE, "sending", *AFTER])
def test_target_host_off(lab: Bench, at: tuple[str, str], when: str) -> None:
    source, target = at
    ran = lab.attempt(target, f"kill:{lab.host(target).keeper.pid}", when)
    allowed = {6: source} if when not in AFTER else AT_THE_END.get(when, {6: source, 7: "ask"})
    settle(lab, ran, source, target, allowed)


@pytest.mark.parametrize("when", [*BEFORE, "sending", *AFTER])
def test_source_host_off(lab: Bench, at: tuple[str, str], when: str) -> None:
    source, target = at
    ran = lab.attempt(target, f"kill:{lab.host(source).keeper.pid}", when)
    # Right after the switch some of what the source had sent may still have been in its own network.
    allowed = {1: "lost"} if when not in AFTER else {0: target, 1: "lost"} if when == "switched" else {0: target}
    settle(lab, ran, source, target, allowed)


@pytest.mark.parametrize("when", ["preparing", "sending"])
def test_link_cut(lab: Bench, at: tuple[str, str], when: str) -> None:
    source, target = at
    cut = f"run:{sys.executable} -m limosa host cut {target} --lab {lab.name}"
    ran = lab.attempt(target, cut, when, stall_s=1)
    try:
        assert ran.returncode == 6 and "nothing went over the link" in ran.result["error"], ran
        lab.assert_once(source)
        assert "is cut off" in lab.migrate(target, expect=4).result["error"]
    finally:
        lab.run("host", "restore", target)
    lab.migrate(target)
    lab.assert_once(target)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("when", [*BEFORE, "sending", *AFTER])
def test_interrupted(lab: Bench, at: tuple[str, str], when: str, name: str) -> None:
    source, target = at
    ran = lab.attempt(target, f"signal:{name}", when)
    assert ran.returncode == {"SIGINT": 130, "SIGTERM": 143}[name], ran
    place = lab.place()
    assert place == source or when in AFTER
    sentence = f"{GUEST} is on {source}" if place == source else f"{GUEST} had moved already and is on {target}"
    assert f"the migration was cancelled; {sentence}" in ran.err and "Traceback" not in ran.err
    lab.assert_once(place)


def test_the_next_migration_works(lab: Bench, at: tuple[str, str]) -> None:
    source, target = at
    for host in (target, source):
        lab.migrate(host)
        lab.assert_once(host)
