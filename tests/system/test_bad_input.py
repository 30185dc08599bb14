"""What goes wrong by what a person wrote or by what stands: one sentence, a hint, the documented exit code.

Driven through the real command line; nothing that runs is harmed by a refusal.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.limosa_command import Command, Traces

pytestmark = pytest.mark.system

TWO = "hosts: {host1: {}, host2: {memory: 160 MiB}}"
LAB = f"""\
name: bad
{TWO}
guests:
  guest1: {{image: bare, host: host1, memory: 128 MiB}}
  guest2: {{image: bare, host: host1, memory: 256 MiB}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Command]:
    """A lab of two hosts with two bare guests that run on the first; the second host is too small for guest2."""
    home = Path(tempfile.mkdtemp(prefix="limosa-bad-"))
    command, traces = Command(home), Traces(home)
    (home / "bad.yaml").write_text(LAB)
    command.ok("up", "bad.yaml")
    yield command
    command.ok("down", "--lab", "bad")
    traces.assert_gone(within_s=0)
    shutil.rmtree(home)


@pytest.fixture
def alone(tmp_path: Path) -> Command:
    """A command without any lab."""
    return Command(tmp_path)


@pytest.mark.parametrize(("text", "words", "hint"), [
    (f"{TWO}\ngests: {{}}\n", ("x.yaml:2: gests: unknown key, did you mean 'guests'?",), "a lab file has"),
    (f"{TWO}\nguests: {{g: {{host: host1, memory: 512}}}}\n", ("x.yaml:2:", "memory: ", "without a unit"), "docs"),
    (f"{TWO}\nguests: {{g: {{host: host1, cpus: two}}}}\n", ("x.yaml:2:", "expected a whole number"), "docs"),
    (f"{TWO}\nguests: {{g: {{host: hots1}}}}\n", ("x.yaml:2:", "there is no host 'hots1', did you mean"), "host1"),
    (
        f"{TWO}\nguests:\n  g: {{host: host1, address: 10.77.1.100}}\n  h: {{host: host1, address: 10.77.1.100}}\n",
        ("x.yaml:4:", "10.77.1.100 is already taken by guests.g.address in line 3"),
        "10.77.1.101 is free",
    ),
    (
        f"{TWO}\nguests:\n  g: {{host: host1, disk: {{source: none.raw}}}}\n",
        ("x.yaml:3:", "guests.g.disk.source:", "none.raw does not exist"),
        "relative path",
    ),
    ("hosts: [\n", ("not valid YAML",), "brackets"),
    ("", ("is empty",), "the shortest lab"),
], ids=["misspelt", "type", "number", "host", "address", "disk", "yaml", "empty"])  # fmt: skip
def test_lab_file(alone: Command, text: str, words: tuple[str, ...], hint: str) -> None:
    (alone.home / "x.yaml").write_text(text)
    alone.run("up", "x.yaml").refused(2, *words, hint=hint)
    assert alone.labs == []


