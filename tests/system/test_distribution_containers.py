"""Real distributions as containers: their own init, their own DHCP client, QEMU installed by their own package manager.

Debian has systemd, and dnsmasq gives it its address; Alpine has busybox, OpenRC and udhcpc. What only one of them shows
stands below: containers of Alpine that somebody set up by hand, and logins to a machine that runs systemd, where what a
lab starts has to be in a scope of its own, or it would end with the login.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from limosa import paths
from tests import alpine_container, container_images, daemons, debian_container, repositories
from tests.limosa_command import Command
from tests.ssh_machine import keygen

pytestmark = [pytest.mark.system, pytest.mark.slow]
EXAMPLE = Path(__file__).parents[2] / "examples" / "incus-two-hosts.yaml"
INSTALL_S = 600


@dataclass(frozen=True, slots=True)
class Distribution:
    """What differs between the two: its image is known by its name."""

    name: str
    built: Callable[[Path], container_images.Image]
    lacking: str
    """What it says where its packages cannot be had."""
    because: str = ""
    """And why, if its package manager tells."""


DISTRIBUTIONS = {
    each.name: each
    for each in (
        Distribution(
            "alpine",
            alpine_container.built,
            "lacks iproute2 python3 qemu-system-x86_64, and apk could not install it",
            "Connection refused",
        ),
        Distribution(
            "debian", debian_container.built, "lacks python3 qemu-system-x86, and apt-get could not install it"
        ),
    )
}
ALPINE = pytest.mark.parametrize("distribution", ["alpine"], indirect=True)
DEBIAN = pytest.mark.parametrize("distribution", ["debian"], indirect=True)


@pytest.fixture(scope="module", params=tuple(DISTRIBUTIONS))
def distribution(request: pytest.FixtureRequest) -> Distribution:
    return DISTRIBUTIONS[request.param]


@pytest.fixture(scope="module")
def image(distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> container_images.Image:
    return distribution.built(tmp_path_factory.mktemp(distribution.name))


@pytest.fixture(scope="module", params=("incus", "lxd"))
def daemon(
    request: pytest.FixtureRequest, distribution: Distribution, image: container_images.Image
) -> Iterator[daemons.Daemon]:
    with daemons.running(request.param) as daemon:
        container_images.imported(daemon, image, distribution.name)
        yield daemon


@pytest.fixture
def repository(daemon: daemons.Daemon, image: container_images.Image) -> Iterator[None]:
    with repositories.served(daemon, image.repository):
        yield


@pytest.fixture
def limosa(daemon: daemons.Daemon) -> Iterator[Command]:
    before = containers(daemon)
    with tempfile.TemporaryDirectory(prefix="ld", dir="/tmp") as home:
        command = Command(
            Path(home),
            tuple(daemon.enter([])),
            environment=dict(daemon.variables) | {"HOME": home, "XDG_CACHE_HOME": str(paths.cache().parent)},
        )
        yield command
        assert command.labs == []
        assert containers(daemon) == before
        assert "nfs" not in daemon.client("storage", "volume", "list", "default", "--format", "csv")


def containers(daemon: daemons.Daemon) -> list[str]:
    """Their names: none, or the one that is logged in to."""
    names = daemon.client("list", "--format", "csv", "-c", "n").split()
    assert names in ([], ["box"])
    return names


def example(limosa: Command, daemon: daemons.Daemon, distribution: Distribution) -> Path:
    """The course's setup, as it is but for where the image comes from; addresses are its system's own, by DHCP."""
    text = (
        EXAMPLE.read_text()
        .replace("images:alpine/3.23", distribution.name)
        .replace("kind: incus", f"kind: {daemon.flavour.name}")
    )
    file = limosa.home / "lab.yaml"
    file.write_text(text.replace("incusbr0", daemon.flavour.bridge))
    return file


def test_without_a_network_it_is_said_what_could_not_be_installed(
    limosa: Command, daemon: daemons.Daemon, distribution: Distribution
) -> None:
    done = limosa.run("up", str(example(limosa, daemon, distribution)), timeout_s=INSTALL_S)
    done.refused(3, distribution.lacking, hint="a way out?")
    assert distribution.because.encode() in done.err
    limosa.run("down", "--lab", "incus-two-hosts")


@pytest.mark.usefixtures("repository")
def test_the_main_job_in_containers_that_install_qemu_themselves(
    limosa: Command, daemon: daemons.Daemon, distribution: Distribution
) -> None:
    """The image has no QEMU, as the test before this one sees."""
    done = limosa.ok("demo", "--lab", str(example(limosa, daemon, distribution)), "--json", timeout_s=INSTALL_S)
    run = Path(done.json["run"])
    migrations = json.loads((run / "migrations.json").read_text())
    assert [m["outcome"] for m in migrations] == ["completed", "completed"]
    assert (run / "report.html").stat().st_size > 10_000
    environment = json.loads((run / "environment.json").read_text())
    assert {host["kind"] for host in environment["hosts"].values()} == {daemon.flavour.name}


# -- containers of the user's own, of Alpine --------------------------------------------------------------------------

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


@ALPINE
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


@ALPINE
@pytest.mark.usefixtures("repository")
def test_a_container_that_was_off_is_a_host_again(
    limosa: Command, daemon: daemons.Daemon, distribution: Distribution
) -> None:
    """OpenRC mounts a new /run at each start, and its DHCP client asks again."""
    text = example(limosa, daemon, distribution).read_text().partition("guests:")[0]
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


@ALPINE
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


# -- a machine that runs systemd: Debian ------------------------------------------------------------------------------

# Another is ordinary, but spared: logind does not end what is left of their logins.
USER, USER_ID, SPARED, SPARED_ID = "ordinary", 12345, "spared", 12346
PREPARE = f"""
export DEBIAN_FRONTEND=noninteractive
until ip -4 -o addr show dev eth0 scope global | grep -q .; do sleep 0.2; done
apt-get update -q && apt-get install -y -q --no-install-recommends {debian_container.IN_REPOSITORY} || exit
useradd --create-home --uid {USER_ID} --shell /bin/sh {USER} || exit
useradd --create-home --uid {SPARED_ID} --shell /bin/sh {SPARED} || exit
echo 'ALL ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/tests
loginctl enable-linger {USER} || exit
mkdir -p /srv/vms && chmod 1777 /srv/vms
for home in /root /home/*; do
    mkdir -p -m 700 $home/.ssh && echo "$1" >$home/.ssh/authorized_keys
done
chown -R {USER}: /home/{USER}/.ssh && chown -R {SPARED}: /home/{SPARED}/.ssh
"""
SCOPES = """
name: scopes
networks: {lan: {subnet: 10.83.0.0/24}}
storage: {shared: {path: /srv/vms}}
hosts: {host1: {kind: ssh, machine: box, links: {lan: eth0}}}
guests: {guest1: {image: bare, host: host1, memory: 32 MiB, accel: tcg}}
"""
# A minimal system has no pgrep.
QEMUS = "for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in qemu-*) echo ${p#/proc/} ;; esac; done"
LOGINS = "grep -alE '^sshd: .*(@|priv)' /proc/[0-9]*/cmdline 2>/dev/null || true"


