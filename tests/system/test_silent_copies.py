"""A guest on machines over SSH is started once, wherever a command was killed and whichever machine falls silent."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from limosa.migration.journal import Phase
from tests import sshd
from tests.limosa_command import Command
from tests.ssh_machine import SFTP
from tests.ssh_servers import Servers, servers_of

pytestmark = pytest.mark.system

LAB = """
name: pair
networks: {lan: {subnet: 10.77.1.0/24}}
storage: {shared: {path: /srv/vms}}
hosts:
  host1: {kind: ssh, machine: server1, links: {lan: br0}}
  host2: {kind: ssh, machine: server2, links: {lan: br0}}
guests:
  bare: {image: bare, host: host1, memory: 64 MiB, accel: tcg}
"""
DRIVER = Path(__file__).with_name("move_driver.py")


@pytest.fixture(scope="module")
def servers(runner: asyncio.Runner) -> Iterator[Servers]:
    with servers_of(runner, "copies-ssh") as opened:
        (opened.home / "pair.yaml").write_text(LAB)
        yield opened


@pytest.fixture
def command(servers: Servers) -> Iterator[Command]:
    yield (desk := replace(servers.command, environment={"LIMOSA_LAB": str(servers.home / "pair.yaml")}))
    desk.run("down")


def qemus(servers: Servers, runner: asyncio.Runner) -> list[int]:
    """How many QEMUs there are on each server."""
    look = ["sh", "-c", "cat /proc/[0-9]*/comm | grep -c qemu-system"]
    return [int(runner.run(servers.machine(f"server{n}").run(look, check=False)).text) for n in (1, 2)]


def killed_at(desk: Command, step: Phase) -> None:
    """A ``migrate`` that is killed when its journal has said *step*."""
    words = ["signal:SIGKILL", step.value, "--", "migrate", "bare", "host2", "--downtime-limit", "5 s"]
    argv = [*desk.prefix, sys.executable, str(DRIVER), *words]
    done = subprocess.run(argv, env=desk.env(), cwd=desk.home, capture_output=True)
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done


def state(desk: Command) -> tuple[str, str]:
    (guest,) = desk.ok("status", "--json").json["guests"]
    return guest["state"], guest["host"]


@pytest.mark.parametrize(
    "step",
    [
        Phase.SWITCHED,
        pytest.param(Phase.ENDING_SOURCE, marks=pytest.mark.slow),
        pytest.param(Phase.COMPLETED, marks=pytest.mark.slow),
    ],
)
def test_no_second_copy_is_started_while_the_first_is_out_of_sight(
    command: Command, servers: Servers, runner: asyncio.Runner, step: Phase
) -> None:
    command.ok("up")
    killed_at(command, step)
    if step is Phase.COMPLETED:
        assert qemus(servers, runner) == [0, 1]
    before = qemus(servers, runner)
    runner.run(servers.machine("server2").run(["pkill", "-KILL", "sshd"], check=False))
    try:
        assert state(command)[0] not in {"stopped", "running"}
        for verb in (("start", "bare"), ("stop", "bare"), ("stop", "bare", "--force"), ("migrate", "bare", "host2")):
            if step is not Phase.COMPLETED and "--force" in verb:
                continue  # what is reached is ended by that word
            done = command.run(*verb)
            assert done.returncode == 7 and "host2" in done.errors, done
        assert command.run("up").returncode != 0
        assert qemus(servers, runner) == before, "nothing was started, and nothing was ended"
    finally:
        address = servers.lab.spec.hosts["server2"].addresses["lan"]
        runner.run(sshd.serve(servers.machine("server2"), servers.home / ".ssh", address=address, extra=SFTP))
    command.ok("start", "bare")
    assert qemus(servers, runner) == [0, 1] and state(command) == ("running", "host2")


@pytest.mark.parametrize("lost", [pytest.param("limosa.json", marks=pytest.mark.slow), ""])
def test_no_second_copy_is_started_where_a_machine_has_lost_the_labs_mark(
    command: Command, servers: Servers, runner: asyncio.Runner, lost: str
) -> None:
    """As when what is old is cleared from /tmp, or another login is asked: the machine answers and knows of no lab."""
    command.ok("up")
    command.ok("migrate", "bare", "host2", "--downtime-limit", "5 s")
    runner.run(servers.machine("server2").run(["rm", "-rf", f"/run/limosa-pair/{lost}"]))
    assert state(command) == ("unknown", "host2")
    for verb in (("start", "bare"), ("stop", "bare"), ("migrate", "bare", "host1")):
        command.run(*verb).refused(7, "bare runs on host2", hint="limosa stop bare --host host2 --force")
    assert qemus(servers, runner) == [0, 1]
    if lost:
        command.ok("stop", "bare", "--host", "host2", "--force")
        command.ok("start", "bare")
        assert qemus(servers, runner) == [1, 0]
        command.run("up").refused(4, "belongs to nobody that limosa knows", hint="rm -r /run/limosa-pair")
        runner.run(servers.machine("server2").run(["rm", "-r", "/run/limosa-pair"]))
        command.ok("up")
    else:
        command.ok("down")
        assert qemus(servers, runner) == [0, 0]


FAILS = """
from limosa.__main__ import main
from limosa.errors import LimosaError
from limosa.lab.construction import Construction
async def have(self, name):
    raise LimosaError(f"{name} cannot be had")
