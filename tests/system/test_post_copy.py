"""Post-copy: there and back, over a link that is cut, and with every party killed at every step.

Afterwards the guest is in one place, whole, or said to be lost, and that only where one side died while its memory was
on both. One lab serves all cases: that each of them can begin is the proof that the one before left nothing.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from move_bench import GUEST, NEEDED_BY_POST_COPY, POST_COPY, SLOW_LINK, Attempt, Bench, Ran, bench, cut, link, restore

from limosa.deadline import Deadline
from limosa.migration import journal

BEFORE = ("starting-target", "preparing", "moving", "sending")
EARLY = [pytest.param(when, marks=pytest.mark.slow) for when in BEFORE]
"""Until then it is pre-copy, whose own tests are always run."""
HALF = ("post-copy", "begun")
"""QEMU calls it post-copy from when the source was told; its target begins a moment later, with what it begins with."""
AFTER = ("switched", "ending-source")
pytestmark = NEEDED_BY_POST_COPY


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("a"), SLOW_LINK.format(name="after"), "after") as made:
        yield made


@pytest.fixture
def at(lab: Bench) -> tuple[str, str]:
    """Where the guest is and where it goes; hosts and guest are brought back first."""
    lab.run("up")
    return lab.ends()


def phases(lab: Bench) -> list[str]:
    return [entry.phase.value for entry in journal.read(lab.directory.journal(GUEST))]


def assert_lost(lab: Bench, ran: Ran, survivor: str) -> None:
    """It is said so; what is left of it is touched by nobody who does not start it; then it boots again."""
    assert ran.returncode == 1 and "is lost" in ran.result["error"] and f"limosa start {GUEST}" in ran.result["hint"], (
        ran
    )
    left = lab.processes().get(survivor, 0)  # a target that had not got what it begins with ends by itself
    assert left <= 1 and "is lost" in lab.status()["unfinished"]
    for words in (("stop", GUEST), ("migrate", GUEST, survivor), ("recover", GUEST)):
        assert "is lost" in lab.run(*words, "--json", expect=1).result["error"]
    assert lab.processes().get(survivor, 0) == left
    lab.run("up")
    lab.assert_once(lab.place())


def test_there_and_back(lab: Bench, at: tuple[str, str]) -> None:
    for target in (at[1], at[0]):
        moved = lab.migrate(target, *POST_COPY)
        lab.assert_once(target)
        assert "post-copy" in phases(lab) and moved.result["stop_resume_ms"] > 0
        assert {"postcopy-ram", "postcopy-preempt", "return-path"} <= set(moved.result["capabilities_in_force"])
    lab.migrate(at[1])  # and what post-copy turned on is off again
    assert "postcopy-ram" not in lab.migrate(at[0]).result["capabilities_in_force"]


def test_switch(lab: Bench, at: tuple[str, str]) -> None:
    """A pre-copy becomes post-copy when somebody says so, if its plan allows it."""
    assert "no migration" in lab.run("switch", GUEST, "--json", expect=4).result["error"]
    endless = ("--downtime-limit", "1 ms")
    for words, code in ((endless, 4), ((*endless, "--set", "postcopy-ram=on"), 0)):
        source, target = lab.ends()
        with lab.beside("migrate", GUEST, target, "--json", *words) as child:
            wait_for(lab, "moving")
            said = lab.run("switch", GUEST, "--json", expect=code)
            if code:
                assert "cannot become post-copy" in said.result["error"]
                child.terminate()
            out, err = child.communicate(timeout=100)
        assert child.returncode == (143 if code else 0), (out, err)
        lab.assert_once(source if code else target)


def wait_for(lab: Bench, phase: str) -> None:
    deadline = Deadline.after(60)
    while phases(lab)[-1:] != [phase]:
        assert not deadline.passed
        time.sleep(0.02)


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_cut_link_loses_nothing(lab: Bench, times: int) -> None:
    """Cut as often as post-copy goes on; it waits, says so, goes on by itself, and every page is right."""

    def action(_: str, target: str) -> str:
        return f"{times}*{cut(lab, target)} ; at:told-to-wait:{restore(lab, target)}"

    made = Attempt(lab, action, "begun" if times == 1 else "post-copy")
    assert made.ran.returncode == 0, made.ran
    assert f"waits for its link, {made.source} ↔ {made.target}" in made.ran.err
    reached = phases(lab)
    assert reached.count("waiting-for-link") >= times and reached.count("recovering") >= 1, reached
    assert reached[-1] == "completed"
    lab.assert_once(made.target)


def test_a_link_that_is_cut_when_nobody_drives_it(lab: Bench) -> None:
    """Status says what it waits for, no other command harms it, and recover goes on once the link is back."""
    made = Attempt(lab, lambda _, target: f"{cut(lab, target)} ; at:waiting-for-link:signal:SIGKILL", "begun")
    assert made.ran.returncode == -9, made.ran
    both = {made.source, made.target}
    status = lab.status()
    assert f"waits for its link, {made.source} ↔ {made.target}" in status["unfinished"], status
    assert "limosa recover" in status["hint"] and set(lab.processes()) == both
    refused = lab.run("migrate", GUEST, made.source, "--json", expect=4).result
    assert "waits for its link" in refused["error"] and f"limosa recover {GUEST}" in refused["hint"]
    assert list(lab.processes().values()) == [1, 1]
    with lab.beside("recover", GUEST) as child:
        subprocess.run(link(lab, made.target, "up").split(), check=True)
        out, err = child.communicate(timeout=100)
    assert child.returncode == 0 and "finished" in out, (out, err)
    lab.assert_once(made.target)
    assert "nothing to recover" in lab.run("recover", GUEST).out


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupted(lab: Bench, name: str) -> None:
    """Post-copy is not cancelled: it goes on, and any command finishes it."""
    made = Attempt(lab, lambda *_: f"signal:{name}", "post-copy")
    assert made.ran.returncode == {"SIGINT": 130, "SIGTERM": 143}[name], made.ran
    assert "post-copy cannot be cancelled" in made.ran.err and f"limosa recover {GUEST}" in made.ran.err
    told = lab.run("start", GUEST).err if name == "SIGINT" else lab.run("recover", GUEST).out
    assert "finished" in told
    lab.assert_once(made.target)


@pytest.mark.parametrize("when", [*EARLY, "starting-post-copy", *HALF, *AFTER])
def test_controller_killed(lab: Bench, when: str) -> None:
    made = Attempt(lab, lambda *_: "signal:SIGKILL", when)
    assert made.ran.returncode == -9
    assert list(lab.states().values()).count("running") <= 1
    told = lab.run("recover", GUEST).out
    arrives = when in {*HALF, *AFTER}
    assert ("finished" if arrives else "undone") in told, told
    lab.assert_once(made.target if arrives else made.source)


@pytest.mark.parametrize("when", [*EARLY[1:], "starting-post-copy", *HALF, *AFTER])
def test_target_qemu_killed(lab: Bench, when: str) -> None:
    made = Attempt(lab, lambda _, target: f"qemu:{lab.host(target).keeper.pid}", when)
    back = when == "post-copy" and made.ran.returncode == 6  # it had not begun
    if when in BEFORE or when == "starting-post-copy" or back:
        assert made.ran.returncode == 6 and f"{GUEST} is on {made.source}" in made.ran.result["error"], made.ran
        lab.assert_once(made.source)
    else:
        assert_lost(lab, made.ran, made.source)


@pytest.mark.parametrize("when", [*EARLY, "starting-post-copy", *HALF, *AFTER])
def test_source_qemu_killed(lab: Bench, when: str) -> None:
    made = Attempt(lab, lambda source, _: f"kill:{lab.pid(source)}", when)
    if when in AFTER:
        assert made.ran.returncode == 0, made.ran
        lab.assert_once(made.target)
    elif when in HALF:
        assert_lost(lab, made.ran, made.target)
    else:
        assert made.ran.returncode == 1, made.ran
        assert "went down" in made.ran.result["error"] or "is lost" in made.ran.result["error"]
        lab.run("up")
        lab.assert_once(lab.place())


@pytest.mark.slow
@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("when", [*BEFORE, "starting-post-copy", *HALF, *AFTER])
def test_host_off(lab: Bench, when: str, side: str) -> None:
    def action(source: str, target: str) -> str:
        return f"kill:{lab.host(source if side == 'source' else target).keeper.pid}"

    made = Attempt(lab, action, when)
    code = made.ran.returncode
    assert code in {0, 1, 6}, made.ran
    assert code != 0 or (side == "source" and when in AFTER)
    assert code != 6 or (side == "target" and when in {*BEFORE, "starting-post-copy", "post-copy"})
    lab.run("up")
    lab.assert_once(lab.place())


@pytest.fixture
def impatient(lab: Bench) -> Iterator[None]:
    """TCP on the hosts gives a link up that is dark for some 2 s."""
    was = {host: retries(lab, host, 1) for host in ("host1", "host2")}
    yield
    for host, number in was.items():
        retries(lab, host, number)
        subprocess.run(link(lab, host, "up").split(), check=True)


def retries(lab: Bench, host: str, number: int) -> int:
    """Set how often TCP on *host* sends again; what it was before."""
    name, net = "net.ipv4.tcp_retries2", ["nsenter", "-t", str(lab.host(host).keeper.pid), "-n", "sysctl", "-n"]
    before = subprocess.run([*net, name], check=True, capture_output=True, text=True).stdout
    subprocess.run([*net, "-w", f"{name}={number}"], check=True, capture_output=True)
    return int(before)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("when", ["stopped", pytest.param("begun", marks=pytest.mark.slow)])
def test_a_link_that_is_cut_for_longer_than_tcp_waits(lab: Bench, at: tuple[str, str], when: str) -> None:
    """Also before the target has begun, when neither side could take up a connection that TCP gave up."""

    def action(_: str, target: str) -> str:
        return f"{cut(lab, target)} ; at:told-to-wait:run:sleep 5 & {restore(lab, target)}"

    made = Attempt(lab, action, when)
    assert made.ran.returncode == 0, made.ran
    lab.assert_once(made.target)
