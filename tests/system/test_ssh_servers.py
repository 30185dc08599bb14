"""A lab whose hosts are machines over SSH: the main job, what is left on them, and what happens when one is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from limosa.deadline import Deadline
from limosa.errors import StateError
from tests import micro_image, sshd
from tests.limosa_command import Command
from tests.ssh_servers import Servers, servers_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "ssh-two-hosts.yaml"
pytestmark = pytest.mark.system

BARE = """
name: bare-ssh
networks: {lan: {subnet: 10.77.1.0/24}}
storage: {shared: {path: /srv/vms}}
hosts:
  host1: {kind: ssh, machine: server1, links: {lan: br0}}
  host2: {kind: ssh, machine: server2, links: {lan: br0}}
migration: {options: {downtime-limit: 5 s}}
guests:
  guest1: {image: bare, host: host1, memory: 64 MiB, accel: tcg}
"""


@pytest.fixture(scope="module")
def servers(runner: asyncio.Runner) -> Iterator[Servers]:
    micro_image.at_hand()
    with servers_of(runner, "servers") as opened:
        yield opened


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


def test_what_a_console_has_said_is_told_from_whichever_machine(lab: Command) -> None:
    for host in ("host1", "host2"):
        lab.ok("migrate", "guest1", host, "--lab", "bare-ssh") if where(lab)[0][1] != host else None
        for _ in range(60):  # one that has just arrived has said nothing there yet
            said = lab.ok("console", "guest1", "--lab", "bare-ssh", "--json").json
            assert said["guest"] == "guest1"
            if "bare: " in said["console"]:
                break
            time.sleep(0.5)
        else:
            raise AssertionError(f"nothing from {host}: {said}")


def test_a_lab_whose_record_is_lost_is_found_on_its_machines(lab: Command) -> None:
    record = lab.state / "labs" / "bare-ssh" / "record.json"
    whole = json.loads(record.read_bytes())
    assert not record.with_name("place").exists(), "it may be commanded from wherever its record is seen"
    for damage in (None, "{", '{"ephemeral": false}'):
        record.unlink() if damage is None else record.write_text(damage)
        status = lab.ok("status", "--lab", "bare-ssh", "--json").json
        assert status["up"] and [host["addresses"] for host in status["hosts"]] == [
            whole["addresses"][host["name"]] for host in status["hosts"]
        ]
        assert where(lab) == [("running", "host1")]
        lab.ok("up", "--lab", "bare-ssh")
        assert json.loads(record.read_bytes()) == {**whole, "since_s": None} and where(lab) == [("running", "host1")]
    record.unlink()
    lab.ok("migrate", "guest1", "host2", "--lab", "bare-ssh")
    assert where(lab) == [("running", "host2")]


def test_real_machines_are_not_switched_off(lab: Command) -> None:
    lab.run("host", "power-off", "host1", "--lab", "bare-ssh").refused(4, "host1")
    lab.run("host", "cut", "host1", "--lab", "bare-ssh").refused(4, "host1", "machine of its own")
    assert where(lab) == [("running", "host1")]


@pytest.mark.slow
def test_target_cut_off_in_the_middle_of_a_migration(lab: Command, servers: Servers, runner: asyncio.Runner) -> None:
    """The cable of the target's machine is pulled while memory is on its way: the guest goes on, on one side only."""
    child = lab.begin("migrate", "guest1", "host2", "--max-bandwidth", "4 MiB/s", "--lab", "bare-ssh")
    try:
        runner.run(_wait_for_qemu(servers, "server2"))
        runner.run(servers.lab.hosts.cut("server2"))
        _, errors = child.communicate(timeout=90)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        runner.run(servers.lab.hosts.restore("server2"))
    assert child.returncode not in (0, -9), errors.decode()
    assert b"Traceback" not in errors, errors.decode()
    lab.ok("up", "--lab", "bare-ssh")  # settles what is open, as does any command that changes the lab
    assert where(lab) == [("running", "host1")]
    lab.ok("migrate", "guest1", "host2", "--lab", "bare-ssh")
    assert where(lab) == [("running", "host2")]


@pytest.fixture
def abandoned(lab: Command, servers: Servers, runner: asyncio.Runner) -> None:
    """A migration from host1 to host2 whose command was killed while memory is on its way."""
    before = runner.run(_received(servers, "server2"))
    child = lab.begin("migrate", "guest1", "host2", "--max-bandwidth", "4 MiB/s", "--lab", "bare-ssh")
    try:
        runner.run(_until_received(servers, "server2", before + 3 * 2**20))
        # At the desk's own processes alone: nsenter, which is our child, is not the command itself.
        runner.run(servers.lab.host("client").run(["pkill", "-KILL", "-f", "^[^ ]*python[^ ]* -m limosa migrate"]))
        child.communicate(timeout=30)
    finally:
        child.kill()


