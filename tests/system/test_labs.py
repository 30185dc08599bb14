"""The labs of a user: what is called one, what all of them are told as, and the end of all of them."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pty
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.limosa_command import Command, fresh

pytestmark = pytest.mark.system

REFUSED = {
    "image": ("guests: {g: {host: host1, image: mirco}}\nhosts: {host1: {}}\n", 2, "no image 'mirco'"),
    "bridge": ("networks: {lan: {bridge: nobridge7}}\nhosts: {host1: {}}\n", 3, "nobridge7|work as root here"),
    "machine": ("networks: {lan: {subnet: 10.9.0.0/24}}\nhosts: {host1: {kind: ssh, machine: 'nobody@127.0.0.1:1', "
                "links: {lan: br0}}}\nstorage: {shared: {path: /srv}}\n", 4, "host1"),
}  # fmt: skip
"""Labs of which nothing is made, for whatever reason that shows itself early or late. Only root looks for a bridge."""


@pytest.fixture
def limosa(tmp_path: Path) -> Iterator[Command]:
    command = fresh(tmp_path / "home")
    yield command
    for name in command.labs:
        command.run("down", "--lab", name)


def test_what_is_no_lab_is_not_taken_down_as_one(limosa: Command) -> None:
    (limosa.home / "none.yaml").write_text("name: none\nhosts: {host1: {}}\n")
    (limosa.state / "labs/none/log").mkdir(parents=True)
    assert "nothing is there of lab none" in limosa.ok("down", "none.yaml").text
    assert limosa.labs == [], "and what a killed command left is gone"
    limosa.run("down", "--lab", "none").refused(4, "there is no lab called none")


def test_every_wrong_image_is_told_at_once(limosa: Command) -> None:
    guests = "one: {host: host1, image: mirco}, two: {host: host1, image: mirco}, three: {host: host1, image: debain}"
    (limosa.home / "bad.yaml").write_text(f"hosts: {{host1: {{}}}}\nguests: {{{guests}}}\n")
    refused = limosa.run("up", "bad.yaml")
    assert refused.returncode == 2 and limosa.labs == []
    told = [line for line in refused.errors.splitlines() if line.startswith("limosa: ")]
    assert told == ["limosa: guest one: there is no image 'mirco'", "limosa: guest three: there is no image 'debain'"]


@pytest.mark.parametrize("why", REFUSED)
def test_a_refused_up_leaves_no_lab(limosa: Command, why: str) -> None:
    text, exit_code, said = REFUSED[why]
    (limosa.home / "bad.yaml").write_text(text)
    refused = limosa.run("up", "bad.yaml")
    assert refused.returncode == exit_code and re.search(said, refused.errors), refused
    assert limosa.labs == []
    assert "labs here" not in limosa.run("status", "--lab", "bad").errors


def make(limosa: Command, name: str, *words: str, guests: str = "") -> Path:
    """A lab of one host that is up."""
    file = limosa.home / f"{name}.yaml"
    file.write_text(f"name: {name}\nhosts: {{host1: {{}}}}\nguests: {{{guests}}}\n")
    limosa.ok("up", str(file), *words)
    return file


@pytest.fixture
def various(limosa: Command) -> Command:
    """Of each state a lab, and directories that are none."""
    make(limosa, "up", guests="g: {image: bare, host: host1, memory: 32 MiB, accel: tcg}")
    make(limosa, "down")
    limosa.ok("down", "--lab", "down", "--keep-disks")
    make(limosa, "lost")
    labs = limosa.state / "labs"
    (labs / "lost/record.json").unlink()
    for name, files in {"damaged": {"spec.json": "{"}, "elsewhere": {"place": "{}", "spec.json": ""}}.items():
        (labs / name).mkdir()
        for file, text in files.items():
            (labs / name / file).write_text(text)
    there = {"machine": "another", "name": "otherbox", "boot": "7", "pid_namespace": "pid:[1]", "path": "/x"}
    (labs / "elsewhere/place").write_text(json.dumps(there))
    (labs / "empty").mkdir()
    (labs / "locked").mkdir()
    (labs / "locked/lock").touch()
    return limosa


def test_all_labs_are_listed_whatever_became_of_one(various: Command) -> None:
    found = {lab["name"]: lab for lab in various.ok("ls", "--json").json}
    states = {name: lab["state"] for name, lab in found.items()}
    assert states == {
        "damaged": "damaged", "down": "down", "elsewhere": "elsewhere", "lost": "damaged", "up": "up"
    }  # fmt: skip
    assert (found["up"]["hosts"], found["up"]["guests"], found["up"]["started"]) == (["host1"], ["g"], ["g"])
    assert found["up"]["file"] == str(various.home / "up.yaml")
    for name in ("up", "down"):
        age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(found[name]["since"])
        assert 0 <= age.total_seconds() < 600, name
    assert "otherbox" in found["elsewhere"]["why"]
    assert "limosa up --lab lost" in found["lost"]["hint"]
    lines = various.ok("ls").text.splitlines()
    assert [line.split()[0] for line in lines if line and not line.startswith(" ")][:6] == ["lab", *sorted(states)]
    assert "limosa init" in various.ok("ls", XDG_STATE_HOME=str(various.home / "none")).text
    various.ok("up", "--lab", "lost")
    assert {lab["name"]: lab["state"] for lab in various.ok("ls", "--json").json}["lost"] == "up"


def test_no_host_is_logged_in_to_for_the_list(limosa: Command) -> None:
    """A machine that would take its time to say that it is not there."""
    make(limosa, "far", "--no-start")
    directory = limosa.state / "labs/far"
    spec = json.loads((directory / "spec.json").read_text())
    spec["hosts"]["host1"] |= {"kind": "ssh", "machine": "root@203.0.113.1"}
    limosa.ok("down", "--lab", "far", "--keep-disks")
    (directory / "spec.json").write_text(json.dumps(spec))
    (directory / "record.json").write_text(json.dumps({"format": 2, "up": True, "claimed": ["host1"]}))
    program = limosa.home / "bin/ssh"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {limosa.home}/asked\nexit 255\n")
    program.chmod(0o755)
    (lab,) = limosa.ok("ls", "--json", PATH=f"{program.parent}:{os.environ['PATH']}").json
    assert (lab["state"], lab["hosts"]) == ("up", ["host1"])
    assert not (limosa.home / "asked").exists()
    shutil.rmtree(directory)


def test_all_go_down_and_one_that_fails_keeps_none_of_the_others(various: Command) -> None:
    refused = various.run("down", "--all")
    refused.refused(7, "5 labs would be taken down: damaged, down, elsewhere, lost, up", hint="--all --yes")
    assert len(various.ok("ls", "--json").json) == 5, "nobody could be asked, so nothing was done"
    done = various.run("down", "--all", "--yes", "--json")
    assert done.returncode == 4, done
    assert done.json["down"] == ["damaged", "down", "lost", "up"]
    assert list(done.json["failed"]) == ["elsewhere"] and "otherbox" in done.json["failed"]["elsewhere"]["error"]
    again = various.run("down", "--all", "--yes")
    assert again.returncode == 4 and "not wholly down: elsewhere" in again.text, again
    assert again.errors.count("limosa: ") == 1 and "  hint: " in again.errors
    shutil.rmtree(various.state / "labs/elsewhere")
    assert various.ok("down", "--all").text == "nothing to do: there is no lab\n"
    various.run("down", "--all", "--lab", "up").refused(2, "--all means every lab")


@pytest.mark.parametrize(("answer", "exit_code", "left"), [(b"n\n", 1, ["one"]), (b"\n", 1, ["one"]), (b"y\n", 0, [])])
def test_on_a_terminal_it_asks(limosa: Command, answer: bytes, exit_code: int, left: list[str]) -> None:
    make(limosa, "one")
    ours, theirs = pty.openpty()
    process = limosa.begin("down", "--all", stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(ours, 1000)
    assert b"Take the lab one down, and delete the guests' disks?" in said
    os.write(ours, answer)
    with contextlib.suppress(OSError):
        while os.read(ours, 1000):
            pass
    assert process.wait(60) == exit_code
    os.close(ours)
    assert [lab["name"] for lab in limosa.ok("ls", "--json").json] == left
