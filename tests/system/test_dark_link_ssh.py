"""The same between machines over SSH, whose own TCP gives up after a quarter of an hour: the next command ends it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import sshd
from tests.ssh_servers import Servers, servers_of

DRIVER = Path(__file__).with_name("move_driver.py")
NAME = "dark-ssh"
BARE = f"""
name: {NAME}
networks: {{lan: {{subnet: 10.77.1.0/24}}}}
storage: {{shared: {{path: /srv/vms}}}}
hosts:
  host1: {{kind: ssh, machine: server1, links: {{lan: br0}}}}
  host2: {{kind: ssh, machine: server2, links: {{lan: br0}}}}
guests:
  bare: {{image: bare, host: host1, memory: 64 MiB, accel: tcg}}
"""
NOWHERE = "02:00:00:00:00:99"
pytestmark = pytest.mark.system


@pytest.fixture(scope="module", params=["root", sshd.USER])
def servers(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[Servers]:
    with servers_of(runner, "dark", request.param) as opened:
        yield opened


def at(servers: Servers, runner: asyncio.Runner, script: str) -> None:
    """On the source's machine, whatever SSH does."""
    runner.run(servers.machine("server1").run(["sh", "-ec", script]))


def test_next_command_frees_the_source(servers: Servers, runner: asyncio.Runner) -> None:
    """Only the way of the stream goes dark, in the middle of the stopped phase; both machines can be asked."""
    command, address = servers.command, servers.lab.spec.hosts["server2"].addresses["lan"]
    (servers.home / "dark.yaml").write_text(BARE)
    at(servers, runner, "tc qdisc add dev eth0 root tbf rate 50mbit burst 64kb latency 50ms")
    at(servers, runner, "cd /proc/sys/net/ipv4 && echo 15 >tcp_retries2")
    ip = "ip" if servers.user == "root" else "sudo -n ip"
    dark = f"{ip} neigh replace {address} lladdr {NOWHERE} dev br0 nud permanent"
    action = f"run:ssh -F {servers.home}/.ssh/config server1 {dark} ; signal:SIGKILL"
    words = ["migrate", "bare", "host2", "--downtime-limit", "30 s", "--lab", NAME]
    try:
        command.ok("up", str(servers.home / "dark.yaml"))
        argv = [*command.prefix, *command.python, str(DRIVER), action, "stopped", "--", *words]
        killed = subprocess.run(argv, capture_output=True, text=True, env=command.env(), cwd=command.home)
        assert killed.returncode in {-9, 137}, killed
        assert "was undone: bare is on host1" in command.ok("start", "bare", "--lab", NAME).errors
        (guest,) = command.ok("status", "--lab", NAME, "--json").json["guests"]
        assert (guest["state"], guest["host"], guest["unfinished"]) == ("running", "host1", "")
    finally:
        at(servers, runner, f"ip neigh del {address} dev br0 || true")
        command.ok("down", "--lab", NAME)
