"""A lab whose hosts are machines over SSH: the main job, what is left on them, and what happens when one is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from limosa.deadline import Deadline
from tests import sshd
from tests.limosa_command import Command
from tests.ssh_servers import Servers, ssh_servers

EXAMPLE = Path(__file__).parents[2] / "examples" / "ssh-two-hosts.yaml"
pytestmark = pytest.mark.system

BARE = """
name: bare-ssh
networks: {lan: {subnet: 10.77.1.0/24}}
storage: {shared: {path: /srv/vms}}
hosts:
  host1: {kind: ssh, machine: server1, links: {lan: br0}}
  host2: {kind: ssh, machine: server2, links: {lan: br0}}
guests:
  guest1: {image: bare, host: host1, memory: 64 MiB, accel: tcg}
"""


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def servers(runner: asyncio.Runner) -> Iterator[Servers]:
    sshd.required()
    made = ssh_servers("servers")
    opened = runner.run(made.__aenter__())
    try:
        yield opened
    finally:
        runner.run(made.__aexit__(None, None, None))


def seen(servers: Servers, runner: asyncio.Runner, name: str) -> tuple[str, str, str]:
    """What a server has: interfaces, what is in /run, and which QEMUs run."""
    machine = servers.machine(name)
    look = "ip -br link | cut -d' ' -f1; echo ---; ls -A /run; echo ---; cat /proc/[0-9]*/comm | grep -c qemu-system"
    interfaces, folders, qemus = runner.run(machine.run(["sh", "-c", look], check=False)).text.split("---\n")
    return interfaces, folders, qemus


def test_demo_runs_the_main_job(servers: Servers, runner: asyncio.Runner) -> None:
    before = [seen(servers, runner, name) for name in ("server1", "server2")]
    done = servers.command.ok("demo", "--lab", str(EXAMPLE), "--json", timeout_s=240)
    migrations = json.loads(Path(done.json["run"], "migrations.json").read_text())
    assert [(m["source"], m["target"], m["outcome"]) for m in migrations] == [
        ("host1", "host2", "completed"),
        ("host2", "host1", "completed"),
    ]
    environment = json.loads(Path(done.json["run"], "environment.json").read_text())
    assert {host["kind"] for host in environment["hosts"].values()} == {"ssh"}
    assert servers.command.labs == []
    assert [seen(servers, runner, name) for name in ("server1", "server2")] == before, "nothing is left on the servers"


def test_demo_that_is_killed_takes_its_lab_along(servers: Servers, runner: asyncio.Runner) -> None:
    before = [seen(servers, runner, name) for name in ("server1", "server2")]
    child = servers.command.begin("demo", "--lab", str(EXAMPLE))
    try:
        runner.run(_wait_for_qemu(servers, "server1"))
        # At the desk's own processes alone: nsenter, which is our child, is not the command itself.
        desk = servers.lab.host("client")
        runner.run(desk.run(["pkill", "-KILL", "-f", "^[^ ]*python[^ ]* -m limosa demo"]))
        child.communicate(timeout=30)
        runner.run(_until(lambda: servers.command.labs == []))
    finally:
        child.kill()
    assert [seen(servers, runner, name) for name in ("server1", "server2")] == before


async def _until(done: Callable[[], bool]) -> None:
    async for _ in Deadline.after(60).ticks(0.2):
        if done():
            return
    raise AssertionError("the lab is there still")


@pytest.fixture
def lab(servers: Servers) -> Iterator[Command]:
    """A lab with a bare guest that is up."""
    command = servers.command
    (servers.home / "bare.yaml").write_text(BARE)
    command.ok("up", str(servers.home / "bare.yaml"))
    yield command
    command.ok("down", "--lab", "bare-ssh")
    shutil.rmtree(servers.home / "limosa")


def where(command: Command) -> list[tuple[str, str]]:
    return [
        (guest["state"], guest["host"]) for guest in command.ok("status", "--lab", "bare-ssh", "--json").json["guests"]
    ]


def test_guests_outlive_commands_and_are_found_again(lab: Command, servers: Servers, runner: asyncio.Runner) -> None:
    before = seen(servers, runner, "server2")
    assert where(lab) == [("running", "host1")]
    assert lab.ok("up", "--lab", "bare-ssh").text == "nothing to do: the lab is up\n"
    lab.ok("migrate", "guest1", "host2", "--lab", "bare-ssh")
    assert where(lab) == [("running", "host2")]
    assert "bare:" in lab.ok("logs", "guest1", "--lab", "bare-ssh").text
    assert lab.ok("exec", "host2", "--lab", "bare-ssh", "--", "hostname").text == "server2\n"
    lab.ok("migrate", "guest1", "host1", "--lab", "bare-ssh")
    assert seen(servers, runner, "server2") == before


def test_real_machines_are_not_switched_off(lab: Command) -> None:
    lab.run("host", "power-off", "host1", "--lab", "bare-ssh").refused(4, "host1")
    lab.run("host", "cut", "host1", "--lab", "bare-ssh").refused(4, "host1", "machine of its own")
    assert where(lab) == [("running", "host1")]


def test_target_cut_off_in_the_middle_of_a_migration(lab: Command, servers: Servers, runner: asyncio.Runner) -> None:
    """The cable of the target's machine is pulled while memory is on its way: the guest goes on, on one side only."""
    child = lab.begin("migrate", "guest1", "host2", "--max-bandwidth", "4 MiB/s", "--lab", "bare-ssh")
    try:
        runner.run(_wait_for_qemu(servers, "server2"))
        runner.run(servers.lab.cut("server2"))
        _, errors = child.communicate(timeout=90)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        runner.run(servers.lab.restore("server2"))
    assert child.returncode not in (0, -9), errors.decode()
    assert b"Traceback" not in errors, errors.decode()
    lab.ok("up", "--lab", "bare-ssh")  # settles what is open, as does any command that changes the lab
    assert where(lab) == [("running", "host1")]
    lab.ok("migrate", "guest1", "host2", "--lab", "bare-ssh")
    assert where(lab) == [("running", "host2")]


async def _wait_for_qemu(servers: Servers, name: str) -> None:
    async for _ in Deadline.after(30).ticks(0.05):
        done = await servers.machine(name).run(["sh", "-c", "cat /proc/[0-9]*/comm"], check=False)
        if "qemu-system" in done.text:
            await asyncio.sleep(1.0)
            return
    raise AssertionError("no QEMU waits on the target")


def test_an_ordinary_user_needs_sudo_for_the_links_alone(runner: asyncio.Runner) -> None:
    """QEMU, its sockets and its files are the user's own."""
    sshd.required()
    if shutil.which("sudo") is None:
        pytest.skip("sudo is not installed")
    made = ssh_servers("usermachines", sshd.USER)
    servers = runner.run(made.__aenter__())
    try:
        before = seen(servers, runner, "server1")
        (servers.home / "bare.yaml").write_text(BARE)
        servers.command.ok("up", str(servers.home / "bare.yaml"))
        servers.command.ok("migrate", "guest1", "host2", "--lab", "bare-ssh")
        machine = servers.machine("server2")
        owner = "for p in /proc/[0-9]*; do grep -q qemu-system $p/comm 2>/dev/null && stat -c %u $p; done; true"
        assert runner.run(machine.run(["sh", "-c", owner])).text == str(sshd.USER_ID)
        servers.command.ok("down", "--lab", "bare-ssh")
        assert seen(servers, runner, "server1") == before
        assert runner.run(machine.run(["ls", "-A", "/tmp"])).text == ""
    finally:
        runner.run(made.__aexit__(None, None, None))
