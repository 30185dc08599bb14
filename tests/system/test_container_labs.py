"""Whole labs of containers, by the real command line, where the bridge is an interface; and a daemon by HTTPS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import daemons
from tests.limosa_command import SOURCE, Command

pytestmark = pytest.mark.system

LAB = """
name: boxes
networks:
  lan: {{subnet: 10.83.0.0/24, bridge: {bridge}, client: 10.83.0.1}}
storage:
  nfs: {{kind: volume, mount: /mnt/nfs}}
hosts:
  host1: {{kind: {kind}, image: tiny, addresses: {{lan: 10.83.0.11}}}}
  host2: {{kind: {kind}, adopt: box, addresses: {{lan: 10.83.0.12}}}}
guests:
  guest1: {{image: bare, host: host1, memory: 32 MiB}}
"""


@pytest.fixture(scope="module", params=daemons.PARAMETERS)
def daemon(request: pytest.FixtureRequest) -> Iterator[daemons.Daemon]:
    with daemons.running(request.param) as daemon:
        yield daemon


@pytest.fixture
def limosa(daemon: daemons.Daemon) -> Iterator[Command]:
    with tempfile.TemporaryDirectory(prefix="lc", dir="/tmp") as home:
        yield Command(Path(home), tuple(daemon.enter([])), environment=daemon.variables)


def test_a_guest_moves_between_a_launched_and_an_adopted_container(limosa: Command, daemon: daemons.Daemon) -> None:
    file = limosa.home / "boxes.yaml"
    file.write_text(LAB.format(kind=daemon.flavour.name, bridge=daemon.flavour.bridge))
    daemon.client("launch", "tiny", "box")
    before = daemon.client("config", "show", "box")
    limosa.ok("up", str(file))
    try:
        moved = limosa.ok("migrate", "guest1", "host2", "--lab", "boxes")
        assert "guest1 runs on host2" in str(moved)
        assert "qemu-system" in daemon.client("exec", "box", "--", "ps", "ax")
        found = limosa.ok("exec", "host1", "--lab", "boxes", "--", "ip", "-json", "address", "show", "br0")
        [bridge] = json.loads(found.out)
        assert [a["local"] for a in bridge["addr_info"] if a["family"] == "inet"] == ["10.83.0.11"]
        limosa.ok("host", "power-off", "host1", "--lab", "boxes")
        limosa.ok("host", "restore", "host1", "--lab", "boxes")
        limosa.ok("migrate", "guest1", "host1", "--lab", "boxes")
    finally:
        limosa.ok("down", "--lab", "boxes")
    assert json.loads(daemon.client("list", "--format", "json"))[0]["name"] == "box"
    assert "nfs" not in daemon.client("storage", "volume", "list", "default", "--format", "csv")
    assert "qemu-system" not in daemon.client("exec", "box", "--", "ps", "ax")
    assert daemon.client("exec", "box", "--", "ls", "/run", "/sys/class/net").split() == [
        "/run:", "/sys/class/net:", "eth0", "lo",
    ]  # fmt: skip
    assert daemon.client("config", "show", "box") == before
    daemon.client("delete", "--force", "box")


REMOTE = """
import asyncio
from limosa.errors import MachineError
from limosa.hosts.containers.kind import Containers
from limosa.spec import resolved

async def main():
    host = resolved.Host("host1", kind={kind!r}, image="tiny", remote="https://10.83.0.1:8443")
    kind = Containers({kind!r}, resolved.Lab("far", {{}}, {{}}, {{"host1": host}}, {{}}), "/marks/far", {{}})
    try:
        made = await kind.make("host1")
        print((await made.run(["hostname"])).text)
        print(*made.interactive(["hostname"]))
        print((await made.run(["tee", "/dev/stderr"], stdin=bytes(10**6))).stderr == bytes(10**6))
        await kind.remove()
        print(await kind.left())
    except MachineError as error:
        print(error.message)
    finally:
        await kind.close()

asyncio.run(main())
"""


def test_a_daemon_elsewhere_is_commanded_by_https_and_trusted_strictly(daemon: daemons.Daemon) -> None:
    name = ["--name", "tests"] if daemon.flavour.name == "lxd" else ["tests"]
    daemon.client("config", "set", "core.https_address", "10.83.0.1:8443")
    token = daemon.client("config", "trust", "add", *name, "-q").split()[-1]
    within(daemon, [daemon.flavour.client, "remote", "add", "far", token])
    script = textwrap.dedent(REMOTE).format(kind=daemon.flavour.name)
    # Without the socket's variable: nothing but HTTPS can lead there.
    said = within(daemon, [sys.executable, "-c", script], **{daemon.flavour.directory_variable: "/nowhere"})
    hostname, interactive, intact, left = said.splitlines()
    assert (hostname, intact, left) == ("host1", "True", "[]")
    assert interactive.endswith(f"{daemon.flavour.client} exec far:far-host1 -- hostname")
    configuration = Path(daemon.variables[daemon.flavour.configuration_variable])
    (configuration / "servercerts" / "far.crt").write_bytes((configuration / "client.crt").read_bytes())
    said = within(daemon, [sys.executable, "-c", script])
    assert "https://10.83.0.1:8443 cannot be reached" in said and "CERTIFICATE_VERIFY_FAILED" in said
    assert "far-host1" not in daemon.client("list", "--format", "csv")


def within(daemon: daemons.Daemon, argv: list[str], **variables: str) -> str:
    environment = dict(os.environ) | {"PYTHONPATH": str(SOURCE)} | dict(daemon.variables) | variables
    done = subprocess.run(daemon.enter(argv), env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout
