"""Two machines to log in to, and a desk to do it from: namespace hosts with a real sshd each, on one network.

Whoever uses them is a process in the network namespace of the desk (the lab's client), with a $HOME whose ssh config
knows both: what is told to ``limosa`` there goes over the network, as to real machines.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from limosa import paths, spec
from limosa.deadline import Deadline
from limosa.hosts.host import Host
from limosa.lab import Lab
from tests.limosa_command import Command
from tests.ssh_machine import USER, USER_ID, keygen

LAB = """
name: {name}
networks: {{lan: {{subnet: 10.77.1.0/24}}}}
hosts: {{server1: {{}}, server2: {{}}}}
"""
SSHD = """
ListenAddress {address}
HostKey /run/sshd/host_key
AuthorizedKeysFile /run/sshd/authorized_keys
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
PidFile none
StrictModes no
"""


@dataclass(slots=True)
class Servers:
    """``server1`` and ``server2`` of the ssh config in *home*."""

    lab: Lab
    home: Path
    user: str = "root"

    @property
    def command(self) -> Command:
        """``limosa`` at the desk."""
        desk = tuple(
            self.lab.interactive("client", ["env", f"HOME={self.home}", f"XDG_CACHE_HOME={paths.cache().parent}"])
        )
        return Command(self.home, prefix=desk)

    def machine(self, name: str) -> Host:
        """A server from below: what runs there whatever SSH does."""
        return self.lab.host(name)

    async def serve(self, name: str) -> None:
        """Start the sshd of one server, and give it /srv/vms, which is the same on both."""
        host, ssh = self.machine(name), self.home / ".ssh"
        address = self.lab.spec.hosts[name].addresses["lan"]
        await host.run(["mkdir", "-p", "/run/sshd"])
        # A home of its own: a shell that is started by sshd reads what this machine's root has in .bashrc.
        await host.run(["mount", "-t", "tmpfs", "tmpfs", "/root"])
        await host.run(["mount", "-t", "tmpfs", "tmpfs", "/srv"])
        await host.run(["mkdir", "/srv/vms"])
        await host.run(["mount", "--bind", "/run/limosa/storage/shared", "/srv/vms"])
        for file, text in (
            ("host_key", (ssh / "host_key").read_text()),
            ("authorized_keys", (ssh / "id_ed25519.pub").read_text()),
            ("config", SSHD.format(address=address)),
        ):
            await host.run(["tee", f"/run/sshd/{file}"], stdin=text.encode())
        if self.user != "root":
            await self._add_user(host)
        await host.spawn(["/usr/sbin/sshd", "-D", "-e", "-f", "/run/sshd/config"], log="/run/sshd/log")
        async for _ in Deadline.after(20).ticks(0.02):
            if "listening on" in (await host.run(["cat", "/run/sshd/log"], check=False)).text:
                return
        raise AssertionError((await host.run(["cat", "/run/sshd/log"])).text)

    async def _add_user(self, host: Host) -> None:
        """An ordinary user with sudo, as on a real machine: its own /tmp, /dev/net/tun open to all, a shared folder."""
        passwd = Path("/etc/passwd").read_text() + f"{USER}:x:{USER_ID}:{USER_ID}::/run/home:/bin/sh\n"
        shadow = Path("/etc/shadow").read_text() + f"{USER}:*:19000:0:99999:7:::\n"
        sudoers = f"root ALL=(ALL:ALL) ALL\n{USER} ALL=(ALL) NOPASSWD: ALL\n"
        script = f"""
            mkdir -p /run/etc /run/home && chown {USER_ID}:{USER_ID} /run/home && chmod 0711 /run/sshd /run/home
            mount -t tmpfs -o mode=1777 tmpfs /tmp
            mount -t tmpfs tmpfs /dev/net && mknod -m 0666 /dev/net/tun c 10 200
            chmod 0777 /srv/vms && chmod 0644 /run/sshd/authorized_keys
        """
        await host.run(["sh", "-ec", script])
        for name, text, mode in (("passwd", passwd, "0644"), ("shadow", shadow, "0600"), ("sudoers", sudoers, "0440")):
            await host.run(["tee", f"/run/etc/{name}"], stdin=text.encode())
            await host.run(["chmod", mode, f"/run/etc/{name}"])
            await host.run(["mount", "--bind", f"/run/etc/{name}", f"/etc/{name}"])


@asynccontextmanager
async def ssh_servers(name: str, user: str = "root") -> AsyncIterator[Servers]:
    """The servers, as long as the context is open."""
    home = Path(tempfile.mkdtemp(prefix="lh"))
    ssh = home / ".ssh"
    try:
        ssh.mkdir(mode=0o700)
        keygen(ssh / "id_ed25519")
        public = keygen(ssh / "host_key")
        described = spec.loads(LAB.format(name=name))
        async with Lab.open(described, ephemeral=True, rootless=False) as lab:
            await lab.up()
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
