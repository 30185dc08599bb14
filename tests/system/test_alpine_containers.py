"""A real Alpine as the container: busybox, OpenRC as its init, its address by udhcpc, QEMU installed by apk."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa import paths
from tests import alpine_container, daemons, repositories
from tests.limosa_command import Command

pytestmark = [pytest.mark.system, pytest.mark.slow]
EXAMPLE = Path(__file__).parents[2] / "examples" / "incus-two-hosts.yaml"
INSTALL_S = 600


@pytest.fixture(scope="module")
def alpine(tmp_path_factory: pytest.TempPathFactory) -> alpine_container.Alpine:
    return alpine_container.built(tmp_path_factory.mktemp("alpine"))


@pytest.fixture(scope="module", params=("incus", "lxd"))
def daemon(request: pytest.FixtureRequest, alpine: alpine_container.Alpine) -> Iterator[daemons.Daemon]:
    with daemons.running(request.param) as daemon:
        alpine_container.imported(daemon, alpine)
        yield daemon


@pytest.fixture
def repository(daemon: daemons.Daemon, alpine: alpine_container.Alpine) -> Iterator[None]:
    with repositories.served(daemon, alpine.repository):
        yield


@pytest.fixture
def limosa(daemon: daemons.Daemon) -> Iterator[Command]:
    with tempfile.TemporaryDirectory(prefix="la", dir="/tmp") as home:
        command = Command(
            Path(home),
            tuple(daemon.enter([])),
            environment=dict(daemon.variables) | {"HOME": home, "XDG_CACHE_HOME": str(paths.cache().parent)},
        )
        yield command
        assert command.labs == []
        assert daemon.client("list", "--format", "csv", "-c", "n") == ""
        assert "nfs" not in daemon.client("storage", "volume", "list", "default", "--format", "csv")


def example(limosa: Command, daemon: daemons.Daemon) -> Path:
    """The course's setup, as it is but for where the image comes from."""
    text = (
        EXAMPLE.read_text()
        .replace("images:alpine/3.23", "alpine")
        .replace("kind: incus", f"kind: {daemon.flavour.name}")
    )
    file = limosa.home / "lab.yaml"
    file.write_text(text.replace("incusbr0", daemon.flavour.bridge))
    return file


def test_without_a_network_it_is_said_what_could_not_be_installed(limosa: Command, daemon: daemons.Daemon) -> None:
    done = limosa.run("up", str(example(limosa, daemon)), timeout_s=INSTALL_S)
    done.refused(3, "lacks iproute2 python3 qemu-system-x86_64, and apk could not install it", hint="a way out?")
    assert b"Connection refused" in done.err
    limosa.run("down", "--lab", "incus-two-hosts")


@pytest.mark.usefixtures("repository")
def test_the_main_job_in_containers_that_install_qemu_themselves(limosa: Command, daemon: daemons.Daemon) -> None:
    """The image has no QEMU, as the test before this one sees."""
    done = limosa.ok("demo", "--lab", str(example(limosa, daemon)), "--json", timeout_s=INSTALL_S)
    run = Path(done.json["run"])
    migrations = json.loads((run / "migrations.json").read_text())
    assert [m["outcome"] for m in migrations] == ["completed", "completed"]
    assert (run / "report.html").stat().st_size > 10_000
    environment = json.loads((run / "environment.json").read_text())
    assert {host["kind"] for host in environment["hosts"].values()} == {daemon.flavour.name}


# -- containers of the user's own -------------------------------------------------------------------------------------

# As the course writes it, eth0 in a bridge of the system's own; the other container is left as it was launched.
BY_HAND = """
rc-service networking stop
cat >/etc/network/interfaces <<'END'
auto lo
iface lo inet loopback
auto tap0
iface tap0 inet manual
    pre-up tunctl -t tap0
auto br0
iface br0 inet dhcp
    bridge_ports eth0 tap0
    bridge_stp 0
    hostname $(hostname)
END
rc-service networking start
"""
LAB = """
name: byhand
networks: {{lan: {{subnet: 10.83.0.0/24, client: 10.83.0.1}}}}
storage: {{nfs: {{kind: volume, pool: default, volume: nfs, mount: /mnt/nfs}}}}
hosts:
  host1: {{kind: {kind}, adopt: host1}}
  host2: {{kind: {kind}, adopt: host2}}
guests:
  guest1: {{image: bare, host: host1, memory: 32 MiB}}
"""
WITH_NETWORK = "n=0; until ip -4 addr show | grep -q 10.83.0; do n=$((n + 1)); [ $n -lt 300 ] || exit; sleep 0.1; done"
LOOK = """
ip -br link | sed 's/@[^ ]*//' | cut -c1-32; ip -br addr; ip route; ls -A /run /mnt /mnt/nfs; hostname
cat /proc/[0-9]*/comm | sort | grep -e qemu -e python -e udhcpc; ls /sys/class/net/*/brif; rc-status -a; true
"""


