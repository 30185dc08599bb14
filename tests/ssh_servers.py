"""Machines to log in to, and a desk to do it from: namespace hosts with a real sshd each, on one network.

Whoever uses them is a process in the network namespace of the desk (the lab's client), with a $HOME whose ssh config
knows them: what is told to ``limosa`` there goes over the network, as to real machines.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from limosa import paths, spec
from limosa.hosts.host import Host
from limosa.lab import Lab
from limosa.spec import resolved
from tests import sshd
from tests.limosa_command import Command
from tests.ssh_machine import SFTP
from tests.sshd import keygen

LAB = """
name: {name}
networks: {{lan: {{subnet: 10.77.1.0/24}}}}
hosts: {{{servers}}}
"""


# A home of its own: a shell that is started by sshd reads what this machine's root has in .bashrc.
FURNISH = """
    mount -t tmpfs tmpfs /root
    mount -t tmpfs tmpfs /srv
    mkdir /srv/vms
    mount --bind /run/limosa/storage/shared /srv/vms
"""
# As on a real machine: a /tmp of its own, /dev/net/tun open to all, a shared folder.
FURNISH_USER = """
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    mount -t tmpfs tmpfs /dev/net && mknod -m 0666 /dev/net/tun c 10 200
    chmod 0777 /srv/vms
"""


@dataclass(slots=True)
class Servers:
    """``server1``, ``server2`` and so on of the ssh config in *home*."""

    lab: Lab
    home: Path
    user: str = "root"

    @property
    def command(self) -> Command:
        """``limosa`` at the desk."""
        desk = tuple(
            self.lab.hosts.interactive("client", ["env", f"HOME={self.home}", f"XDG_CACHE_HOME={paths.cache().parent}"])
        )
        return Command(self.home, prefix=desk)

    def machine(self, name: str) -> Host:
        """A server from below: what runs there whatever SSH does."""
        return self.lab.host(name)

    async def serve(self, name: str) -> None:
        """Start the sshd of one server, and give it /srv/vms, which is the same on all."""
        host = self.machine(name)
        await host.run(["sh", "-ec", FURNISH])
        if self.user != "root":
            await host.run(["sh", "-ec", FURNISH_USER])
            await sshd.add_user(host, sudo=True)
        address = self.lab.spec.hosts[name].addresses["lan"]
        await sshd.serve(host, self.home / ".ssh", address=address, extra=SFTP)


@asynccontextmanager
async def _opened(described: resolved.Lab, home: Path) -> AsyncIterator[Lab]:
    """The servers' own lab, up, with a state home that no other run on this machine uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home / "servers"))
        async with Lab.open(described, ephemeral=True, rootless=False) as lab:
            await lab.up()
            yield lab


@asynccontextmanager
async def ssh_servers(name: str, user: str = "root", count: int = 2) -> AsyncIterator[Servers]:
    """The servers, as long as the context is open."""
    home = Path(tempfile.mkdtemp(prefix="lh"))
    ssh = home / ".ssh"
    try:
        ssh.mkdir(mode=0o700)
        keygen(ssh / "id_ed25519")
        public = keygen(ssh / "host_key")
        hosts = ", ".join(f"server{number}: {{}}" for number in range(1, count + 1))
        described = spec.loads(LAB.format(name=name, servers=hosts))
        async with _opened(described, home) as lab:
            servers = Servers(lab, home, user)
            lines = []
            for server, host in described.hosts.items():
                await servers.serve(server)
                lines += [f"Host {server}", f"HostName {host.addresses['lan']}", f"User {user}"]
            lines += ["Host *", "IdentitiesOnly yes", f"IdentityFile {ssh}/id_ed25519"]
            lines += [f"UserKnownHostsFile {ssh}/known_hosts", "HashKnownHosts no"]
            (ssh / "config").write_text("\n".join([*lines, ""]))
            addresses = [host.addresses["lan"] for host in described.hosts.values()]
            (ssh / "known_hosts").write_text("".join(f"{address} {public}" for address in addresses))
            yield servers
    finally:
        shutil.rmtree(home)


@contextmanager
def servers_of(runner: asyncio.Runner, name: str, user: str = "root", count: int = 2) -> Iterator[Servers]:
    """``ssh_servers`` on the loop of *runner*; the test is skipped where there can be none."""
    sshd.required()
    made = ssh_servers(name, user, count)
    opened = runner.run(made.__aenter__())
    try:
        yield opened
    finally:
        runner.run(made.__aexit__(None, None, None))