async def _received(servers: Servers, name: str) -> int:
    """How many bytes the busiest interface of a server has received."""
    done = await servers.machine(name).run(["sh", "-c", "cat /sys/class/net/*/statistics/rx_bytes"])
    return max(map(int, done.text.split()))


async def _until_received(servers: Servers, name: str, wanted: int) -> None:
    async for _ in Deadline.after(60).ticks(0.1):
        if await _received(servers, name) >= wanted:
            return
    raise AssertionError(f"{name} does not get what is sent")


FASTER = b'{"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 4000000000, "downtime-limit": 5000}}'


async def _run_state(servers: Servers, name: str, *before: bytes) -> str:
    """What the guest's QEMU on a server says of itself, asked from below; empty when there is none that answers."""
    loop, monitor = asyncio.get_running_loop(), "/run/limosa-bare-ssh/guests/guest1/observe.qmp"
    with contextlib.suppress(StateError, TimeoutError, ConnectionError):
        async with asyncio.timeout(5):
            with await servers.machine(name).connect(monitor) as connection:
                said = b""
                for command in (b'{"execute": "qmp_capabilities"}', *before, b'{"execute": "query-status"}'):
                    await loop.sock_sendall(connection, command + b"\r\n")
                while b'"status"' not in said and (data := await loop.sock_recv(connection, 4096)):
                    said += data
                return said.partition(b'"status": "')[2].partition(b'"')[0].decode()
    return ""


async def _until_state(servers: Servers, name: str, wanted: str, *before: bytes) -> None:
    async for _ in Deadline.after(60).ticks(0.2):
        if (state := await _run_state(servers, name, *before)) == wanted:
            return
    raise AssertionError(f"QEMU on {name} is {state or 'gone'}")


@pytest.mark.usefixtures("abandoned")
def test_target_that_is_lost_after_the_hand_over(lab: Command, servers: Servers, runner: asyncio.Runner) -> None:
    """The guest runs where nobody can look. It is not started again, and found there when the machine is back."""
    runner.run(_until_state(servers, "server1", "postmigrate", FASTER))
    runner.run(_until_state(servers, "server2", "running"))  # it reads what is encrypted somewhat later
    runner.run(servers.lab.hosts.cut("server2"))
    try:
        said = "guest1 is postmigrate on host1 and unreachable on host2 after an interrupted migration"
        lab.run("start", "guest1", "--lab", "bare-ssh").refused(7, said, hint="limosa stop guest1 --host HOST --force")
        told = lab.ok("status", "--lab", "bare-ssh")
        assert "interrupted" in told.text
        assert runner.run(_run_state(servers, "server1")) == "postmigrate", "it was not let run again"
    finally:
        runner.run(servers.lab.hosts.restore("server2"))
    done = lab.ok("up", "--lab", "bare-ssh")
    assert "an interrupted migration was finished: guest1 is on host2" in done.text + done.err.decode()
    assert where(lab) == [("running", "host2")]
    assert runner.run(_run_state(servers, "server1")) == ""


@pytest.mark.slow
@pytest.mark.usefixtures("abandoned")
def test_source_that_is_lost_with_its_command(lab: Command, servers: Servers, runner: asyncio.Runner) -> None:
    """What the target has is not the whole guest, and whether the source still runs it nobody knows."""
    runner.run(servers.lab.hosts.cut("server1"))
    try:
        said = "guest1 is unreachable on host1 and inmigrate on host2"
        lab.run("start", "guest1", "--lab", "bare-ssh").refused(7, said)
        for name in ("server1", "server2"):
            assert seen(servers, runner, name)[2] == "1", "both copies are kept until more is known"
    finally:
        runner.run(servers.lab.hosts.restore("server1"))
    done = lab.ok("up", "--lab", "bare-ssh")
    assert "an interrupted migration was" in done.text + done.err.decode()
    ((state, host),) = where(lab)
    states = {name: runner.run(_run_state(servers, f"server{name[-1]}")) for name in ("host1", "host2")}
    assert state == "running" and states.pop(host) == "running" and set(states.values()) == {""}