@pytest.mark.parametrize(("arguments", "exit_code", "word", "hint"), [
    (("migrate", "guest1", "host1"), 4, "guest guest1 is on host1 already", "other hosts: host2"),
    (("migrate", "guest1", "hots2"), 2, "there is no host called hots2", "did you mean host2?"),
    (("migrate", "guest1", "host3"), 2, "there is no host called host3", "the lab has: host1, host2"),
    (("migrate", "gest1", "host2"), 2, "there is no guest called gest1", "did you mean guest1?"),
    (("migrate", "guest2", "host2"), 3, "host2 has no room for guest2: it needs 256 MiB, 160 MiB are left", "memory"),
    (("migrate", "guest1", "host2", "--timeout", "3 parsecs"), 2, "--timeout: ", "--timeout '30 s'"),
    (("migrate", "guest1", "host2", "--max-bandwidth", "fast"), 2, "--max-bandwidth: ", "--max-bandwidth '100 MiB/s'"),
    (("migrate", "guest1", "host2", "--downtime-limit", "3000 s"), 2, "'3000 s' is more than 2000 s: QEMU takes no",
     "--downtime-limit '300 ms'"),
    (("migrate", "guest1", "host2", "--max-bandwidth", "5 B/s"), 2,
     "'5 B/s' is less than 40 KiB/s: QEMU sends at least", "--max-bandwidth '100 MiB/s'"),
    (("start", "gest1"), 2, "there is no guest called gest1", "did you mean guest1?"),
    (("stop", "nobody"), 2, "there is no guest called nobody", "the lab has: guest1, guest2"),
    (("ssh", "guest1", "--", "true"), 4, "guest guest1 has no network", "limosa console guest1"),
    (("console", "guest1"), 4, "the console needs a terminal", "limosa logs guest1"),
    (("exec", "hots1", "--", "true"), 2, "there is no host called hots1", "did you mean host1?"),
    (("logs", "hots1"), 2, "there is no guest or host called hots1", "did you mean host1?"),
    (("explain", "gest1"), 2, "there is no guest called gest1", "did you mean guest1?"),
    (("explain",), 2, "explain what?", "limosa explain GUEST"),
    (("calibrate", "guest1"), 4, "guest guest1 has neither an agent nor a network", "micro"),
    (("host", "cut", "hots1"), 2, "there is no host called hots1", "did you mean host1?"),
    (("host", "restore", "hots1"), 2, "there is no host called hots1", "did you mean host1?"),
    (("status", "--lab", "nowhere"), 4, "there is no lab called nowhere", "labs here: bad"),
    (("down", "--lab", "nowhere"), 4, "there is no lab called nowhere", "labs here: bad"),
    (("up", "none.yaml"), 2, "none.yaml: no such file", "bad.yaml"),
    (("report", "/"), 4, "/ is not a run", "limosa demo"),
    (("report", "20990101"), 4, "there is no run 20990101", "limosa demo"),
    (("statsu",), 2, "there is no verb statsu", "did you mean limosa status?"),
    (("host", "cutt"), 2, "there is no verb cutt", "did you mean limosa host cut?"),
    (("status", "--jsn"), 2, "limosa status has no option --jsn", "did you mean --json?"),
    (("migrate", "guest1"), 2, "missing argument HOST", "usage: limosa migrate"),
    (("migrate", "guest1", "host2", "host3"), 2, "got unexpected extra argument", "usage: limosa migrate"),
    (("logs", "--lines", "few"), 2, "--lines: 'few' is not a whole number", "usage: limosa logs"),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else None)  # fmt: skip
def test_refusal(lab: Command, arguments: tuple[str, ...], exit_code: int, word: str, hint: str) -> None:
    lab.run(*arguments).refused(exit_code, word, hint=hint)


def test_refusals_harmed_nothing(lab: Command) -> None:
    guests = lab.ok("status", "--json").json["guests"]
    assert [(guest["state"], guest["host"]) for guest in guests] == [("running", "host1")] * 2


@pytest.mark.parametrize("arguments", [
    ("migrate", "gest1", "host2"), ("status", "--lab", "nowhere"), ("statsu",), ("status", "--jsn"), ("migrate",),
    ("report", "/"),
], ids=" ".join)  # fmt: skip
def test_error_is_a_json_document(lab: Command, arguments: tuple[str, ...]) -> None:
    plain, done = lab.run(*arguments), lab.run(*arguments, "--json")
    assert done.returncode == plain.returncode
    assert set(done.json) == {"error", "hint", "exit_code"}
    assert done.json["exit_code"] == done.returncode
    assert plain.errors.splitlines()[0] == f"limosa: {done.json['error']}"
    assert done.json["hint"]


def test_migrate_to_a_host_that_is_off(lab: Command) -> None:
    lab.ok("host", "power-off", "host2")
    lab.run("migrate", "guest1", "host2").refused(4, "host host2 is off", hint="limosa host restore host2")
    lab.run("host", "power-off", "host2").refused(4, "host host2 is off", hint="limosa host restore host2")
    lab.ok("host", "restore", "host2")
    lab.ok("migrate", "guest1", "host2")
    lab.ok("migrate", "guest1", "host1")


def test_migrate_to_a_host_that_is_cut_off(lab: Command) -> None:
    lab.ok("host", "cut", "host2")
    refused = lab.run("migrate", "guest1", "host2")
    lab.ok("host", "restore", "host2")
    refused.refused(4, "host host2 is cut off from the network", hint="limosa host restore host2")


def test_verbs_on_a_stopped_guest(lab: Command) -> None:
    lab.ok("stop", "guest2")
    for arguments in (("migrate", "guest2", "host2"), ("ssh", "guest2")):
        lab.run(*arguments).refused(4, "guest guest2 does not run", hint="limosa start guest2")
    assert lab.run("console", "guest2", "--json").json["error"] == "guest guest2 does not run"
    lab.ok("start", "guest2")


def test_reader_that_goes_away(lab: Command) -> None:
    for arguments in (("status",), ("schema",), ("status", "--json")):
        line = " ".join([*lab.argv(*arguments), "| head -n 0; exit ${PIPESTATUS[0]}"])
        done = subprocess.run(["bash", "-c", line], env=lab.env(), cwd=lab.home, capture_output=True, check=False)
        assert (done.returncode, done.stderr) in ((141, b""), (0, b"")), done
    # A migration goes on to its end although nobody hears of its progress.
    line = " ".join([*lab.argv("migrate", "guest1", "host2"), "2>&1 >/dev/null | head -n 0; exit ${PIPESTATUS[0]}"])
    done = subprocess.run(["bash", "-c", line], env=lab.env(), cwd=lab.home, capture_output=True, check=False)
    assert done.returncode == 0, done
    lab.ok("migrate", "guest1", "host1")


def test_second_up_at_the_same_moment(alone: Command) -> None:
    (alone.home / "two.yaml").write_text("hosts: {host1: {}, host2: {}}\n")
    both = [alone.begin("up", "two.yaml") for _ in range(2)]
    ended = [(child.communicate()[1].decode(), child.returncode) for child in both]
    assert sorted(code for _, code in ended) in ([0, 5], [0, 0]), ended
    for said, code in ended:
        if code == 5:
            assert "limosa: lab two is busy: limosa up (pid " in said
            assert "  hint: wait for it to end" in said
    status = alone.ok("status", "--json").json
    assert [host["state"] for host in status["hosts"]] == ["on", "on"]
    alone.ok("down", "two.yaml")
    Traces(alone.home).assert_gone(within_s=0)


def test_lab_that_is_held_is_busy(lab: Command) -> None:
    with (lab.state / "labs" / "bad" / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lab.run("up", "bad.yaml").refused(5, "lab bad is busy", hint="wait for it to end")
        lab.run("down", "bad.yaml").refused(5, "lab bad is busy", hint="wait for it to end")
    with (lab.state / "labs" / "bad" / "guests" / "guest1" / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lab.run("stop", "guest1").refused(5, "guest guest1 is busy", hint="wait for it to end")


def test_edited_lab_file_is_not_the_running_lab(lab: Command) -> None:
    file = lab.home / "bad.yaml"
    file.write_text(LAB.replace("128 MiB", "64 MiB"))
    try:
        refused = lab.run("up", "bad.yaml")
        refused.refused(4, "lab bad is up, made from another description", hint="limosa down --lab bad")
    finally:
        file.write_text(LAB)


@pytest.mark.parametrize("verb", ["up", "down"])
@pytest.mark.parametrize("text", [LAB, LAB.replace("128 MiB", "64 MiB")])
def test_another_file_of_the_same_name_never_means_the_running_lab(lab: Command, verb: str, text: str) -> None:
    (lab.home / "bad2.yaml").write_text(text)
    refused = lab.run(verb, "bad2.yaml")
    refused.refused(4, "lab bad is up, made from", "bad.yaml, not from", hint="name: bad-2")
    assert "limosa down" not in refused.errors
    lab.ok("status", "--lab", f"../{lab.home.name}/./bad.yaml")


@pytest.mark.parametrize(("file", "damage"), [
    ("record.json", "{"), ("record.json", '{"ephemeral": "yes"}'), ("spec.json", ""), ("spec.json", "\x00\x01"),
])  # fmt: skip
def test_damaged_lab_is_told_and_can_be_taken_down(alone: Command, file: str, damage: str) -> None:
    (alone.home / "dam.yaml").write_text("hosts: {host1: {}}\n")
    traces = Traces(alone.home)
    alone.ok("up", "dam.yaml")
    traces.look()
    (alone.state / "labs" / "dam" / file).write_text(damage)
    for arguments in (("status",), ("status", "--lab", "dam"), ("exec", "host1", "--", "true")):
        done = alone.run(*arguments)
        if file == "record.json":  # what runs tells the same
            assert (done.returncode, "Traceback" in done.errors) == (0, False), done
        else:
            done.refused(4, file, "is damaged", hint="limosa down --lab dam")
    assert len(traces.members) >= 2
    alone.ok("down", "--lab", "dam")
    traces.assert_gone(within_s=0)


def test_a_copy_that_is_nowhere_is_not_taken_for_the_guest(lab: Command) -> None:
    done = lab.ok("stop", "guest1", "--host", "host2")
    assert done.text == "nothing to do: guest1 does not run on host2\n"


def test_damaged_guest_record(lab: Command) -> None:
    record = lab.state / "labs" / "bad" / "guests" / "guest2" / "record.json"
    record.write_text("{")
    one, two = lab.ok("status", "--json").json["guests"]
    assert (one["state"], one["unfinished"], one["hint"]) == ("running", "", "")
    assert two["state"] == "running" and "record.json is damaged" in two["unfinished"]
    assert two["hint"].startswith("limosa stop guest2 --force")
    for host in ("host2", "host1"):  # the other guest has nothing to do with it
        lab.ok("migrate", "guest1", host)
    lab.run("migrate", "guest2", "host2").refused(4, "record.json is damaged", hint="limosa stop guest2 --force")
    lab.ok("stop", "guest2", "--force")
    lab.ok("start", "guest2")


@pytest.mark.parametrize(("file", "text", "exit_code"), [
    ("run.json", "{", 1), ("run.json", '{"format": 99}', 4), ("migrations.json", "[{}]", 1),
    ("environment.json", "", 1),
])  # fmt: skip
def test_report_of_a_damaged_run(alone: Command, file: str, text: str, exit_code: int) -> None:
    from tests import run_sample

    run = run_sample.demo(alone.state / "runs" / "20260101-000000-demo-lab")
    (run / file).write_text(text)
    done = alone.run("report", str(run))
    assert "Traceback" not in done.errors
    done.refused(exit_code, file)


def test_killed_up_leaves_what_down_can_end(alone: Command) -> None:
    """The maker is killed while it makes hosts: whatever it had recorded, down ends it all."""
    (alone.home / "half.yaml").write_text("hosts: {host1: {}, host2: {}, host3: {}, host4: {}}\n")
    traces = Traces(alone.home)
    for wait_s in (0.35, 0.5, 0.7):
        child = alone.begin("up", "half.yaml")
        try:
            child.wait(wait_s)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        traces.look()
        alone.ok("up", "half.yaml")
        states = [host["state"] for host in json.loads(alone.ok("status", "--json").out)["hosts"]]
        assert states == ["on"] * 4
        traces.look()
        alone.ok("down", "half.yaml")
        traces.assert_gone(within_s=0)
