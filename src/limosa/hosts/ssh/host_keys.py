"""Keys: those by which machines are known, always looked up, and our own, both as the user's configuration says."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limosa import paths

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
    own = [str(paths.home() / ".ssh" / file) for file in ("known_hosts", "known_hosts2")]
    found = []
    for name, usual in (("UserKnownHostsFile", own), ("GlobalKnownHostsFile", [_SYSTEM_KNOWN_HOSTS])):
        configured: Any = options.config.get(name)
        found += [str(Path(expanded(file, options)).expanduser()) for file in configured or usual]
    return found


def expanded(text: str, options: asyncssh.SSHClientConnectionOptions) -> str:
    """With ssh_config(5)'s tokens and variables, where asyncssh leaves them as they are."""
    tokens = {
        "%": "%",
        "d": str(paths.home()),
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


def ours(options: asyncssh.SSHClientConnectionOptions) -> dict[str, Any]:
    """The keys to log in with, and the agent, in asyncssh's words: what it reads otherwise than ssh does.

    A file that is not there is left out. With IdentitiesOnly the agent's keys are those that the files' public halves
    name; the private halves may be the agent's alone.
    """
    words: dict[str, Any] = {}
    named: Any = options.config.get("IdentityFile")
    files = [Path(file).expanduser() for file in named or ()]
    if files:
        private = [file for file in files if _is_private(file)]
        words |= {"client_keys": [str(file) for file in private], "ignore_encrypted": True}
    if options.config.get("IdentitiesOnly") and files:
        public = [key for file in files if (key := _public(file) or _public(Path(f"{file}.pub")))]
        words["agent_identities"] = public
        if not public:
            words["agent_path"] = None
            return words
    agent = str(options.config.get("IdentityAgent") or "")
    # Two ways to name a variable that ssh has and asyncssh has not.
    if variable := agent if agent == "SSH_AUTH_SOCK" else agent[1:] if agent.startswith("$") else "":
        words["agent_path"] = os.environ.get(variable, "")
    return words


def _is_private(file: Path) -> bool:
    try:
        return b"PRIVATE KEY" in file.read_bytes()
    except OSError:
        return False


def _public(file: Path) -> bytes:
    """The public key in a file, a private one's too; empty when there is none."""
    import asyncssh

    try:
        return asyncssh.read_public_key(file).public_data
    except (OSError, asyncssh.KeyImportError):
        return b""
