"""Whole labs of containers, by the real command line, where the bridge is an interface; and a daemon by HTTPS."""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import daemons
from tests.limosa_command import SOURCE, Command, as_user

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
        (limosa.state / "labs" / "boxes" / "record.json").unlink()  # found again by what bears the lab's mark
        assert limosa.ok("up", "--lab", "boxes").text == "nothing to do: the lab is up\n"
        assert [guest["host"] for guest in limosa.ok("status", "--lab", "boxes", "--json").json["guests"]] == ["host2"]
        limosa.ok("host", "power-off", "host1", "--lab", "boxes")
        limosa.ok("host", "restore", "host1", "--lab", "boxes")
        limosa.ok("migrate", "guest1", "host1", "--lab", "boxes")
        launched, adopted = (daemon.client("exec", name, "--", "ip", "rule") for name in ("boxes-host1", "box"))
        rules = [line.split() for line in launched.splitlines() if "61000-65534" in line]
        assert [(rule[2], rule[4], rule[-1]) for rule in rules] == [
            ("10.83.0.12", "10.83.0.11", "local"), ("all", "10.83.0.11", "prohibit"),
        ]  # fmt: skip
        assert "61000" not in adopted, "what is somebody else's is not changed"
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


# What the course has its students type, in this order; by the third step eth0 is in a bridge of theirs.
BY_HAND = """
ip link add name br0 type bridge stp_state 0 forward_delay 0
ip tuntap add dev tap0 mode tap
ip link set eth0 master br0 && ip link set tap0 master br0
ip link set eth0 up && ip link set tap0 up && ip link set br0 up
ip addr add $1/24 dev br0 && ip route add default via 10.83.0.1 dev br0
"""
LOOK = (
    "ip -br link | sed 's/@[^ ]*//' | cut -c1-32; ip -o link | grep -o ' master [a-z0-9]*'; ip -br addr; ip route;"
    " ls -A /run /mnt /mnt/nfs; ls -l /dev/kvm /dev/net; cat /proc/[0-9]*/comm | grep -e qemu -e python; true"
)
ADOPTED = """
name: byhand
networks:
  lan: {{subnet: 10.83.0.0/24, client: 10.83.0.1}}
storage:
  nfs: {{kind: volume, mount: /mnt/nfs}}
hosts:
  host1: {{kind: {kind}, adopt: host1}}
  host2: {{kind: {kind}, adopt: host2, addresses: {{lan: 10.83.0.22}}}}
guests:
  guest1: {{image: bare, host: host1, memory: 32 MiB}}
  guest2: {{host: host1, memory: 256 MiB, network: lan}}
"""


@pytest.fixture
def by_hand(daemon: daemons.Daemon) -> Iterator[None]:
    """Two hosts that somebody made by following the course's text, and works in."""
    daemon.client("storage", "volume", "create", "default", "nfs")
    kvm = ["kvm", "unix-char", "source=/dev/kvm", "path=/dev/kvm", "required=false"]
    # A container has a /dev/net/tun by itself, which is as closed to it as the machine's is to others.
    tun = ["tun", "unix-char", "source=/dev/net/tun", "path=/dev/net/tun"]
    try:
        for number in (1, 2):
            daemon.client("launch", "tiny", f"host{number}")
            nfs = ["nfs", "disk", "pool=default", "source=nfs", "path=/mnt/nfs"]
            for device in (nfs, kvm, tun):
                daemon.client("config", "device", "add", f"host{number}", *device)
            daemon.client("exec", f"host{number}", "--", "sh", "-ec", BY_HAND, "sh", f"10.83.0.1{number}")
        daemon.client("exec", "host1", "--", "touch", "/mnt/nfs/alpine.img")
        yield
    finally:
        for number in (1, 2):
            daemon.client("delete", "--force", f"host{number}", check=False)
        daemon.client("storage", "volume", "delete", "default", "nfs")


def all_of(daemon: daemons.Daemon) -> list[str]:
    """All that the daemon and the containers themselves tell of what the user made."""
    seen = daemon.client("storage", "volume", "show", "default", "nfs")
    for name in ("host1", "host2"):
        seen += daemon.client("config", "show", name) + daemon.client("exec", name, "--", "sh", "-c", LOOK)
    return seen.splitlines()