@pytest.fixture
def by_hand(daemon: daemons.Daemon, limosa: Command, repository: None) -> Iterator[None]:
    """Two Alpine containers as somebody set them up by the course's text, with QEMU in them; one has Python too.

    *limosa* is there before and after: it looks at what is left.
    """
    daemon.client("storage", "volume", "create", "default", "nfs")
    try:
        for name in ("host1", "host2"):
            daemon.client("launch", "alpine", name)
            daemon.client("config", "device", "add", name, "nfs", "disk", "pool=default", "source=nfs", "path=/mnt/nfs")
            tun = ["tun", "unix-char", "source=/dev/net/tun", "path=/dev/net/tun"]
            daemon.client("config", "device", "add", name, *tun)
            daemon.client("exec", name, "--", "sh", "-c", WITH_NETWORK)
            daemon.client("exec", name, "--", "apk", "add", "qemu-system-x86_64", "iproute2")
        daemon.client("exec", "host1", "--", "apk", "add", "python3")
        daemon.client("exec", "host1", "--", "sh", "-c", BY_HAND)
        daemon.client("exec", "host1", "--", "sh", "-c", WITH_NETWORK)
        yield
    finally:
        for name in ("host1", "host2"):
            daemon.client("delete", "--force", name, check=False)
        daemon.client("storage", "volume", "delete", "default", "nfs")


def seen(daemon: daemons.Daemon, name: str) -> list[str]:
    """What a container is, as the daemon and its own system tell it."""
    return (daemon.client("config", "show", name) + daemon.says(name, LOOK)).splitlines()


@pytest.mark.usefixtures("by_hand")
def test_containers_set_up_by_hand_are_used_and_given_back(limosa: Command, daemon: daemons.Daemon) -> None:
    file = limosa.home / "byhand.yaml"
    file.write_text(LAB.format(kind=daemon.flavour.name))
    before = {name: seen(daemon, name) for name in ("host1", "host2")}
    bridged = "ls /sys/class/net/br0/brif && brctl show br0"
    assert daemon.says("host1", bridged).split()[:2] == ["eth0", "tap0"]
    examined = {
        one["name"]: one for one in json.loads(limosa.run("doctor", "--lab", str(file), "--json").out)["examined"]
    }
    assert examined["host1"]["ready"], examined["host1"]
    assert examined["host2"]["findings"][0]["fix"].startswith("install python3 in container host2, as limosa up does")
    up = limosa.ok("up", str(file))
    assert "container host2 lacks python3" in str(up) and "container host1 lacks" not in str(up)
    try:
        limosa.ok("migrate", "guest1", "host2", "--lab", "byhand")
        limosa.ok(
            "exec", "host2", "--lab", "byhand", "--", "sh", "-c", "pidof qemu-system-x86_64 && hostname | grep host2"
        )
        limosa.ok("migrate", "guest1", "host1", "--lab", "byhand")
    finally:
        limosa.ok("down", "--lab", "byhand")
    for name, was in before.items():
        # The far end of the last command takes a moment to see that nobody commands it any more.
        end_s = time.monotonic() + 30
        while (now := seen(daemon, name)) != was and time.monotonic() < end_s:
            time.sleep(0.5)
        assert now == was


@pytest.mark.usefixtures("repository")
def test_a_container_that_was_off_is_a_host_again(limosa: Command, daemon: daemons.Daemon) -> None:
    """OpenRC mounts a new /run at each start, and its DHCP client asks again."""
    text = example(limosa, daemon).read_text().partition("guests:")[0]
    file = limosa.home / "bare.yaml"
    file.write_text(text + "guests:\n  guest1: {image: bare, host: host1, memory: 32 MiB}\n")
    limosa.ok("up", str(file), timeout_s=INSTALL_S)
    try:
        limosa.ok("host", "power-off", "host2", "--lab", "incus-two-hosts")
        limosa.ok("host", "restore", "host2", "--lab", "incus-two-hosts")
        limosa.ok("migrate", "guest1", "host2", "--lab", "incus-two-hosts")
        limosa.ok("exec", "host2", "--lab", "incus-two-hosts", "--", "pidof", "qemu-system-x86_64")
    finally:
        limosa.ok("down", "--lab", "incus-two-hosts")


@pytest.mark.usefixtures("repository")
def test_without_the_community_repository_it_is_said_where_qemu_is(limosa: Command, daemon: daemons.Daemon) -> None:
    daemon.client("launch", "alpine", "host1")
    try:
        daemon.client("exec", "host1", "--", "sed", "-i", "/community/d", "/etc/apk/repositories")
        file = limosa.home / "one.yaml"
        text = LAB.format(kind=daemon.flavour.name).replace("byhand", "one")
        file.write_text("\n".join(line for line in text.splitlines() if "host2" not in line))
        done = limosa.run("up", str(file))
        done.refused(
            3, "qemu-system-x86_64 (no such package)", hint="qemu-system-x86_64 is of Alpine's repository comm"
        )
        limosa.run("down", "--lab", "one")
    finally:
        daemon.client("delete", "--force", "host1")
