"""Containers of which nobody can say whether they run: frozen ones, and those of a daemon that is away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import daemons
from tests.limosa_command import Command

pytestmark = pytest.mark.system

LAB = """
name: silent
networks:
  lan: {{subnet: 10.83.0.0/24, bridge: {bridge}, client: 10.83.0.1}}
storage:
  nfs: {{kind: volume, mount: /mnt/nfs}}
hosts:
  host1: {{kind: {kind}, image: tiny, addresses: {{lan: 10.83.0.11}}}}
  host2: {{kind: {kind}, image: tiny, addresses: {{lan: 10.83.0.12}}}}
guests:
  guest1: {{image: bare, host: host1, memory: 32 MiB, accel: tcg}}
"""


@pytest.fixture(scope="module", params=daemons.PARAMETERS)
def daemon(request: pytest.FixtureRequest) -> Iterator[daemons.Daemon]:
    with daemons.running(request.param) as daemon:
        yield daemon


@pytest.fixture
def limosa(daemon: daemons.Daemon) -> Iterator[Command]:
    """The command line, and the lab that is meant, which is up."""
    with tempfile.TemporaryDirectory(prefix="lc", dir="/tmp") as home:
        file = Path(home, "silent.yaml")
        file.write_text(LAB.format(kind=daemon.flavour.name, bridge=daemon.flavour.bridge))
        named = {**daemon.variables, "LIMOSA_LAB": str(file)}
        limosa = Command(Path(home), tuple(daemon.enter([])), environment=named)
        limosa.ok("up")
        yield limosa
        limosa.ok("down")
        assert daemon.client("list", "--format", "csv", "-c", "n") == "" and limosa.labs == []


def states(limosa: Command) -> tuple[dict[str, str], tuple[str, str]]:
    told = limosa.ok("status", "--json").json
    [guest] = told["guests"]
    return {host["name"]: host["state"] for host in told["hosts"]}, (guest["state"], guest["host"])


def test_a_frozen_container_is_not_off(limosa: Command, daemon: daemons.Daemon) -> None:
    daemon.client("pause", "silent-host1")
    try:
        assert states(limosa) == ({"host1": "no answer", "host2": "on"}, ("unknown", "host1"))
        moved = limosa.run("migrate", "guest1", "host2")
        moved.refused(7, "guest1 may run on host1", "is frozen", hint=f"{daemon.flavour.client} start silent-host1")
        limosa.run("up").refused(3, "is frozen", hint=f"{daemon.flavour.client} start silent-host1")
    finally:
        daemon.client("start", "silent-host1")
    assert states(limosa) == ({"host1": "on", "host2": "on"}, ("running", "host1"))


def test_a_container_that_was_switched_off_is_off(limosa: Command, daemon: daemons.Daemon) -> None:
    daemon.client("stop", "--force", "silent-host2")
    assert states(limosa) == ({"host1": "on", "host2": "off"}, ("running", "host1"))
    limosa.run("migrate", "guest1", "host2").refused(4, "host2 is off", hint="limosa host restore host2")
    limosa.ok("host", "restore", "host2")
    limosa.ok("migrate", "guest1", "host2")


def test_what_a_daemon_has_that_is_away_is_not_forgotten(limosa: Command, daemon: daemons.Daemon) -> None:
    elsewhere = {daemon.flavour.directory_variable: str(limosa.home)}
    away = replace(limosa, environment={**limosa.environment, **elsewhere})
    assert states(away) == ({"host1": "no answer", "host2": "no answer"}, ("unknown", "host1"))
    away.run("up").refused(3, "daemon answers")
    assert states(limosa) == ({"host1": "on", "host2": "on"}, ("running", "host1"))
    away.run("down").refused(4, "not wholly down", "container silent-host1", hint="--forget host1 --forget host2")
    assert sorted(daemon.client("list", "--format", "csv", "-c", "n").split()) == ["silent-host1", "silent-host2"]
    assert states(away)[1] == ("unknown", "host1")
