"""A guest moves between hosts of different kinds, and the main job runs on containers as it does on namespaces.

The machine of these tests is what is inside a container daemon's namespaces: its bridge is an interface there, and an
sshd makes it a machine that one can log in to.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import daemons
from tests.limosa_command import Command
from tests.sshd import keygen, required

EXAMPLE = Path(__file__).parents[2] / "examples" / "incus-two-hosts.yaml"
pytestmark = pytest.mark.system

NETWORK = "networks: {{lan: {{subnet: 10.83.0.0/24, bridge: {bridge}, client: 10.83.0.2}}}}"
CONTAINER = "{{kind: {kind}, image: tiny, addresses: {{lan: 10.83.0.12}}}}"
NAMESPACE_AND_CONTAINER = f"""
name: mixed
{NETWORK}
storage: {{{{shared: {{{{path: "{{folder}}"}}}}}}}}
hosts:
  host1: {{{{}}}}
  host2: {CONTAINER}
migration: {{{{options: {{{{downtime-limit: 5 s}}}}}}}}
guests: {{{{guest1: {{{{image: bare, host: host1, memory: 32 MiB, accel: tcg}}}}}}}}
"""
MACHINE_AND_CONTAINER = f"""
name: mixed
{NETWORK}
storage: {{{{shared: {{{{path: "{{folder}}"}}}}}}}}
hosts:
  host1: {{{{kind: ssh, machine: machine, links: {{{{lan: {{bridge}}}}}}}}}}
  host2: {CONTAINER}
migration: {{{{options: {{{{downtime-limit: 5 s}}}}}}}}
guests: {{{{guest1: {{{{image: bare, host: host1, memory: 32 MiB, accel: tcg}}}}}}}}
"""
SSHD = """
ListenAddress 10.83.0.1
HostKey {home}/.ssh/host_key
AuthorizedKeysFile {home}/.ssh/id_ed25519.pub
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
PidFile none
StrictModes no
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[daemons.Daemon]:
    with daemons.running("incus") as daemon:
        yield daemon


@pytest.fixture
def limosa(daemon: daemons.Daemon) -> Iterator[Command]:
    with tempfile.TemporaryDirectory(prefix="lm", dir="/tmp") as home:
        command = Command(Path(home), tuple(daemon.enter([])), environment=daemon.variables | {"HOME": home})
        yield command
        assert command.labs == []


def written(command: Command, text: str, daemon: daemons.Daemon) -> Path:
    """The lab file *text*, with a folder that is shared."""
    folder = command.home / "shared"
    folder.mkdir()
    file = command.home / "lab.yaml"
    file.write_text(text.format(kind=daemon.flavour.name, bridge=daemon.flavour.bridge, folder=folder))
    return file


def moves_there_and_back(command: Command, file: Path) -> None:
    command.ok("up", str(file))
    try:
        for target in ("host2", "host1", "host2"):
            command.ok("migrate", "guest1", target, "--lab", "mixed")
            [guest] = command.ok("status", "--lab", "mixed", "--json").json["guests"]
            assert (guest["state"], guest["host"]) == ("running", target)
        console = command.ok("logs", "guest1", "--lab", "mixed", "--json").json
        assert any("bare: ready" in line for lines in console.values() for line in lines), console
        assert not [
            line for lines in console.values() for line in lines if "bare: FAULT" in line or "bare: error" in line
        ], console
    finally:
        command.ok("down", "--lab", "mixed")


def test_namespaces_and_a_container(limosa: Command, daemon: daemons.Daemon) -> None:
    moves_there_and_back(limosa, written(limosa, NAMESPACE_AND_CONTAINER, daemon))
    assert "mixed" not in daemon.client("list", "--format", "csv")
    links = subprocess.run(daemon.enter(["ip", "-br", "link"]), capture_output=True, text=True).stdout
    assert not [line for line in links.splitlines() if line.startswith("lim")], "the fabric's cable is unplugged"


@pytest.fixture
def sshd(limosa: Command, daemon: daemons.Daemon) -> Iterator[None]:
    """The daemon's machine lets its owner in."""
    required()
    ssh = limosa.home / ".ssh"
    ssh.mkdir(mode=0o700)
    keygen(ssh / "id_ed25519")
    public = keygen(ssh / "host_key")
    (ssh / "known_hosts").write_text(f"10.83.0.1 {public}")
    login = f"IdentityFile {ssh}/id_ed25519\nUserKnownHostsFile {ssh}/known_hosts\nIdentitiesOnly yes\n"
    (ssh / "config").write_text(f"Host machine\nHostName 10.83.0.1\nUser root\n{login}")
    (limosa.home / "sshd_config").write_text(SSHD.format(home=limosa.home))
    argv = ["sh", "-c", 'mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f "$1"', "sh", f"{limosa.home}/sshd_config"]
    with (limosa.home / "sshd.log").open("w+") as log:
        child = subprocess.Popen(daemon.enter(argv), stderr=log, stdin=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 20
            while "listening on" not in (limosa.home / "sshd.log").read_text():
                assert time.monotonic() < end and child.poll() is None, (limosa.home / "sshd.log").read_text()
                time.sleep(0.05)
            yield
        finally:
            child.kill()
            child.wait()


@pytest.mark.usefixtures("sshd")
def test_a_machine_over_ssh_and_a_container(limosa: Command, daemon: daemons.Daemon) -> None:
    moves_there_and_back(limosa, written(limosa, MACHINE_AND_CONTAINER, daemon))
    assert "mixed" not in daemon.client("list", "--format", "csv")


@pytest.mark.parametrize("kind", [pytest.param("incus"), pytest.param("lxd", marks=pytest.mark.slow)])
def test_demo_runs_the_main_job_on_containers(kind: str) -> None:
    """The example, with an image that needs no internet, and the addresses that its system without DHCP lacks."""
    text = EXAMPLE.read_text().replace("images:alpine/3.23", "tiny").replace("kind: incus", f"kind: {kind}")
    text = text.replace("incusbr0", daemons.FLAVOURS[kind].bridge)
    for number in (1, 2):
        address = f"addresses: {{lan: 10.83.0.1{number}}}"
        text = text.replace(f"  host{number}: {{", f"  host{number}: {{{address}, ")
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(daemons.running(kind))
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lm", dir="/tmp")))
        (home / "lab.yaml").write_text(text)
        command = Command(home, tuple(daemon.enter([])), environment=daemon.variables)
        done = command.ok("demo", "--lab", str(home / "lab.yaml"), "--json", timeout_s=240)
        environment = json.loads(Path(done.json["run"], "environment.json").read_text())
        assert {host["kind"] for host in environment["hosts"].values()} == {kind}
        migrations = json.loads(Path(done.json["run"], "migrations.json").read_text())
        assert [m["outcome"] for m in migrations] == ["completed", "completed"]
        assert daemon.client("list", "--format", "csv") == ""
        assert "nfs" not in daemon.client("storage", "volume", "list", "default", "--format", "csv")
