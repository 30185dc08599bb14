"""The labs of a user: what is called one, what all of them are told as, and the end of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.limosa_command import Command, fresh

pytestmark = pytest.mark.system

REFUSED = {
    "image": ("guests: {g: {host: host1, image: mirco}}\nhosts: {host1: {}}\n", 2, "no image 'mirco'"),
    "bridge": ("networks: {lan: {bridge: nobridge7}}\nhosts: {host1: {}}\n", 3, "nobridge7"),
    "machine": ("networks: {lan: {}}\nhosts: {host1: {kind: ssh, machine: 'nobody@127.0.0.1:1', "
                "links: {lan: br0}}}\nstorage: {shared: {path: /srv}}\n", 4, "host1"),
}  # fmt: skip
"""Labs of which nothing is made, for whatever reason that shows itself early or late."""


@pytest.fixture
def limosa(tmp_path: Path) -> Iterator[Command]:
    command = fresh(tmp_path / "home")
    yield command
    for name in command.labs:
        command.run("down", "--lab", name)


@pytest.mark.parametrize("why", REFUSED)
def test_a_refused_up_leaves_no_lab(limosa: Command, why: str) -> None:
    text, exit_code, said = REFUSED[why]
    (limosa.home / "bad.yaml").write_text(text)
    refused = limosa.run("up", "bad.yaml")
    assert refused.returncode == exit_code and said in refused.errors, refused
    assert limosa.labs == []
    assert "labs here" not in limosa.run("status", "--lab", "bad").errors
