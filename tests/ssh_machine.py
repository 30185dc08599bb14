"""A machine to log in to: a namespace host with a real sshd, reached by a ProxyCommand of the ssh config in $HOME.

Everything is made here: host key, login key, known_hosts, configuration.
"""

from __future__ import annotations

import gc
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from limosa import spec
from limosa.deadline import Deadline
from limosa.hosts.namespaces.host import NamespaceHost
from limosa.hosts.ssh.kind import SshKind
from limosa.lab import Lab
from tests import sshd
from tests.sshd import keygen

LAB = "name: {name}\nhosts:\n  host1: {{}}\n"
ADDRESS = ("127.0.0.1", 22)
SFTP = "Subsystem sftp internal-sftp"
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


@dataclass(slots=True)
class SshMachine:
    """``machine1`` in the ssh config of *home*; log in as *user*."""

    lab: Lab
    home: Path
    user: str
    extra: str = SFTP
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
        if self.user != "root":
            await self.host.run(["chmod", "1777", "/run"])
            await sshd.add_user(self.host)
        await sshd.serve(self.host, self.ssh, extra=self.extra)
        self.configure()

    def configure(self, extra: str = "") -> None:
        """Write the ssh config."""
        relay = ["nsenter", "--net", "--target", str(self.host.keeper.pid), sys.executable, "-I", "-S", "-c", RELAY]
        (self.home / "relay").write_text(f"#!/bin/sh\nexec {shlex.join(relay)}\n")
        (self.home / "relay").chmod(0o700)
        lines = ["Host machine1", f"User {self.user}", f"ProxyCommand {self.home}/relay", "IdentitiesOnly yes"]
        lines += [f"IdentityFile {self.ssh}/id_ed25519", f"UserKnownHostsFile {self.ssh}/known_hosts"]
        (self.ssh / "config").write_text("\n".join([*lines, "LogLevel ERROR", extra, ""]))

    async def power_off(self) -> None:
        """Pull its plug."""
        await self.lab.hosts.power_off("host1")

    async def restore(self) -> None:
        """Switch it on again."""
        await self.lab.hosts.restore("host1")
        await self.start()


@asynccontextmanager
async def ssh_machine(name: str, user: str = "root", extra: str = SFTP) -> AsyncIterator[SshMachine]:
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
            await relays_ended()
            shutil.rmtree(home)


@asynccontextmanager
async def let_go(kind: SshKind) -> AsyncIterator[SshKind]:
    """Close *kind* at the end, and wait for what asyncssh leaves to the event loop, which lasts as long as the test."""
    others = _relays()
    try:
        yield kind
    finally:
        await kind.close()
        await relays_ended(others)


async def relays_ended(besides: Sequence[subprocess.Popen[bytes]] = ()) -> None:
    """Until the ProxyCommands of all connections have ended and are collected, while there is a loop to do that.

    asyncssh does not wait for that of a login that failed.
    """
    async for _ in Deadline.after(20).ticks(0.02):
        if all(relay.returncode is not None or relay in besides for relay in _relays()):
            return


def _relays() -> list[subprocess.Popen[bytes]]:
    # Not isinstance, which asks what a weak reference refers to, and that may be gone.
    started = [found for found in gc.get_objects() if type(found) is subprocess.Popen]
    return [process for process in started if process.args[0] == "/bin/sh"]
