"""``limosa up`` of several guests: side by side, each for itself, and ended cleanly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import boot_sector
from tests.limosa_command import Command, Traces, fresh

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU alone: guests boot one after another"),
]

LAB = """
name: several
hosts: {host1: {}, host2: {}}
guests:
  mute: {host: host1, memory: 64 MiB, accel: tcg, image: {path: boot.raw, format: raw}}
  web: {host: host2, memory: 256 MiB, accel: tcg}
"""
"""The first guest's system never lets anybody log in, so whoever waited for it would not begin the second for long."""


@pytest.fixture
def limosa(tmp_path: Path) -> Iterator[Command]:
    command = fresh(tmp_path / "home")
    traces = Traces(command.home)
    boot_sector.make(command.home)
    (command.home / "several.yaml").write_text(LAB)
    yield command
    command.ok("down", "--lab", "several")
    traces.assert_gone(within_s=5)


def test_a_guest_that_does_not_come_up_holds_up_no_other_and_an_interruption_ends_all(limosa: Command) -> None:
    said = limosa.home / "said"
    with said.open("wb") as errors:
        up = limosa.begin("up", "several.yaml", stdout=subprocess.DEVNULL, stderr=errors)
        try:
            end = time.monotonic() + 300
            while not re.search(r"^boot web: [0-9.]+ s$", said.read_text(), re.MULTILINE):
                assert up.poll() is None and time.monotonic() < end, said.read_text()
                time.sleep(0.2)
            assert "boot mute" not in said.read_text(), "it is waited for still"
            assert limosa.ok("ssh", "web", "hostname").text.strip() == "web"
            limosa.run("stop", "mute").refused(5, "guest mute is busy", hint="wait")
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(60) == 130
    assert "Traceback" not in said.read_text() and "boot mute: failed after" in said.read_text()
    assert "mute goes on booting; limosa logs mute" in said.read_text()
    states = {guest["name"]: guest["state"] for guest in limosa.ok("status", "--json").json["guests"]}
    assert states == {"mute": "running", "web": "running"}, "what was begun goes on"
    assert limosa.ok("up", "several.yaml").text == "nothing to do: the lab is up\n"
