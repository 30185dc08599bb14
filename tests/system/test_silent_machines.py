"""A machine over SSH that falls silent: nothing is claimed of it, the rest goes on, and nothing on it is forgotten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from limosa.lab.record import LabDirectory
from tests import sshd
from tests.limosa_command import Command
from tests.ssh_machine import SFTP
from tests.ssh_servers import Servers, servers_of

pytestmark = pytest.mark.system

LAB = """
name: three
networks: {lan: {subnet: 10.77.1.0/24}}
storage: {shared: {path: /srv/vms}}
hosts:
  host1: {kind: ssh, machine: server1, links: {lan: br0}}
  host2: {kind: ssh, machine: server2, links: {lan: br0}}
  host3: {kind: ssh, machine: server3, links: {lan: br0}}
migration: {options: {downtime-limit: 5 s}}
guests:
  guest1: {image: bare, host: host1, memory: 64 MiB, accel: tcg}
  guest2: {image: bare, host: host2, memory: 64 MiB, accel: tcg}
  guest3: {image: bare, host: host3, memory: 64 MiB, accel: tcg}
"""


@pytest.fixture(scope="module")
def servers(runner: asyncio.Runner) -> Iterator[Servers]:
    with servers_of(runner, "silent", count=3) as opened:
        (opened.home / "three.yaml").write_text(LAB)
        yield opened


@pytest.fixture
def command(servers: Servers, runner: asyncio.Runner) -> Iterator[Command]:
    """``limosa`` at the desk; the lab's file is the one that is meant."""
    yield (desk := replace(servers.command, environment={"LIMOSA_LAB": str(servers.home / "three.yaml")}))
    for name in servers.lab.spec.hosts:
        runner.run(answer(servers, name))
    desk.run("down")
    assert desk.labs == []


async def hush(servers: Servers, name: str) -> None:
    """Nobody gets in there any more, and what runs there goes on; to hear of it takes no time, as a cut cable does."""
    await servers.machine(name).run(["pkill", "-KILL", "sshd"], check=False)


async def answer(servers: Servers, name: str) -> None:
    """Undo ``hush``, and a cut."""
    await servers.lab.hosts.restore(name)
    if (await servers.machine(name).run(["pgrep", "-f", "sshd -D"], check=False)).returncode:
        address = servers.lab.spec.hosts[name].addresses["lan"]
        await sshd.serve(servers.machine(name), servers.home / ".ssh", address=address, extra=SFTP)


def qemus(servers: Servers, runner: asyncio.Runner, name: str) -> int:
    look = "cat /proc/[0-9]*/comm | grep -c qemu-system"
    return int(runner.run(servers.machine(name).run(["sh", "-c", look], check=False)).text)


def remains(servers: Servers, runner: asyncio.Runner, name: str) -> str:
    return runner.run(servers.machine(name).run(["sh", "-c", "ls -d /run/limosa-*"], check=False)).text


def states(command: Command) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    told = command.ok("status", "--json").json
    return (
        {host["name"]: host["state"] for host in told["hosts"]},
        {guest["name"]: (guest["state"], guest["host"]) for guest in told["guests"]},
    )


