"""A real Debian as the container: systemd is its init, dnsmasq gives it its address, apt-get installs QEMU in it.

The second half logs in to such a container, as to any machine that runs systemd: what a lab starts there has to be in a
scope of its own, or it would end with the login.
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
from tests import daemons, debian_container, repositories
from tests.limosa_command import Command
from tests.ssh_machine import keygen

pytestmark = [pytest.mark.system, pytest.mark.slow]
EXAMPLE = Path(__file__).parents[2] / "examples" / "incus-two-hosts.yaml"
INSTALL_S = 600


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> debian_container.Debian:
    return debian_container.built(tmp_path_factory.mktemp("debian"))


@pytest.fixture(scope="module", params=("incus", "lxd"))
def daemon(request: pytest.FixtureRequest, debian: debian_container.Debian) -> Iterator[daemons.Daemon]:
    with daemons.running(request.param) as daemon:
        debian_container.imported(daemon, debian)
        yield daemon


@pytest.fixture
def repository(daemon: daemons.Daemon, debian: debian_container.Debian) -> Iterator[None]:
    with repositories.served(daemon, debian.repository):
        yield


@pytest.fixture
def limosa(daemon: daemons.Daemon) -> Iterator[Command]:
    with tempfile.TemporaryDirectory(prefix="ld", dir="/tmp") as home:
        command = Command(
            Path(home),
            tuple(daemon.enter([])),
            environment=dict(daemon.variables) | {"HOME": home, "XDG_CACHE_HOME": str(paths.cache().parent)},
        )
        yield command
        assert command.labs == []
        assert daemon.client("list", "--format", "csv", "-c", "n").split() in ([], ["box"])
        assert "nfs" not in daemon.client("storage", "volume", "list", "default", "--format", "csv")


def example(limosa: Command, daemon: daemons.Daemon) -> Path:
    """The course's setup, with this image; addresses are its system's own, by DHCP."""
    text = (
        EXAMPLE.read_text()
        .replace("images:alpine/3.23", "debian")
        .replace("kind: incus", f"kind: {daemon.flavour.name}")
    )
    file = limosa.home / "lab.yaml"
    file.write_text(text.replace("incusbr0", daemon.flavour.bridge))
    return file


def test_without_a_network_it_is_said_what_could_not_be_installed(limosa: Command, daemon: daemons.Daemon) -> None:
    done = limosa.run("up", str(example(limosa, daemon)), timeout_s=INSTALL_S)
    done.refused(3, "lacks python3 qemu-system-x86, and apt-get could not install it", hint="a way out?")
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


# -- a machine that runs systemd --------------------------------------------------------------------------------------

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
    daemon: daemons.Daemon, debian: debian_container.Debian, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Box]:
    box = Box(daemon, tmp_path_factory.mktemp("desk"))
    ssh = box.home / ".ssh"
    ssh.mkdir(mode=0o700)
    public = keygen(ssh / "id_ed25519")
    daemon.client("launch", "debian", "box")
    try:
        with repositories.served(daemon, debian.repository):
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