def findings(examined: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """By name, what ``doctor`` found on one host."""
    (host,) = [one for one in examined["examined"] if one["name"] == name]
    return {finding["name"]: finding for finding in host["findings"]}


def test_doctor_examines_the_machines_of_a_lab(servers: Servers, runner: asyncio.Runner) -> None:
    before = [seen(servers, runner, name) for name in ("server1", "server2")]
    file = servers.home / "bare.yaml"
    file.write_text(BARE)
    told = servers.command.ok("doctor", "--lab", str(file), "--json").json
    for name in ("host1", "host2"):
        found = findings(told, name)
        assert found.keys() == {
            "reachable", "root", "QEMU", "ip", "links", "bridge and TAP", "clock", "/dev/net/tun", "memory", "KVM",
            "storage shared", "spanning tree", "guard of arriving guests",
        }  # fmt: skip
        assert {name for name, finding in found.items() if not finding["ok"]} <= {"KVM"}
        assert "is encrypted" in found["guard of arriving guests"]["detail"]
        assert "as root" in found["reachable"]["detail"] and "lan over br0" in found["links"]["detail"]
    together = findings(told, "all hosts together")
    assert all(finding["ok"] for finding in together.values())
    assert together["packet size"]["detail"] == "1500 bytes pass between host1 and host2"
    assert [seen(servers, runner, name) for name in ("server1", "server2")] == before
    assert servers.command.labs == []
    assert "all is ready for this lab" in servers.command.ok("doctor", "--lab", str(file)).text


def test_doctor_says_what_a_machine_lacks(servers: Servers, runner: asyncio.Runner) -> None:
    file = servers.home / "lacking.yaml"
    file.write_text(
        BARE.replace("name: bare-ssh", "name: lacking")
        .replace("machine: server1, links: {lan: br0}", "machine: 'server1:2299', links: {lan: br0}")
        .replace("machine: server2, links: {lan: br0}", "machine: server2, links: {lan: br7}, qemu: qemu-system-no")
    )
    server = servers.machine("server2")
    runner.run(server.run(["umount", "/srv/vms"]))
    runner.run(server.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "none", "/dev/net"]))
    try:
        done = servers.command.run("doctor", "--lab", str(file), "--json")
    finally:
        runner.run(server.run(["umount", "/dev/net"]))
        runner.run(server.run(["mount", "--bind", "/run/limosa/storage/shared", "/srv/vms"]))
    assert done.returncode == 3 and not done.json["ready"]
    (lost,) = findings(done.json, "host1").values()
    assert not lost["ok"] and "host1 cannot be reached" in lost["detail"] and "ssh -p 2299" in lost["fix"]
    found = findings(done.json, "host2")
    lacking = {name for name, finding in found.items() if not finding["ok"] and finding["required"]} - {
        "storage shared"
    }
    assert lacking == {"QEMU", "links", "bridge and TAP", "/dev/net/tun"}
    assert "br7" in found["links"]["detail"] and "it has" in found["links"]["fix"]
    assert "modprobe tun" in found["/dev/net/tun"]["fix"]
    assert all(finding["fix"] for finding in found.values() if not finding["ok"] and finding["required"])


async def _wait_for_qemu(servers: Servers, name: str) -> None:
    async for _ in Deadline.after(30).ticks(0.05):
        done = await servers.machine(name).run(["sh", "-c", "cat /proc/[0-9]*/comm"], check=False)
        if "qemu-system" in done.text:
            await asyncio.sleep(1.0)
            return
    raise AssertionError("no QEMU waits on the target")


def test_an_ordinary_user_needs_sudo_for_the_links_alone(runner: asyncio.Runner) -> None:
    """QEMU, its sockets and its files are the user's own."""
    if shutil.which("sudo") is None:
        pytest.skip("sudo is not installed")
    with servers_of(runner, "usermachines", sshd.USER) as servers:
        before = seen(servers, runner, "server1")
        (servers.home / "bare.yaml").write_text(BARE)
        told = servers.command.ok("doctor", "--lab", str(servers.home / "bare.yaml"), "--json").json
        assert findings(told, "host1")["root"]["detail"] == "by sudo, which does not ask"
        servers.command.ok("up", str(servers.home / "bare.yaml"))
        servers.command.ok("migrate", "guest1", "host2", "--lab", "bare-ssh")
        machine = servers.machine("server2")
        owner = "for p in /proc/[0-9]*; do grep -q qemu-system $p/comm 2>/dev/null && stat -c %u $p; done; true"
        assert runner.run(machine.run(["sh", "-c", owner])).text == str(sshd.USER_ID)
        servers.command.ok("down", "--lab", "bare-ssh")
        assert seen(servers, runner, "server1") == before
        assert runner.run(machine.run(["ls", "-A", "/tmp"])).text == ""
