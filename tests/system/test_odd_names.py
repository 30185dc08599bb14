"""Directories with the signs that shells, ssh, QEMU and YAML take for their own: every main verb works in them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_guest_verbs import Terminal

from limosa import process
from limosa.bench.programs import program
from limosa.events import Events
from limosa.guest import built_images
from limosa.guest.agent import executable
from tests.limosa_command import Command, Traces, with_own_cache

pytestmark = pytest.mark.system

ODD = 'it\'s "100%" of a,b=>c; %d %% ${HOME} $(id) `id` \\n \\ & | * ? # [x] {y} ~ : @@ -o é'
"""What a folder may be called by a person, or by a program that went wrong."""

LAB = """\
name: odd
hosts: {host1: {}, host2: {}}
storage: {shared: {kind: directory}}
guests:
  guest1: {host: host1, memory: 256 MiB, disk: {format: qcow2}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Command]:
    """A lab whose file, state and cache lie in folders of that name, the image built there too."""
    top = Path(tempfile.mkdtemp(prefix="limosa-odd-"))
    home = top / ODD
    home.mkdir()
    command, traces = with_own_cache(home), Traces(home)
    (home / "the lab.yaml").write_text(LAB)
    command.ok("up", "the lab.yaml", timeout_s=480)
    traces.look()
    yield command
    command.ok("down", "--lab", "odd")
    traces.assert_gone(within_s=0)
    shutil.rmtree(top)


def test_what_is_run_elsewhere(lab: Command) -> None:
    assert lab.ok("ssh", "guest1", "--", "hostname").text == "guest1\n"
    assert lab.ok("ssh", "guest1", "--json", "--", "hostname").json["stdout"] == "guest1\n"
    assert lab.ok("exec", "host1", "--", "hostname").text == "host1\n"
    assert lab.ok("exec", "client", "--", "cat", str(lab.home / "the lab.yaml")).text == LAB


def test_what_is_shown(lab: Command) -> None:
    status = lab.ok("status", "--json").json
    assert status["file"] == str(lab.home / "the lab.yaml")
    assert lab.ok("status", "--lab", str(lab.home / "the lab.yaml")).text.startswith("lab odd: up")
    assert lab.ok("logs", "guest1").text
    assert lab.ok("explain", "guest1").text
    images = lab.ok("image", "list", "--json").json
    assert images and all(image["directory"].startswith(str(lab.home)) for image in images)


def test_the_console(lab: Command) -> None:
    with Terminal(lab, "guest1") as terminal:
        terminal.read_until(b"Ctrl-] leaves")
        terminal.type(b"\r")
        terminal.read_until(b"guest1")


def test_a_guest_that_moves_stops_and_starts(lab: Command) -> None:
    lab.ok("migrate", "guest1", "host2")
    lab.ok("stop", "guest1", "--force")
    lab.ok("start", "guest1", timeout_s=240)
    assert lab.ok("ssh", "guest1", "--", "hostname").text == "guest1\n"


def test_the_demo_and_its_report(lab: Command) -> None:
    done = lab.run("demo", "--lab", "the lab.yaml", "--json", timeout_s=300)
    assert (done.returncode, done.json["passed"]) == (0, True), done
    tables = lab.home / "tables #1"
    tables.mkdir()
    made = lab.ok("report", "--csv", "--output", str(tables), "--json", timeout_s=240).json["files"]
    assert str(tables / "migrations.csv") in made and all(Path(file).stat().st_size for file in made)


async def test_the_guests_own_programs_run_here(lab: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(lab.home / "cache"))
    found = await program(
        await built_images.ensure("micro", Events(), agent=await executable.ensure(Events())), "iperf3"
    )
    assert found.root.is_relative_to(lab.home) and len(found.files) > 3, found
    assert (await process.run(found.command("--version"))).text.startswith("iperf 3")


def test_a_disk_that_lies_beside_the_lab_file(lab: Command) -> None:
    [image] = [row for row in lab.ok("image", "list", "--json").json if row["name"].startswith("micro")]
    shutil.copy(Path(image["directory"], "disk.raw"), lab.home / "a,b disk:1.raw")
    (lab.home / "bare lab.yaml").write_text(json.dumps({
        "name": "odd-disk",
        "hosts": {"host1": {}, "host2": {}},
        "guests": {"g": {"host": "host1", "memory": "256 MiB", "disk": {"source": "a,b disk:1.raw", "format": "raw"}}},
    }))  # fmt: skip
    try:
        lab.ok("up", "bare lab.yaml", timeout_s=240)
        lab.ok("migrate", "g", "host2", "--lab", "odd-disk")
    finally:
        lab.ok("down", "--lab", "odd-disk")