@pytest.mark.slow
def test_with_a_silent_machine_the_others_go_on_and_it_comes_back(
    command: Command, servers: Servers, runner: asyncio.Runner
) -> None:
    command.ok("up")
    runner.run(servers.lab.hosts.cut("server3"))
    hosts, guests = states(command)
    assert hosts == {"host1": "on", "host2": "on", "host3": "no answer"}
    assert guests == {"guest1": ("running", "host1"), "guest2": ("running", "host2"), "guest3": ("unknown", "host3")}
    said = command.ok("status").text
    assert "host3: " in said and "guest3: whether it runs is not known" in said and "stopped" not in said
    assert "limosa stop guest3 --host host3 --force" in said

    command.ok("migrate", "guest1", "host2")
    moved = command.run("migrate", "guest3", "host1")
    moved.refused(7, "guest3 may run on host3", "cannot be reached", hint="ssh")
    assert "does not run" not in moved.errors and "restore" not in moved.errors
    towards = command.run("migrate", "guest1", "host3")
    towards.refused(4, "host3 cannot be reached", "may be off, or go on", hint="the lab's other hosts go on without it")
    assert "the logs on host3 cannot be read" in command.ok("logs", "guest3").errors
    assert command.ok("exec", "host2", "--", "true").errors == ""
    command.run("host", "restore", "host3").refused(4, "host3 cannot be reached", hint="ssh")
    command.ok("stop", "guest1")
    command.ok("start", "guest1")
    again = command.run("up")
    again.refused(4, "host3 cannot be reached", hint="ssh")

    runner.run(servers.lab.hosts.restore("server3"))
    assert states(command) == (
        {"host1": "on", "host2": "on", "host3": "on"},
        {"guest1": ("running", "host1"), "guest2": ("running", "host2"), "guest3": ("running", "host3")},
    )
    assert qemus(servers, runner, "server3") == 1
    command.ok("down")
    assert [remains(servers, runner, name) for name in servers.lab.spec.hosts] == ["", "", ""]


def test_what_is_on_a_silent_machine_is_taken_away_by_a_later_down(
    command: Command, servers: Servers, runner: asyncio.Runner
) -> None:
    command.ok("up")
    runner.run(hush(servers, "server3"))
    for _ in range(2):
        down = command.run("down")
        down.refused(
            4, "lab three is not wholly down", "host3", "/run/limosa-three", "alias is three@", hint="--forget host3"
        )
        assert [qemus(servers, runner, name) for name in servers.lab.spec.hosts] == [0, 0, 1]
        assert [remains(servers, runner, f"server{n}") for n in (1, 2)] == ["", ""]
        told = command.ok("status", "--lab", "three", "--json").json
        assert (told["up"], told["left"]) == (False, ["host3"])
        assert {guest["name"]: guest["state"] for guest in told["guests"]}["guest3"] == "unknown"
    runner.run(answer(servers, "server3"))
    command.ok("down", "--lab", "three")
    assert [qemus(servers, runner, name) for name in servers.lab.spec.hosts] == [0, 0, 0]
    assert remains(servers, runner, "server3") == "" and command.labs == []


def test_a_machine_is_given_up_for_good(command: Command, servers: Servers, runner: asyncio.Runner) -> None:
    command.ok("up")
    runner.run(hush(servers, "server3"))
    command.run("down", "--forget", "host9").refused(2, "host9")
    done = command.ok("down", "--forget", "host3")
    assert "host3 is given up" in done.errors and "/run/limosa-three" in done.errors
    assert command.labs == [] and qemus(servers, runner, "server3") == 1
    runner.run(answer(servers, "server3"))
    # What a lab of the same name finds there is its own.
    command.ok("up", "--no-start")
    assert states(command)[1]["guest3"][0] != "unknown"


@pytest.mark.slow
def test_a_guest_that_was_given_up_and_is_there_is_on_record_again(
    command: Command, servers: Servers, runner: asyncio.Runner
) -> None:
    """Whoever said that it had ended was wrong: when its machine is silent once more, nobody may start it elsewhere."""
    command.ok("up")
    runner.run(hush(servers, "server3"))
    command.ok("stop", "guest3", "--host", "host3", "--force")
    assert states(command)[1]["guest3"] == ("stopped", "")
    runner.run(answer(servers, "server3"))
    assert "guest3 had been given up, and is there on host3" in command.ok("start", "guest3").errors
    assert command.ok("start", "guest3").errors == "" and qemus(servers, runner, "server3") == 1
    runner.run(hush(servers, "server3"))
    assert states(command)[1]["guest3"] == ("unknown", "host3")
    command.run("start", "guest3").refused(7, "guest3 may run on host3", hint="--force")
    runner.run(answer(servers, "server3"))
    command.ok("migrate", "guest3", "host1")


