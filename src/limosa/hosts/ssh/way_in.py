"""One SSH connection to a machine, by the user's own configuration, and a sentence for each way in which it fails.

Keys of machines are always checked: an unknown or a changed one is refused, whatever the configuration says.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pwd
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limosa import paths, process
from limosa.errors import LimosaError, SpecError, UnreachableError
from limosa.hosts.ssh import host_keys, refusal
from limosa.hosts.ssh.host_keys import HostKeys

if TYPE_CHECKING:
    import asyncssh

CONNECT_S = 8.0
"""How long a machine may take to let us in."""
KEEPALIVE_S = 5
KEEPALIVES = 3
_MACHINE = re.compile(r"(?:(?P<user>[^@\s]+)@)?(?P<host>\[[\w:.%]+\]|[^@:\s\[\]]+)(?::(?P<port>\d{1,5}))?")
_BY_SHELL = ("/bin/sh", "-c", 'exec 9>&2 2>/dev/null; exec "$0" -c "exec $1"')
"""How a ProxyCommand is run: by the user's shell, as ssh_config(5) has it; asyncssh would hand its signs over as words.
asyncssh also takes what is said on standard error for the machine's, and its end for the connection's: it is held open
as another descriptor, and silent."""
_SYSTEM_CONFIG = "/etc/ssh/ssh_config"

_PLAIN: dict[str, Any] = {
    "request_pty": False,
    "command": None,
    "env": None,
    "send_env": None,
    "x11_forwarding": False,
    "agent_forwarding": False,
}
"""What a person's configuration may say of sessions of their own, and is not meant for a link: RequestTTY,
RemoteCommand, SetEnv, SendEnv, ForwardX11Trusted, ForwardAgent."""

_ALSO_PLAIN = (
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    # A port that is forwarded already, by another session of theirs, would end this one.
    "ClearAllForwardings=yes",
    "Tunnel=no",
    # Another session's connection may have been made without a look at the machine's key.
    "ControlMaster=no",
    "ControlPath=none",
)
"""The same for ssh's own command line, ``-t`` or ``-T`` being the answer to RequestTTY."""
_PLAIN_SINCE_8_7 = ("SessionType=default", "ForkAfterAuthentication=no", "StdinNull=no")
"""An older ssh has none of these (Debian 11: 8.4), and takes no option that it does not know."""


class Machine(msgspec.Struct, frozen=True):
    """``[USER@]HOST[:PORT]`` of a lab file, taken apart; what is empty is for the user's ssh config to say."""

    host: str
    user: str = ""
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Machine:
        """Raises SpecError."""
        match = _MACHINE.fullmatch(text)
        # A name that begins with a dash would be an option of ssh.
        if match is None or match["host"].startswith("-") or not 0 < int(match["port"] or 22) < 65536:
            raise SpecError(
                f"{text!r} is no machine that ssh could reach",
                hint="write [USER@]HOST[:PORT], or a name of your ssh config",
            )
        port = int(match["port"]) if match["port"] else None
        return cls(match["host"].strip("[]"), match["user"] or "", port)

    def words(self) -> list[str]:
        """As ssh's own command line has it."""
        return [*(["-p", str(self.port)] if self.port else []), *(["-l", self.user] if self.user else []), self.host]


def user_config() -> Path:
    """The user's own ssh config, by $HOME as everything else here."""
    return paths.home() / ".ssh" / "config"


def ssh_line(machine: Machine, argv: Sequence[str]) -> list[str]:
    """The ``ssh`` command line that runs *argv* there with the caller's terminal."""
    # ssh looks for its config in the password database's home directory, not in $HOME.
    elsewhere = user_config().exists() and Path(_home()) != paths.home()
    config = ["-F", str(user_config())] if elsewhere else []
    options = ["StrictHostKeyChecking=yes", *_ALSO_PLAIN, *(_PLAIN_SINCE_8_7 if _is_since_8_7() else ())]
    said = [word for option in options for word in ("-o", option)]
    terminal = "-t" if sys.stdin is not None and sys.stdin.isatty() else "-T"  # ssh complains of -t without one
    return ["ssh", terminal, *config, *said, *machine.words(), "--", shlex.join(argv)]


@functools.cache
def _is_since_8_7() -> bool:
    """Whether the ssh of this machine knows them, found by trying; IgnoreUnknown would take the place of the user's."""
    words = [word for option in _PLAIN_SINCE_8_7 for word in ("-o", option)]
    return process.succeeds(["ssh", "-F", "none", "-G", *words, "none"])


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""


def load() -> None:
    """Import asyncssh without its search for liboqs (algorithms against quantum computers, which few have installed):
    the search runs a linker and a compiler, a fifth of the whole import."""
    import ctypes.util

    search = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None if name in ("oqs", "liboqs") else search(name)
    try:
        import asyncssh  # noqa: F401
    finally:
        ctypes.util.find_library = search


class _Stop(msgspec.Struct, frozen=True):
    """A machine to log in to on the way to a host: the last one is the host itself."""

    machine: Machine
    what: str
    """Which one it is, as a person calls it."""
    before: tuple[Machine, ...] = ()
    """Whose configuration asked for it."""