@pytest.mark.usefixtures("by_hand")
def test_hosts_made_by_hand_as_the_course_says_are_used_and_given_back(limosa: Command, daemon: daemons.Daemon) -> None:
    file = limosa.home / "byhand.yaml"
    file.write_text(ADOPTED.format(kind=daemon.flavour.name))
    before = all_of(daemon)
    limosa.ok("up", str(file), "--no-start")
    try:
        inside = daemon.client("exec", "host1", "--", "ip", "-br", "link", "show", "master", "br0")
        taps = [line.split()[0] for line in inside.splitlines() if "tap" in line and not line.startswith("tap0")]
        assert len(taps) == 1, inside
        assert "eth0" in inside and "tap0" in inside, "the user's own bridge takes the guest's TAP"
        held = daemon.client("exec", "host2", "--", "ip", "-br", "addr", "show", "br0")
        assert "10.83.0.12/24" in held and "10.83.0.22/24" in held
        limosa.ok("start", "guest1", "--lab", "byhand")
        limosa.ok("migrate", "guest1", "host2", "--lab", "byhand")
    finally:
        limosa.ok("down", "--lab", "byhand")
    # The far end of the last command takes a moment to see that nobody commands it any more.
    end_s = time.monotonic() + 30
    while changed := [line for line in difflib.ndiff(before, all_of(daemon)) if line[0] in "+-"]:
        assert time.monotonic() < end_s, changed
        time.sleep(0.2)


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


BAD = """
name: bad
networks: {{lan: {{subnet: 10.83.0.0/24, client: 10.83.0.1}}}}
storage: {{nfs: {{kind: volume, mount: /mnt/nfs}}}}
hosts: {{host1: {{kind: {kind}, image: {image}}}}}
guests: {{guest1: {{image: bare, host: host1, memory: 32 MiB}}}}
"""


def test_what_is_wrong_is_one_sentence_and_leaves_nothing(limosa: Command, daemon: daemons.Daemon) -> None:
    kind, title = daemon.flavour.name, {"incus": "Incus", "lxd": "LXD"}[daemon.flavour.name]
    good, misspelt = limosa.home / "good.yaml", limosa.home / "misspelt.yaml"
    good.write_text(BAD.format(kind=kind, image="tiny"))
    misspelt.write_text(BAD.format(kind=kind, image="tinny"))
    variable = daemon.flavour.directory_variable

    limosa.run("up", str(good), **{variable: "/nowhere"}).refused(
        3, f"no {title} daemon answers: nothing listens on /nowhere/unix.socket", hint="start it"
    )
    limosa.run("up", str(misspelt)).refused(2, "no local image 'tinny', did you mean 'tiny'", hint="it has tiny")
    daemon.client("init", "tiny", "bad-host1")
    taken = daemon.client("config", "show", "bad-host1")
    limosa.run("up", str(good)).refused(
        4, "container bad-host1 exists already, and it is not limosa's", hint="adopt: bad-host1"
    )
    assert daemon.client("config", "show", "bad-host1") == taken
    daemon.client("delete", "--force", "bad-host1")
    nobody_may(limosa, daemon, good, title)

    limosa.run("down", str(good))
    assert limosa.labs == []
    assert daemon.client("list", "--format", "csv") == ""
    assert "nfs" not in daemon.client("storage", "volume", "list", "default", "--format", "csv")


def nobody_may(limosa: Command, daemon: daemons.Daemon, file: Path, title: str) -> None:
    """As a user who is not in the daemon's group: its socket is really closed to them."""
    with tempfile.TemporaryDirectory(prefix="lu", dir="/tmp") as home:
        Path(home, "lab.yaml").write_text(file.read_text())
        variable = daemon.flavour.directory_variable
        user = as_user(Path(home), *limosa.prefix, **{variable: daemon.variables[variable]})
        user.run("up", f"{home}/lab.yaml").refused(3, f"this user may not use {title}'s socket", hint="usermod -aG")
        assert user.labs == []