def test_up_makes_what_can_be_made(command: Command, servers: Servers, runner: asyncio.Runner) -> None:
    runner.run(hush(servers, "server1"))
    up = command.run("up", "--json")
    assert up.returncode == 4 and "host1 cannot be reached" in up.json["error"]
    assert up.json["made"] == ["host host2", "host host3", "guest guest2", "guest guest3"]
    hosts, guests = states(command)
    assert hosts == {"host1": "no answer", "host2": "on", "host3": "on"}
    assert guests["guest1"][0] == "stopped", "it never was on host1"
    runner.run(answer(servers, "server1"))
    assert command.ok("up").text == "made: host host1, guest guest1\n"
    runner.run(hush(servers, "server1"))
    command.ok("stop", "guest2")
    runner.run(answer(servers, "server1"))


def test_a_machine_that_nothing_was_made_on_keeps_nobody(
    command: Command, servers: Servers, runner: asyncio.Runner
) -> None:
    runner.run(hush(servers, "server1"))
    assert command.run("up", "--no-start").returncode == 4
    command.ok("down")
    assert command.labs == []


def test_an_up_that_made_nothing_is_not_up(command: Command, servers: Servers, runner: asyncio.Runner) -> None:
    for name in servers.lab.spec.hosts:
        runner.run(hush(servers, name))
    command.run("up").refused(4, "host1 cannot be reached", hint="ssh")
    told = command.ok("status", "--json").json
    assert (told["up"], told["left"]) == (False, [])


def test_an_up_of_a_lab_whose_machines_are_silent_ends_nothing(
    command: Command, servers: Servers, runner: asyncio.Runner
) -> None:
    command.ok("up")
    for name in servers.lab.spec.hosts:
        runner.run(hush(servers, name))
    command.run("up").refused(4, "host1 cannot be reached", hint="ssh")
    for name in servers.lab.spec.hosts:
        runner.run(answer(servers, name))
    assert set(states(command)[1].values()) == {("running", f"host{n}") for n in (1, 2, 3)}


@pytest.mark.parametrize("file", ["record.json", "spec.json"])
def test_a_damaged_lab_does_not_forget_its_machines(
    command: Command, servers: Servers, runner: asyncio.Runner, file: str
) -> None:
    command.ok("up")
    folder = LabDirectory(Path(command.state) / "labs" / "three").path
    (folder / file).write_text("{")
    runner.run(hush(servers, "server3"))
    if file == "spec.json":
        by_name = command.run("down", "--lab", "three")
        by_name.refused(1, "spec.json is damaged", "host1, host2, host3", hint="limosa down FILE")
    else:
        assert states(command)[1]["guest3"] == ("unknown", "host3")
    command.run("down").refused(4, "not wholly down", "host3", hint="--forget host3")
    assert [qemus(servers, runner, name) for name in servers.lab.spec.hosts] == [0, 0, 1]
    runner.run(answer(servers, "server3"))
    command.ok("down")
    assert qemus(servers, runner, "server3") == 0 and command.labs == []


def test_a_machine_that_was_started_anew_is_not_in_the_lab(
    command: Command, servers: Servers, runner: asyncio.Runner
) -> None:
    command.ok("up")
    runner.run(servers.lab.hosts.power_off("server3"))
    runner.run(servers.lab.hosts.restore("server3"))
    runner.run(servers.serve("server3"))
    hosts, guests = states(command)
    assert hosts["host3"] == "off" and guests["guest3"] == ("stopped", "")
    used = command.run("exec", "host3", "--", "true")
    used.refused(4, "host3 answers, and has nothing of the lab", hint="limosa up")
    lost = command.run("migrate", "guest3", "host1")
    lost.refused(4, "guest3 does not run: its host host3 is off", hint="limosa up, then limosa start guest3")
    assert json.loads(command.ok("up", "--json").text)["made"] == ["host host3", "guest guest3"]
