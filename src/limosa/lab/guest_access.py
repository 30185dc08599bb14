"""Reaching a guest: is its address free, its SSH command line, and our agent carried into a system without it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from limosa import process
from limosa.deadline import Deadline
from limosa.errors import LimosaError
from limosa.hosts.host import Host
from limosa.lab.lab_hosts import LabHosts
from limosa.lab.record import GuestRecord
from limosa.network import attachment, layout, occupancy
from limosa.qemu.launches import runtime_directory
from limosa.spec import resolved

if TYPE_CHECKING:
    from limosa.guest.agent.client import AgentClient

AGENT_S = 20.0
"""How long the agent of a guest that has booted may take to answer a new client."""

CONNECT_S = 30
"""How long SSH may take to connect: a key exchange takes some seconds in an emulated guest."""

PUSH_S = 90.0
"""How long one login that carries the agent may take."""

_CARRY = r"""
set -e
modprobe virtio_console 2>/dev/null || true
folder=$(mktemp -d /run/limosa.XXXXXX 2>/dev/null || mktemp -d /tmp/limosa.XXXXXX)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/limosa-agent"
chmod 0700 "$folder/limosa-agent"
# Asked for what it does not know, it says so and exits with 2; where programs may not run it says nothing.
program=
for place in "$folder" /root /var/tmp /tmp; do
    file=$place/limosa-agent
    [ "$place" = "$folder" ] || { [ ! -e "$file" ] && cp "$folder/limosa-agent" "$file" 2>/dev/null; } || continue
    said=0; "$file" --help >/dev/null 2>&1 || said=$?
    if [ "$said" = 2 ]; then program=$file; break; fi
    [ "$place" = "$folder" ] || rm -f "$file"
