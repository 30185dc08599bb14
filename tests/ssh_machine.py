"""A machine to log in to: a namespace host with a real sshd, reached by a ProxyCommand of the ssh config in $HOME.

Everything is made here: host key, login key, known_hosts, configuration. Root only, because sshd changes users.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from limosa import spec
from limosa.deadline import Deadline
from limosa.hosts.namespaces import NamespaceHost
from limosa.lab import Lab

LAB = "name: {name}\nhosts:\n  host1: {{}}\n"
ADDRESS = ("127.0.0.1", 22)
USER = "ordinary"
USER_ID = 12345
RELAY = f"""
import os, selectors, socket
there = socket.create_connection({ADDRESS})
there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
select = selectors.DefaultSelector()
select.register(0, selectors.EVENT_READ, lambda: (os.read(0, 65536), there.sendall))
select.register(there, selectors.EVENT_READ, lambda: (there.recv(65536), lambda data: os.write(1, data)))
while True:
    for key, _ in select.select():
        data, send = key.data()
        if not data:
            raise SystemExit
        while data:
            data = data[send(data) or len(data):]
"""
SSHD = """
ListenAddress 127.0.0.1
HostKey /run/sshd/host_key
AuthorizedKeysFile /run/sshd/authorized_keys
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
PidFile none
StrictModes no
Subsystem sftp internal-sftp
{extra}
"""


def required() -> None:
    """Skip the test where no such machine can be made."""
    if os.geteuid() != 0:
        pytest.skip("only root can start an sshd that others log in to")
    if not Path("/usr/sbin/sshd").exists():
        pytest.skip("there is no sshd: apt-get install openssh-server")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("this root may not make namespaces")


def keygen(path: Path) -> str:
    """A new key without a passphrase; its public half as text."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_name(path.name + ".pub").read_text()


@dataclass(slots=True)
class SshMachine:
    """``machine1`` in the ssh config of *home*; log in as *user*."""

    lab: Lab
    home: Path
    user: str
    extra: str = ""
    """More lines for sshd_config."""

    @property
    def host(self) -> NamespaceHost:
        """The machine from below: what runs there whatever SSH does."""
        return self.lab.host("host1")

    @property
    def ssh(self) -> Path:
        """The folder with the user's configuration."""
        return self.home / ".ssh"

    async def start(self) -> None:
        """Start sshd, after the host was made or switched on again, and say how it is reached."""
        host = self.host
        await host.run(["mkdir", "-p", "/run/sshd"])
        await host.run(["chmod", "0711", "/run/sshd"])
        for name, text in (
            ("host_key", (self.ssh / "host_key").read_text()),
            ("authorized_keys", (self.ssh / "id_ed25519.pub").read_text()),
            ("config", SSHD.format(extra=self.extra)),
        ):
            await host.run(["tee", f"/run/sshd/{name}"], stdin=text.encode())
        await host.run(["chmod", "0644", "/run/sshd/authorized_keys"])
        if self.user != "root":
            await self._add_user()
        await host.spawn(["/usr/sbin/sshd", "-D", "-e", "-f", "/run/sshd/config"], log="/run/sshd/log")
        self.configure()
        async for _ in Deadline.after(20).ticks(0.02):
            if (await host.run(["grep", "-q", "listening on 127", "/run/sshd/log"], check=False)).returncode == 0:
                return
        raise AssertionError((await host.run(["cat", "/run/sshd/log"])).text)

    def configure(self, extra: str = "") -> None:
        """Write the ssh config."""
        relay = ["nsenter", "--net", "--target", str(self.host.keeper.pid), sys.executable, "-I", "-S", "-c", RELAY]
        (self.home / "relay").write_text(f"#!/bin/sh\nexec {shlex.join(relay)}\n")
        (self.home / "relay").chmod(0o700)
        lines = ["Host machine1", f"User {self.user}", f"ProxyCommand {self.home}/relay", "IdentitiesOnly yes"]
        lines += [f"IdentityFile {self.ssh}/id_ed25519", f"UserKnownHostsFile {self.ssh}/known_hosts"]
        (self.ssh / "config").write_text("\n".join([*lines, "LogLevel ERROR", extra, ""]))

    async def _add_user(self) -> None:
        """An ordinary user, known on this machine only: its /etc/passwd lies over the real one in its own mounts."""
        host, line = self.host, f"{USER}:x:{USER_ID}:{USER_ID}::/run/home:/bin/sh\n"
        await host.run(["mkdir", "-p", "/run/home", "/run/etc"])
        await host.run(["chown", f"{USER_ID}:{USER_ID}", "/run/home"])
        await host.run(["chmod", "1777", "/run"])
        for name, more in (("passwd", line), ("shadow", f"{USER}:*:19000:0:99999:7:::\n")):
            text = Path("/etc", name).read_text() + more
            await host.run(["tee", f"/run/etc/{name}"], stdin=text.encode())
            await host.run(["chmod", "0644" if name == "passwd" else "0600", f"/run/etc/{name}"])
            await host.run(["mount", "--bind", f"/run/etc/{name}", f"/etc/{name}"])

    async def power_off(self) -> None:
        """Pull its plug."""
        await self.lab.power_off("host1")

    async def restore(self) -> None:
        """Switch it on again."""
        await self.lab.restore("host1")
        await self.start()


@asynccontextmanager
async def ssh_machine(name: str, user: str = "root", extra: str = "") -> AsyncIterator[SshMachine]:
    """The machine, and a $HOME whose ssh config names it ``machine1``."""
    home = Path(tempfile.mkdtemp(prefix="lh"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        try:
            (home / ".ssh").mkdir(mode=0o700)
            keygen(home / ".ssh" / "id_ed25519")
            public = keygen(home / ".ssh" / "host_key")
            (home / ".ssh" / "known_hosts").write_text(f"machine1 {public}")
            async with Lab.open(spec.loads(LAB.format(name=name)), ephemeral=True, rootless=False) as lab:
                await lab.up()
                machine = SshMachine(lab, home, user, extra)
                await machine.start()
                yield machine
        finally:
            shutil.rmtree(home)
