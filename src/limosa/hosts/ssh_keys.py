"""The keys by which machines are known: always looked up, in the files that the user's configuration names."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncssh

_SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"


class HostKeys:
    """What asyncssh asks for the keys of one machine; remembers what was looked up, which tells an unknown key from a
    changed one."""

    def __init__(self) -> None:
        self.options: asyncssh.SSHClientConnectionOptions | None = None
        """The configuration of this machine, once it was read."""
        self.files: list[str] = []
        self.host, self.known = "", ""
        """``known``: the file that has keys of it."""
        self.port: int | None = None

    def __call__(self, host: str, address: str, port: int | None) -> Any:
        """The keys under which the machine may answer."""
        import asyncssh

        alias = self.options.host_key_alias if self.options else None
        self.files = known_hosts_files(self.options) if self.options else []
        # By its name alone, as ssh does: an address may have been another machine's. An alias has no port.
        self.host, self.port = host, None if alias else port
        readable = [file for file in self.files if os.access(file, os.R_OK)]
        for file in readable:
            if not self.known and any(asyncssh.match_known_hosts(file, host, "", self.port)):
                self.known = file
        # An empty list would mean the default file to asyncssh; a line end is a file without entries.
        return asyncssh.match_known_hosts(readable or b"\n", host, "", self.port)

    @property
    def where(self) -> str:
        """The machine as known_hosts has it."""
        return f"[{self.host}]:{self.port}" if self.port else self.host


def known_hosts_files(options: asyncssh.SSHClientConnectionOptions) -> list[str]:
    """The files of the user's configuration, or ssh's own defaults. ``none`` switches no check off."""
    own = [str(Path.home() / ".ssh" / file) for file in ("known_hosts", "known_hosts2")]
    found = []
    for name, usual in (("UserKnownHostsFile", own), ("GlobalKnownHostsFile", [_SYSTEM_KNOWN_HOSTS])):
        configured: Any = options.config.get(name)
        found += [str(Path(expanded(file, options)).expanduser()) for file in configured or usual]
    return found


def expanded(text: str, options: asyncssh.SSHClientConnectionOptions) -> str:
    """With ssh_config(5)'s tokens and variables, where asyncssh leaves them as they are."""
    tokens = {
        "%": "%",
        "d": str(Path.home()),
        "h": options.host,
        "i": str(os.getuid()),
        "k": options.host_key_alias or options.orig_host,
        "n": options.orig_host,
        "p": str(options.port),
        "r": options.username,
        "u": _local_user(),
    }
    text = re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], found[0]), text)
    return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)


def _local_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