Construction._have = have
main()
"""


def test_an_up_that_fails_ends_nothing_that_it_did_not_make(
    command: Command, servers: Servers, runner: asyncio.Runner
) -> None:
    command.ok("up")
    names = ("server1", "server2")
    for name in names:
        runner.run(servers.machine(name).run(["pkill", "-KILL", "sshd"], check=False))
    command.run("down").refused(4, "not wholly down", hint="--forget host1 --forget host2")
    for name in names:
        address = servers.lab.spec.hosts[name].addresses["lan"]
        runner.run(sshd.serve(servers.machine(name), servers.home / ".ssh", address=address, extra=SFTP))
    argv = [*command.prefix, sys.executable, "-c", FAILS, "up"]
    done = subprocess.run(argv, env=command.env(), cwd=command.home, capture_output=True, text=True)
    assert done.returncode == 1 and "host1 cannot be had" in done.stderr, done
    assert qemus(servers, runner) == [1, 0]
    command.ok("up")
    assert qemus(servers, runner) == [1, 0] and state(command) == ("running", "host1")


def test_a_person_gives_up_what_is_out_of_sight(command: Command, servers: Servers, runner: asyncio.Runner) -> None:
    """The word of who is sure is taken; a copy that is there after all is said by every verb, and none is moved."""
    command.ok("up")
    command.ok("migrate", "bare", "host2", "--downtime-limit", "5 s")
    runner.run(servers.machine("server2").run(["pkill", "-KILL", "sshd"], check=False))
    try:
        refused = command.run("start", "bare")
        refused.refused(7, "may run on host2", hint="limosa stop bare --host host2 --force")
        command.ok("stop", "bare", "--host", "host2", "--force")
        command.ok("start", "bare")
    finally:
        address = servers.lab.spec.hosts["server2"].addresses["lan"]
        runner.run(sshd.serve(servers.machine("server2"), servers.home / ".ssh", address=address, extra=SFTP))
    assert qemus(servers, runner) == [1, 1], "the person was wrong"
    (guest,) = command.ok("status", "--json").json["guests"]
    assert "host1" in guest["unfinished"] and "host2" in guest["unfinished"]
    for verb in (("start", "bare"), ("migrate", "bare", "host2")):
        command.run(*verb).refused(7, "host1", "host2", hint="limosa stop bare --host HOST --force")
    command.ok("stop", "bare", "--host", "host2", "--force")
    assert qemus(servers, runner) == [1, 0] and state(command) == ("running", "host1")
