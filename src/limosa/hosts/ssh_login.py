"""One SSH connection to a machine, by the user's own configuration, and a sentence for each way in which it fails.

Keys of machines are always checked: an unknown or a changed one is refused, whatever the configuration says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limosa.errors import LimosaError, MachineError, SpecError, UnreachableError

if TYPE_CHECKING:
    import asyncssh

CONNECT_S = 8.0
"""How long a machine may take to let us in."""
KEEPALIVE_S = 5
KEEPALIVES = 3
_MACHINE = re.compile(r"(?:(?P<user>[^@\s]+)@)?(?P<host>\[[\w:.%]+\]|[^@:\s\[\]]+)(?::(?P<port>\d{1,5}))?")
_SYSTEM_CONFIG = "/etc/ssh/ssh_config"
_SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"


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
    return Path.home() / ".ssh" / "config"


def ssh_line(machine: Machine, argv: Sequence[str]) -> list[str]:
    """The ``ssh`` command line that runs *argv* there with the caller's terminal."""
    # ssh looks for its config in the password database's home directory, not in $HOME.
    elsewhere = user_config().exists() and Path(_home()) != Path.home()
    config = ["-F", str(user_config())] if elsewhere else []
    return ["ssh", "-t", *config, "-o", "StrictHostKeyChecking=yes", *machine.words(), "--", shlex.join(argv)]


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""


class _HostKeys:
    """The keys by which a machine is known, and what was looked up: that tells an unknown key from a changed one."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.host, self.known = "", False
        self.port: int | None = None

    def __call__(self, host: str, address: str, port: int | None) -> Any:
        """What asyncssh asks for."""
        import asyncssh

        # An empty list would mean the default file to asyncssh; a line end is a file without entries.
        found = asyncssh.match_known_hosts(self.files or b"\n", host, address, port)
        self.host, self.port, self.known = host, port, any(found)
        return found


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


async def log_in(name: str, machine: Machine) -> asyncssh.SSHClientConnection:
    """Connect. Raises UnreachableError when the machine does not answer, MachineError when it lets us not in."""
    import asyncssh

    keys = _HostKeys()
    try:
        async with asyncio.timeout(CONNECT_S):
            config = [file for file in (str(user_config()), _SYSTEM_CONFIG) if os.access(file, os.R_OK)]
            options = await asyncssh.SSHClientConnectionOptions.construct(
                host=machine.host,
                port=machine.port or (),
                username=machine.user or (),
                config=config or None,
                keepalive_interval=KEEPALIVE_S,
                keepalive_count_max=KEEPALIVES,
                # A terminal belongs to the command: nobody is asked for a password.
                password_auth=False,
                kbdint_auth=False,
            )
            keys.files = [file for file in _known_hosts_files(options) if os.access(file, os.R_OK)]
            return await asyncssh.connect(machine.host, config=config or None, options=options, known_hosts=keys)
    except TimeoutError as error:
        raise unreachable(name, f"no answer within {CONNECT_S:g} s") from error
    except Exception as error:
        raise _failure(name, machine, keys, error) from error


def _known_hosts_files(options: asyncssh.SSHClientConnectionOptions) -> list[str]:
    """The files of the user's configuration, or ssh's own defaults; asyncssh would take ``none`` for "do not check"."""
    configured = [str(file) for file in options.known_hosts or ()] if isinstance(options.known_hosts, list) else []
    own = [str(Path.home() / ".ssh" / file) for file in ("known_hosts", "known_hosts2")]
    return [*([str(Path(file).expanduser()) for file in configured] or own), _SYSTEM_KNOWN_HOSTS]


def unreachable(name: str, why: str) -> UnreachableError:
    """The error for a machine that does not answer."""
    return UnreachableError(
        f"host {name} is off or cannot be reached: {why}",
        hint="try it by hand: limosa exec goes the same way as ssh does",
    )


def _failure(name: str, machine: Machine, keys: _HostKeys, error: Exception) -> LimosaError:
    import asyncssh

    where = f"[{keys.host}]:{keys.port}" if keys.port else keys.host or machine.host
    said = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    by_hand = shlex.join(["ssh", *machine.words()])
    if isinstance(error, asyncssh.HostKeyNotVerifiable) or (
        isinstance(error, asyncssh.KeyExchangeFailed) and keys.known
    ):
        return _strange_key(name, machine, keys, where)
    if isinstance(error, asyncssh.PermissionDenied):
        return MachineError(
            f"{machine.host} does not let {machine.user or 'this user'} log in as host {name}: {said}",
            hint=f"bring your key there (ssh-copy-id), or load it (ssh-add), until this works: {by_hand} true",
        )
    if isinstance(error, asyncssh.KeyImportError | asyncssh.KeyEncryptionError):
        return MachineError(
            f"a key for {machine.host} cannot be read: {said}", hint="keys with a passphrase are used through ssh-add"
        )
    if isinstance(error, asyncssh.ConfigParseError):
        return MachineError(f"the ssh config cannot be used: {said}", hint=f"correct {user_config()}")
    if isinstance(error, OSError | asyncssh.ConnectionLost | asyncssh.ChannelOpenError):
        return unreachable(name, said)
    return MachineError(f"{machine.host} does not serve as host {name}: {said}", hint=f"try it by hand: {by_hand} true")


def _strange_key(name: str, machine: Machine, keys: _HostKeys, where: str) -> MachineError:
    file = keys.files[0] if keys.files else str(Path.home() / ".ssh" / "known_hosts")
    if keys.known:
        forget = shlex.join(["ssh-keygen", "-f", file, "-R", where])
        return MachineError(
            f"the host key of {machine.host} (host {name}) is not the one that {file} has: another machine may answer",
            hint=f"if it was installed anew: {forget}, then add the new key",
        )
    port = ["-p", str(keys.port)] if keys.port else []
    scan = shlex.join(["ssh-keyscan", *port, "--", keys.host or machine.host])
    return MachineError(
        f"the host key of {machine.host} (host {name}) is not known here",
        hint=f"compare and accept it once by hand ({shlex.join(['ssh', *machine.words()])}), "
        f"or, where the network is trusted: {scan} >> {shlex.quote(file)}",
    )


async def hang_up(connection: asyncssh.SSHClientConnection) -> None:
    """Close a connection, dead or alive."""
    connection.close()
    with contextlib.suppress(Exception):  # whatever a dead connection says, it is closed
        async with asyncio.timeout(2):
            await connection.wait_closed()
            return
    connection.abort()