done
[ -n "$program" ] || { echo "programs from elsewhere do not run in it" >&2; exit 71; }
if ! ls /sys/class/virtio-ports/* >/dev/null 2>&1; then
    rm -f "$program"; echo "its kernel has no virtio_console" >&2; exit 72
fi
cd /
setsid "$program" </dev/null >/dev/null 2>&1 &
sleep 1
rm -f "$program"
"""
"""Run by root's shell in the guest, with the agent on its standard input. Nothing is left on its disk."""


_KNOCK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 22), 2).close()
except ConnectionRefusedError:
    sys.exit(2)
except OSError:
    sys.exit(1)
"""
"""Run on the client, with the guest's address. It ends with one of the following."""

_OPEN, _REFUSED = 0, 2

SSH_S = 30.0
"""How long a guest's SSH server may take to listen once its agent answers: a moment, as they are started together."""


def ssh_words(keys: Path, guest: resolved.Guest, record: GuestRecord | None) -> list[str]:
    """The ``ssh`` that logs in to *guest*, without a command; *keys* is the lab's folder of keys.

    It runs in that folder: ssh splits the values of its options at spaces and quotes, takes ``%`` and ``${`` for
    variables, and each version has other ways to write a path that has them.
    """
    own = record.own_disk if record else None
    key, known, strict = keys / "user_key", keys / "known_hosts", "yes"
    if own is not None and own.own_keys:
        from limosa.guest.own_disk import access  # here, as most commands reach no such guest and all would wait for it

        known = access.known_hosts_file(keys, guest.name)
        if access.key_file(keys, guest.name).exists():
            key = access.key_file(keys, guest.name)
        # Whoever installed the disk did not say its host keys: the first answer is believed, and none that differs.
        strict = "yes" if known.exists() and known.stat().st_size else "accept-new"
    options = {
        "IdentityFile": key.name,
        "UserKnownHostsFile": known.name,
        "StrictHostKeyChecking": strict,
        "IdentitiesOnly": "yes",
        "PasswordAuthentication": "no",
        "ConnectTimeout": str(CONNECT_S),
        "LogLevel": "ERROR",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["env", f"--chdir={keys}", "ssh", "-F", "none", *words, f"{own.user if own else 'root'}@{guest.address}"]


async def carry_agent(hosts: LabHosts, guest: resolved.Guest, record: GuestRecord, program: Path) -> str:
    """Start the agent *program* in *guest*. Returns why it cannot run there; empty when it runs.

    Raises LimosaError while nobody can log in.
    """
    assert record.own_disk is not None
    root = [] if record.own_disk.user == "root" else ["sudo", "-n"]
    words = [*ssh_words(hosts.directory.keys, guest, record), *root, "sh", "-c", _quoted(_CARRY)]
    argv = hosts.the_client().interactive(words)
    done = await process.run(argv, stdin=program.read_bytes(), check=False, timeout_s=PUSH_S)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == 0:
        return ""
    if done.returncode == 255:
        raise LimosaError(said[-1] if said else "SSH did not answer")
    return said[-1] if said else f"it could not be started (exit code {done.returncode})"


def _quoted(script: str) -> str:
    """For the shell at the other end, which ssh hands its words to as one line."""
    return shlex.quote(script)


async def check_address(hosts: LabHosts, guest: resolved.Guest) -> None:
    """Raise StateError when somebody else has the address that *guest* is about to get."""
    if guest.address and occupancy.shared(hosts.lab, guest.network):
        host, interface = await _beside(hosts, guest, guest.host)
        await occupancy.check(hosts.lab, guest.network, host, interface, _address(guest), hosts.events)


async def who_else(hosts: LabHosts, guest: resolved.Guest, runs_on: str) -> dict[str, str]:
    """The address of *guest*, which runs on that host, with the MAC of somebody else who answers for it; empty when
    nobody does. Raises LimosaError where that cannot be asked."""
    host, interface = await _beside(hosts, guest, runs_on)
    return await occupancy.ask(host, interface, _address(guest))


def _address(guest: resolved.Guest) -> dict[str, occupancy.Wanted]:
    return {guest.address: occupancy.Wanted(guest.name, f"`address` of {guest.name}", guest.mac)}


async def _beside(hosts: LabHosts, guest: resolved.Guest, host: str) -> tuple[Host, str]:
    """From where one can ask in the guest's network: a host, and its interface there."""
    if hosts.has_fabric:
        return hosts.the_client(), guest.network
    port = hosts.host(host)
    return port, await attachment.master(port, layout.tap(hosts.lab, guest.name, host))


async def answers(hosts: LabHosts, guest: resolved.Guest) -> bool:
    """Whether a network stack answers at the address of *guest*, be it by refusing a connection."""
    return await _knock(hosts, guest) in (_OPEN, _REFUSED)


async def wait_for_ssh(hosts: LabHosts, guest: resolved.Guest) -> None:
    """Wait while *guest*, whose agent answers, refuses connections of SSH; after SSH_S a note says that it still does.

    What does not answer at all is not waited for: its network may be meant to be so, and ssh itself is patient then.
    """
    async for _ in Deadline.after(SSH_S).ticks(0.1):
        if await _knock(hosts, guest) != _REFUSED:
            return
    hosts.events.note(f"{guest.name} is up, but its SSH server does not listen", level="warning")


async def _knock(hosts: LabHosts, guest: resolved.Guest) -> int:
    argv = [sys.executable, "-I", "-S", "-c", _KNOCK, guest.address]
    return (await hosts.the_client().run(argv, check=False)).returncode


async def connect_agent(place: Host, guest: str) -> AgentClient:
    """A connection to the agent inside *guest*, which runs on *place*. Raises StateError."""
    from limosa.guest.agent.client import AgentClient

    connection = await place.connect(f"{runtime_directory(place, guest)}/agent.sock")
    try:
        agent = await AgentClient.open(connection)
    except BaseException:
        connection.close()
        raise
    try:
        # The agent notices a new client when it next looks at its port, so the first greeting may get lost.
        await agent.wait_ready(Deadline.after(AGENT_S))
    except BaseException:
        await agent.close()
        raise
    return agent
