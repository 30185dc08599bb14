"""TLS with hosts of each kind: on by itself where the stream leaves this machine, and else where somebody says so; and
post-copy between machines, whose link is cut and whose command is killed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from encryption import SENT, WATCH

from limosa import spec
from limosa.lab import Lab
from limosa.migration.settings import Settings
from limosa.migration.transport import CREDENTIALS
from tests import daemons, namespaces, sshd
from tests.limosa_command import Command
from tests.ssh_servers import Servers, servers_of

DRIVER = Path(__file__).with_name("move_driver.py")
NOWHERE = "02:00:00:00:00:99"
MACHINES = """
name: apart
networks: {lan: {subnet: 10.77.1.0/24}}
storage: {shared: {path: /srv/vms}}
hosts:
  host1: {kind: ssh, machine: server1, links: {lan: br0}}
  host2: {kind: ssh, machine: server2, links: {lan: br0}}
guests:
  bare: {image: bare, host: host1, memory: 64 MiB, accel: tcg}
"""
AMPLE = ("--downtime-limit", "5 s", "--json", "--lab")
pytestmark = pytest.mark.system


def is_encrypted(moved: dict[str, Any]) -> bool:
    """By what the source's QEMU said just before it sent."""
    return bool(moved["parameters_in_force"]["tls-creds"] == CREDENTIALS)