async def log_in(name: str, machine: Machine) -> asyncssh.SSHClientConnection:
    """Connect, by jump hosts where the configuration says so.

    Raises UnreachableError when a machine on the way does not answer, MachineError when one does not let us in.
    """
    return await _enter(_Stop(machine, f"host {name}"))


async def _enter(stop: _Stop, tunnel: asyncssh.SSHClientConnection | None = None) -> asyncssh.SSHClientConnection:
    """Log in to one machine. *tunnel* is the way to it, which belongs to the connection from now on."""
    keys, machine = HostKeys(), stop.machine
    try:
        asked = await _asked(machine)
        keys.options = asked.options
        if tunnel is None:
            tunnel = await _way(stop, asked.options)
        async with asyncio.timeout(CONNECT_S):
            connection = await _connect(**asked.words, **asked.detours, tunnel=tunnel, known_hosts=keys)
        if tunnel is not None:
            connection.set_tunnel(tunnel)  # it ends with the connection
        return connection
    except BaseException as error:
        if tunnel is not None:
            await hang_up(tunnel)
        if isinstance(error, LimosaError) or not isinstance(error, Exception):
            raise
        by_hand = shlex.join(["ssh", *machine.words()])
        if isinstance(error, TimeoutError):
            raise refusal.silent(stop.what, CONNECT_S, by_hand) from error
        raise refusal.sentence(stop.what, machine.host, by_hand, keys, error, jumped=tunnel is not None) from error


async def _connect(**words: Any) -> asyncssh.SSHClientConnection:
    """A connection, tried twice where the first try is hung up on without a word.

    An sshd that refuses may close before its reason is sent, and it drops some of those who come in a crowd.
    """
    import asyncssh

    try:
        return await asyncssh.connect(**words)
    except (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError):
        return await asyncssh.connect(**words)


class _Asked(msgspec.Struct, frozen=True):
    """What the configuration says of a machine, and what asyncssh is to be told."""

    options: Any
    words: dict[str, Any]
    detours: dict[str, Any]


async def _asked(machine: Machine) -> _Asked:
    """Raises what asyncssh raises for a configuration that cannot be used."""
    import asyncssh

    config = [file for file in (str(user_config()), _SYSTEM_CONFIG) if os.access(file, os.R_OK)]
    words: dict[str, Any] = {
        "host": machine.host,
        "port": machine.port or (),
        "username": machine.user or (),
        "config": config or None,
        "keepalive_interval": KEEPALIVE_S,
        "keepalive_count_max": KEEPALIVES,
        # A terminal belongs to the command: nobody is asked for a password.
        "password_auth": False,
        "kbdint_auth": False,
        **_PLAIN,
    }
    # First the configuration alone: a key that it names and that is not there, as ssh bears, asyncssh does not.
    options = await asyncssh.SSHClientConnectionOptions.construct(**words, client_keys=None)
    if options.config.has_match_final():
        options.update(host=options.orig_host, reload=True, canonical=False, final=True)
    detours = host_keys.ours(options)
    if command := options.config.get("ProxyCommand"):
        detours["proxy_command"] = [*_BY_SHELL, os.environ.get("SHELL") or "/bin/sh", str(command)]
    return _Asked(options, words, detours)


async def _way(stop: _Stop, options: asyncssh.SSHClientConnectionOptions) -> asyncssh.SSHClientConnection | None:
    """A connection to the last of the jump hosts, None where the configuration names none.

    asyncssh would reach them by itself, but take their keys as the configuration says: unchecked, if it says so.
    """
    if not isinstance(options.tunnel, str):
        return None
    connection, before = None, (*stop.before, stop.machine)
    for hop in _hops(stop, host_keys.expanded(options.tunnel, options), before):
        connection = await _enter(_Stop(hop, f"jump host {hop.host} of {stop.what}", before), connection)
    return connection


def _hops(stop: _Stop, listed: str, before: tuple[Machine, ...]) -> list[Machine]:
    """The jump hosts that a ProxyJump lists. Raises MachineError."""
    hops = []
    for word in listed.split(","):
        try:
            hops.append(Machine.parse(word.strip().removeprefix("ssh://")))
        except SpecError as error:
            raise refusal.jump(stop.what, f"names {word.strip()!r}, which is no machine") from error
        if hops[-1] in before:
            raise refusal.jump(stop.what, f"leads from {hops[-1].host} to {hops[-1].host} again")
    return hops


def unreachable(name: str, machine: Machine, why: str) -> UnreachableError:
    """The error for a host that does not answer."""
    return refusal.unreachable(f"host {name}", why, shlex.join(["ssh", *machine.words()]))


async def hang_up(connection: asyncssh.SSHClientConnection) -> None:
    """Close a connection, dead or alive."""
    connection.close()
    with contextlib.suppress(Exception):  # whatever a dead connection says, it is closed
        async with asyncio.timeout(2):
            await connection.wait_closed()
            return
    connection.abort()
