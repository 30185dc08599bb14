"""A real sshd on a namespace host, and an ordinary user who is known there only: what every machine over SSH needs.

Root only, because sshd changes users.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from limosa.deadline import Deadline
from limosa.hosts.host import Host

USER = "ordinary"
USER_ID = 12345
SESSIONS = "^sshd(-session|-auth)?: [^/]"
"""The processes that serve connections, for pgrep; since OpenSSH 9.8 they are a program of their own. The title of the
one that listens has its path."""
CONFIG = """
ListenAddress {address}
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
PidFile none
StrictModes no
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


def keygen(path: Path, *words: str) -> str:
    """A new key without a passphrase; its public half as text."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", *words, "-f", path], check=True)
    return path.with_name(path.name + ".pub").read_text()


async def serve(
    host: Host,
    ssh: Path,
    *,
    address: str = "127.0.0.1",
    port: int = 22,
    folder: str = "/run/sshd",
    key: str = "host_key",
    extra: str = "",
) -> None:
    """Start an sshd that lets the owner of ``id_ed25519`` in, and wait for it. *ssh* is the folder with the keys."""
    await host.run(["mkdir", "-p", folder])
    await host.run(["chmod", "0711", folder])
    for name, text in (
        ("host_key", (ssh / key).read_text()),
        ("authorized_keys", (ssh / "id_ed25519.pub").read_text()),
        ("config", CONFIG.format(address=address, port=port, folder=folder, extra=extra)),
    ):
        await host.run(["tee", f"{folder}/{name}"], stdin=text.encode())
    await host.run(["chmod", "0644", f"{folder}/authorized_keys"])
    await host.run(["rm", "-f", f"{folder}/log"])
    if folder != "/run/sshd":
        await host.run(["mkdir", "-p", "/run/sshd"])  # the server separates its privileges there
    await host.spawn(["/usr/sbin/sshd", "-D", "-e", "-f", f"{folder}/config"], log=f"{folder}/log")
    async for _ in Deadline.after(20).ticks(0.02):
        if "listening on" in await log(host, folder):
            return
    raise AssertionError(await log(host, folder))


async def log(host: Host, folder: str = "/run/sshd") -> str:
    """What that sshd has said."""
    return (await host.run(["cat", f"{folder}/log"], check=False)).text


async def add_user(host: Host, *, sudo: bool = False) -> None:
    """Make the ordinary user; *sudo*: whom sudo lets do everything."""
    files = [
        ("passwd", Path("/etc/passwd").read_text() + f"{USER}:x:{USER_ID}:{USER_ID}::/run/home:/bin/sh\n", "0644"),
        ("shadow", Path("/etc/shadow").read_text() + f"{USER}:*:19000:0:99999:7:::\n", "0600"),
    ]
    if sudo:
        files += [("sudoers", f"root ALL=(ALL:ALL) ALL\n{USER} ALL=(ALL) NOPASSWD: ALL\n", "0440")]
    await host.run(["mkdir", "-p", "/run/home", "/run/etc"])
    await host.run(["chown", f"{USER_ID}:{USER_ID}", "/run/home"])
    await host.run(["chmod", "0711", "/run/home"])
    for name, text, mode in files:
        # Its own mounts hide the machine's real files.
        await host.run(["tee", f"/run/etc/{name}"], stdin=text.encode())
        await host.run(["chmod", mode, f"/run/etc/{name}"])
        await host.run(["mount", "--bind", f"/run/etc/{name}", f"/etc/{name}"])