# -- machines over SSH ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["root", sshd.USER])
def servers(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[Servers]:
    with servers_of(runner, "keyed", request.param) as opened:
        yield opened


@pytest.fixture
def apart(servers: Servers) -> Iterator[Command]:
    (servers.home / "apart.yaml").write_text(MACHINES)
    servers.command.ok("up", str(servers.home / "apart.yaml"))
    yield servers.command
    servers.command.ok("down", "--lab", "apart")


def at(servers: Servers, runner: asyncio.Runner, name: str, script: str) -> str:
    """On a machine, whatever SSH does."""
    return runner.run(servers.machine(name).run(["sh", "-ec", script])).text


def assert_no_keys(servers: Servers, runner: asyncio.Runner) -> None:
    for name in ("server1", "server2"):
        assert at(servers, runner, name, "find /run /srv /home /root -name '*-key.pem'") == ""


def test_between_machines_it_is_on_by_itself(apart: Command, servers: Servers, runner: asyncio.Runner) -> None:
    """Whoever stands on the way reads nothing, unless somebody says that it may be read."""
    planned = apart.ok("migrate", "bare", "host2", "--plan", "--json", "--lab", "apart").json
    assert planned["plan"]["transport"]["kind"] == "tls" and planned["plan"]["transport"]["expected"] == "host2"
    words = ["/usr/bin/python3", "-c", WATCH, "/tmp/watch.json", *(word.decode() for word in SENT)]
    for target, tls, read in (("host2", "auto", False), ("host1", "off", True)):
        host = servers.machine("server1")
        at(servers, runner, "server1", "rm -f /tmp/watch.log /tmp/watch.json")
        pid = runner.run(host.spawn(words, log="/tmp/watch.log"))
        at(servers, runner, "server1", "until grep -q watching /tmp/watch.log; do sleep 0.01; done")
        moved = apart.ok("migrate", "bare", target, "--tls", tls, *AMPLE, "apart").json
        assert moved["target"] == target and is_encrypted(moved) is not read
        at(servers, runner, "server1", f"kill {pid}; until [ -s /tmp/watch.json ]; do sleep 0.01; done")
        seen = json.loads(at(servers, runner, "server1", "cat /tmp/watch.json"))
        assert seen["bytes"] > 16 << 20 and bool(seen["found"]) is read, (tls, seen)
        assert_no_keys(servers, runner)


@pytest.mark.slow
def test_post_copy_between_machines(apart: Command, servers: Servers, runner: asyncio.Runner) -> None:
    """Only the way of the stream goes dark, and the command is killed; another one finishes it.

    Where an ordinary user is not permitted post-copy, that is said, and the guest stays.
    """
    words = ["migrate", "bare", "host2", "--method", "post-copy", "--downtime-limit", "1 ms"]
    words += ["--set", "max-postcopy-bandwidth=8 MiB/s", "--lab", "apart"]
    if servers.user != "root" and Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() != "1":
        apart.run(*words).refused(3, "userfaultfd")
        return
    at(servers, runner, "server1", "tc qdisc add dev eth0 root tbf rate 200mbit burst 64kb latency 50ms")
    address, ip = servers.lab.spec.hosts["server2"].addresses["lan"], "ip" if servers.user == "root" else "sudo -n ip"
    dark = f"{ip} neigh replace {address} lladdr {NOWHERE} dev br0 nud permanent"
    cut = f"run:ssh -F {servers.home}/.ssh/config server1 {dark}"
    action = f"{cut} ; at:waiting-for-link:signal:SIGKILL"
    argv = [*apart.prefix, *apart.python, str(DRIVER), action, "post-copy", "--", *words]
    killed = subprocess.run(argv, capture_output=True, text=True, env=apart.env(), cwd=apart.home)
    assert killed.returncode in {-9, 137}, killed
    (guest,) = apart.ok("status", "--lab", "apart", "--json").json["guests"]
    assert "waits for its link, host1 ↔ host2" in guest["unfinished"], guest
    assert_no_keys(servers, runner)
    at(servers, runner, "server1", f"ip neigh del {address} dev br0")
    assert "finished" in apart.ok("recover", "bare", "--lab", "apart").text
    (guest,) = apart.ok("status", "--lab", "apart", "--json").json["guests"]
    assert (guest["state"], guest["host"], guest["unfinished"]) == ("running", "host2", "")
    assert_no_keys(servers, runner)


# -- containers -------------------------------------------------------------------------------------------------------

BOXES = """
name: boxes
networks:
  lan: {{subnet: 10.83.0.0/24, bridge: {bridge}, client: 10.83.0.1}}
storage:
  nfs: {{kind: volume, mount: /mnt/nfs}}
hosts:
  host1: {{kind: {kind}, image: tiny, addresses: {{lan: 10.83.0.11}}}}
  host2: {{kind: {kind}, image: tiny, addresses: {{lan: 10.83.0.12}}}}
guests:
  bare: {{image: bare, host: host1, memory: 64 MiB, accel: tcg}}
"""
REMOTE = "https://10.83.0.1:8443"


@pytest.fixture(scope="module", params=daemons.PARAMETERS)
def daemon(request: pytest.FixtureRequest) -> Iterator[daemons.Daemon]:
    with daemons.running(request.param) as daemon:
        yield daemon


@pytest.mark.parametrize("elsewhere", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["here", "elsewhere"])
def test_between_containers(daemon: daemons.Daemon, elsewhere: bool) -> None:
    """On by itself where their daemon is another machine's: it is commanded by HTTPS then."""
    text = BOXES.format(kind=daemon.flavour.name, bridge=daemon.flavour.bridge)
    if elsewhere:
        name = ["--name", "tests"] if daemon.flavour.name == "lxd" else ["tests"]
        daemon.client("config", "set", "core.https_address", REMOTE.removeprefix("https://"))
        token = daemon.client("config", "trust", "add", *name, "-q").split()[-1]
        add = daemon.enter([daemon.flavour.client, "remote", "add", "far", token])
        subprocess.run(add, env={**os.environ, **daemon.variables}, check=True, stdin=subprocess.DEVNULL)
        text = text.replace("image: tiny", f"image: tiny, remote: '{REMOTE}'").replace(
            f"bridge: {daemon.flavour.bridge}, ", ""
        )
    with tempfile.TemporaryDirectory(prefix="lc", dir="/tmp") as home:
        limosa = Command(Path(home), tuple(daemon.enter([])), environment=daemon.variables)
        (limosa.home / "boxes.yaml").write_text(text)
        limosa.ok("up", str(limosa.home / "boxes.yaml"))
        try:
            moved = limosa.ok("migrate", "bare", "host2", *AMPLE, "boxes").json
            assert moved["target"] == "host2" and is_encrypted(moved) is elsewhere
            moved = limosa.ok("migrate", "bare", "host1", "--tls", "on", *AMPLE, "boxes").json
            assert moved["target"] == "host1" and is_encrypted(moved)
            for box in ("boxes-host1", "boxes-host2"):
                assert daemon.client("exec", box, "--", "find", "/run", "-name", "*-key.pem") == ""
        finally:
            limosa.ok("down", "--lab", "boxes")


# -- namespaces -------------------------------------------------------------------------------------------------------

ROOTLESS = """
name: own-user
hosts: {host1: {}, host2: {}}
guests: {bare: {host: host1, image: bare, memory: 64 MiB, accel: tcg}}
"""


@pytest.mark.parametrize("rootless", [True, False], ids=["rootless", "root"])
async def test_in_namespaces_it_is_on_where_somebody_says_so(rootless: bool) -> None:
    namespaces.required(rootless=rootless)
    async with Lab.open(spec.loads(ROOTLESS), ephemeral=True, rootless=rootless) as lab:
        await lab.up()
        ample = {"downtime-limit": 5000}
        for target, settings, kind in (
            ("host2", Settings(options=ample), "tcp"),
            ("host1", Settings(options=ample, tls="on"), "tls"),
            ("host2", Settings(options=ample, tls="auto"), "tcp"),
        ):
            moved = await lab.migrate("bare", target, settings)
            assert moved.target == target and moved.plan.transport.kind == kind
            for name in ("host1", "host2"):
                host = lab.host(name)
                assert (await host.run(["find", host.runtime_directory, "-name", "*.pem"])).text == ""
