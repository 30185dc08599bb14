"""Policies at the helm of a real QEMU, and what becomes of the guest when the command dies as one acts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from move_bench import AMPLE, GUEST, LIMOSA, NEEDED, NEEDED_BY_POST_COPY, SLOW_LINK, Attempt, Bench, bench

from limosa.migration.journal import read
from limosa.migration.policies import policy_table

pytestmark = NEEDED
MAY = pytest.param("ok", marks=NEEDED_BY_POST_COPY)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """All that the guest has is dirty again after each pass, of some 2.7 s: it never gets across by itself."""
    with bench(tmp_path_factory.mktemp("s"), SLOW_LINK.format(name="steered"), "steered") as made:
        made.run("up")
        yield made


def policy(name: str, scale: float = 1.0, *words: str) -> tuple[str, ...]:
    return ("--policy", name, "--policy-time-scale", f"{scale:g}", *words)


def test_a_schedule_is_followed_to_its_end(lab: Bench) -> None:
    """Ten steps up to 500 ms, each in the journal with its reason; then it is given up, and runs where it was."""
    source, target = lab.ends()
    said = lab.migrate(target, *policy("nova", 0.005), expect=6).result
    assert "the policy nova gives it up" in said["error"] and "completion timeout" in said["error"]
    entries = [entry for entry in read(lab.directory.journal(GUEST)) if entry.action is not None]
    limits = [entry.action.options.get("downtime-limit") for entry in entries if entry.action]
    assert limits == [*range(95, 501, 45), None] and all(entry.detail for entry in entries)
    assert entries[0].phase == "moving"
    lab.assert_once(source)


def test_a_guest_that_a_policy_paused_runs_at_the_target(lab: Bench) -> None:
    """QEMU leaves it paused there, as it had left."""
    _, target = lab.ends()
    moved = lab.migrate(target, *policy("virsh-timeout", 1.0, "--deadline", "2 s")).result
    assert [each["action"] for each in moved["decisions"]] == ["pause"]
    assert moved["policy"] == "virsh-timeout" and moved["stop_resume_ms"] > 500
    lab.assert_once(target)


@pytest.mark.slow
def test_a_recorded_move_is_steered_again_by_all(lab: Bench) -> None:
    """Its own policy does what it did; another leaves the record where it acts first. The report has it too."""
    _, target = lab.ends()
    words = policy("virsh-timeout", 1.0, "--deadline", "2 s")
    run = lab.run("migrate", GUEST, target, "--measure", "--json", *words).result["run"]
    (decided,) = json.loads((Path(run) / "migrations.json").read_text())[0]["decisions"]
    assert decided["action"] == "pause" and "the timeout is 2 s" in decided["why"]
    argv = [*LIMOSA, "policy", "replay", run, "--deadline", "2 s", "--policy-time-scale", "0.01", "--json"]
    (again,) = json.loads(subprocess.run(argv, check=True, capture_output=True, env=lab.environment).stdout)
    courses = {course["policy"]: course for course in again["courses"]}
    own, nova = courses["virsh-timeout"], courses["nova"]
    assert [step["action"]["kind"] for step in own["steps"]] == ["pause"] and own["leaves_s"] is None
    assert nova["steps"][0]["action"]["options"] == {"downtime-limit": 95} and nova["leaves_s"] >= 1.5
    assert nova["begins"] == {"downtime-limit": 50} and courses["qemu"]["steps"] == []
    page = (Path(run) / "report.html").read_text()
    assert "What the policy decided" in page and decided["why"] in page


@pytest.mark.parametrize("allowed", [MAY])
def test_a_policy_goes_over_to_post_copy_where_it_may(lab: Bench, allowed: str) -> None:
    _, target = lab.ends()
    moved = lab.migrate(target, *policy("ovirt-post-copy", 0.3, "--post-copy", allowed)).result
    assert [each["action"] for each in moved["decisions"]][-1] == "post-copy"
    assert moved["exposure_ms"] > 0
    lab.assert_once(target)


def test_auto_gives_up_what_cannot_be_within_the_limit(lab: Bench) -> None:
    """And says what would have worked."""
    source, target = lab.ends()
    said = lab.migrate(target, *policy("auto"), expect=6).result
    assert "the policy auto gives it up: pass" in said["error"] and "of it are allowed" in said["error"]
    assert "it would get across with --outage '" in said["hint"] and "--post-copy ok" in said["hint"]
    lab.assert_once(source)


@pytest.mark.parametrize("allowed", [MAY])
def test_auto_takes_what_was_allowed(lab: Bench, allowed: str) -> None:
    _, target = lab.ends()
    moved = lab.migrate(target, *policy("auto", 1.0, "--outage", "500 ms", "--post-copy", allowed)).result
    decided = moved["decisions"][-1]  # a guest that a busy machine keeps from writing may get across in a pause
    assert decided["action"] in ("post-copy", "set") and "a pause of" in decided["why"]
    assert (decided["action"] == "post-copy") == ((moved["exposure_ms"] or 0) > 0)
    lab.assert_once(target)


@pytest.mark.parametrize(
    ("words", "exit_code", "says"),
    [
        (policy("ovirt-post-copy"), 2, "--post-copy ok allows it"),
        (policy("virsh-timeout"), 2, "--deadline"),
        (policy("nova", 1.0, "--downtime-limit", "1 s"), 2, "leave downtime-limit out"),
        (policy("nova", 1.0, "--method", "post-copy"), 2, "--post-copy ok instead"),
        (("--outage", "1 s"), 2, "--policy NAME"),
        (policy("novo"), 2, "did you mean nova"),
    ],
)
def test_what_cannot_be_is_refused_beforehand(lab: Bench, words: tuple[str, ...], exit_code: int, says: str) -> None:
    source, target = lab.ends()
    ran = lab.run("migrate", GUEST, target, *words, expect=exit_code)
    assert says in ran.err
    lab.assert_once(source)


@pytest.mark.parametrize("kind", ["set", "pause", "cancel"])
def test_the_command_dies_as_the_policy_acts(lab: Bench, kind: str) -> None:
    """What was decided is on record before it is done; the next command leaves one guest that runs."""
    words = policy("nova" if kind != "pause" else "nova-force", 0.001)
    moved = Attempt(lab, lambda _source, _target: "signal:SIGKILL", f"decided-{kind}", words)
    assert read(lab.directory.journal(GUEST))[-1].action is not None
    lab.run("up")
    lab.assert_once(moved.source)


def test_the_command_dies_when_the_policy_has_paused_the_guest(lab: Bench) -> None:
    """QEMU goes on, and leaves a guest that is paused on either side: the next command lets it run."""
    words = policy("nova-force", 0.001)
    Attempt(lab, lambda _source, _target: "signal:SIGKILL", "stopped", words)
    lab.run("up")
    lab.assert_once(lab.place())


def test_a_guest_that_was_paused_runs_on_when_its_target_dies(lab: Bench) -> None:
    moved = Attempt(
        lab, lambda _source, target: f"qemu:{lab.host(target).keeper.pid}", "stopped", policy("nova-force", 0.001)
    )
    assert moved.ran.returncode == 6, moved.ran
    lab.assert_once(moved.source)


@pytest.mark.slow
@pytest.mark.parametrize("allowed", ["never", MAY])
@pytest.mark.parametrize("name", policy_table.POLICIES)
def test_each_steers_a_real_move(lab: Bench, name: str, allowed: str) -> None:
    """Wherever it ends within 20 s, the guest is there once, and every decision has its reason."""
    source, target = lab.ends()
    if policy_table.named(name).post_copy == "must" and allowed == "never":
        pytest.skip("it is nothing without post-copy")
    words = policy(name, 0.003, "--deadline", "6 s", "--post-copy", allowed, "--throttle", "50", "--timeout", "20 s")
    with lab.beside("migrate", GUEST, target, "--json", *words) as moving:
        said = json.loads(moving.communicate(timeout=120)[0])
    assert moving.returncode in (0, 6), said
    lab.assert_once(target if moving.returncode == 0 else source)
    decided = [entry for entry in read(lab.directory.journal(GUEST)) if entry.action is not None]
    assert all(entry.detail for entry in decided)
    if moving.returncode == 0:
        assert said["policy"] == name and len(said["decisions"]) == len(decided)


def test_afterwards_a_move_is_as_before(lab: Bench) -> None:
    _, target = lab.ends()
    assert lab.migrate(target, *AMPLE).result["decisions"] == []
    lab.assert_once(target)