@dataclass(frozen=True, slots=True)
class Box:
    """A container that whoever has *home* logs in to as ``box``."""

    daemon: daemons.Daemon
    home: Path

    def __call__(self, script: str, *words: str) -> str:
        """What a shell says there, started from below: no login is involved."""
        return self.daemon.client("exec", "box", "--", "sh", "-c", script, "sh", *words)


@pytest.fixture(scope="module")
def box(
    daemon: daemons.Daemon, image: container_images.Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Box]:
    box = Box(daemon, tmp_path_factory.mktemp("desk"))
    ssh = box.home / ".ssh"
    ssh.mkdir(mode=0o700)
    public = keygen(ssh / "id_ed25519")
    daemon.client("launch", "debian", "box")
    try:
        with repositories.served(daemon, image.repository):
            box(PREPARE, public.strip())
        address = box("hostname -I").split()[0]
        (ssh / "known_hosts").write_text(f"{address} {box('cat /etc/ssh/ssh_host_ed25519_key.pub')}")
        (ssh / "config").write_text(
            f"Host box\nHostName {address}\nIdentityFile {ssh}/id_ed25519\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {ssh}/known_hosts\n"
        )
        yield box
    finally:
        daemon.client("delete", "--force", "box")


def wait_until(what: str, holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.2)


@DEBIAN
@pytest.mark.parametrize("daemon", ["incus"], indirect=True)
@pytest.mark.parametrize(
    ("user", "group"),
    [
        ("root", "system.slice/run-"),
        (USER, f"user@{USER_ID}.service/app.slice/run-"),
        (SPARED, f"user-{SPARED_ID}.slice/session-"),
    ],
    ids=["root", "lingering", "spared"],
)
def test_a_guest_outlives_the_login(limosa: Command, box: Box, user: str, group: str) -> None:
    limosa = replace(limosa, environment={**limosa.environment, "HOME": str(box.home)})
    file = limosa.home / "scopes.yaml"
    file.write_text(SCOPES.replace("machine: box", f"machine: {user}@box"))
    before = left(box)
    limosa.ok("up", str(file))
    try:
        pid = box(QEMUS).split()[0]
        cgroup = box(f"cat /proc/{pid}/cgroup")
        assert group in cgroup and cgroup.strip().endswith(".scope"), cgroup
        wait_until("the login ends", lambda: not box(LOGINS))
        [guest] = limosa.ok("status", "--lab", "scopes", "--json").json["guests"]
        assert (guest["state"], guest["host"]) == ("running", "host1")
        assert box(QEMUS).split() == [pid]
    finally:
        limosa.ok("down", "--lab", "scopes")
    assert not box(QEMUS)
    wait_until("the session ends", lambda: not box("loginctl list-sessions --no-legend").strip())
    assert left(box) == before


def left(box: Box) -> str:
    """What a lab could leave: sockets and files, links and their addresses, and scopes."""
    return box(
        "ls -Ad /run/*limosa* /tmp/*limosa* /run/user/*/*limosa* 2>/dev/null; ip -br addr show; "
        "systemctl list-units --all --no-legend 'run-*.scope'"
    )
