"""``up`` makes what can be made, and says what could not and what was made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.limosa_command import Command, fresh

pytestmark = pytest.mark.system

LAB = """
name: partial
hosts: {host1: {}}
guests:
  big: {image: bare, host: host1, memory: 400 GiB, accel: tcg}
  small: {image: bare, host: host1, memory: 64 MiB, accel: tcg}
  huge: {image: bare, host: host1, memory: 401 GiB, accel: tcg}
"""


@pytest.fixture
def limosa(tmp_path: Path) -> Iterator[Command]:
    command = fresh(tmp_path / "home")
    (command.home / "partial.yaml").write_text(LAB)
    yield command
    command.ok("down", "--lab", "partial")


def test_a_guest_that_cannot_start_keeps_no_other(limosa: Command) -> None:
    up = limosa.run("up", "partial.yaml")
    assert up.returncode == 3 and "Traceback" not in up.errors
    assert up.text == "made: fabric, host host1, guest small\n"
    told = [line for line in up.errors.splitlines() if line.startswith(("limosa: ", "  hint: "))]
    assert [word for line in told for word in ("big", "hint", "huge") if word in line] == [
        "big",
        "hint",
        "huge",
        "hint",
    ]
    again = limosa.run("up", "partial.yaml", "--json")
    assert again.returncode == 3 and "no room for big" in again.json["error"] and "made" not in again.json
    assert again.json["about"] == "guest big"
    (other,) = again.json["others"]
    assert other["about"] == "guest huge" and "no room for huge" in other["error"] and other["exit_code"] == 3
