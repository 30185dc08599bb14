"""A sentence and a hint for each way in which a machine over SSH refuses us; *what* says which machine it is."""

from __future__ import annotations

import os
import re
import shlex
import socket

from limosa import paths
from limosa.errors import LimosaError, MachineError, UnreachableError
from limosa.hosts.ssh.host_keys import HostKeys

_NO_MATCH = re.compile(r"No matching (?P<what>.+) algorithm found, sent (?P<ours>\S+) and received (?P<theirs>\S+)")
"""asyncssh's words."""
_OPTIONS = {"key exchange": "KexAlgorithms", "encryption": "Ciphers", "MAC": "MACs", "compression": "Compression"}
_NAMED = 4
"""How many algorithms an error names: an sshd offers some dozen."""


def unreachable(what: str, why: str, by_hand: str) -> UnreachableError:
    """The error for a machine that does not answer; *by_hand* is the beginning of ssh's own command line."""
    return UnreachableError(f"{what} cannot be reached: {why}", hint=f"try it by hand: {by_hand} true")


def silent(what: str, waited_s: float, by_hand: str) -> UnreachableError:
    """The error for a machine that says nothing."""
    return unreachable(what, f"no answer within {waited_s:g} s", by_hand)


def jump(what: str, why: str) -> MachineError:
    """The error for a way over jump hosts that does not lead there."""
    return MachineError(
        f"the ssh config's ProxyJump of {what} {why}", hint=f"correct {paths.home() / '.ssh' / 'config'}"
    )


def sentence(what: str, host: str, by_hand: str, keys: HostKeys, error: Exception, *, jumped: bool) -> LimosaError:
    """The error for whatever asyncssh raised on the way to the machine that ssh calls *host*."""
    import asyncssh

    said = getattr(error, "reason", None) or _system_says(error) or str(error) or type(error).__name__
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _strange_key(what, host, by_hand, keys, jumped)
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return _nothing_in_common(what, host, by_hand, said)
    if isinstance(error, asyncssh.PermissionDenied):
        return MachineError(
            f"{host} ({what}) does not let {keys.options.username if keys.options else 'this user'} log in: {said}",
            hint=f"bring your key there (ssh-copy-id), or load it (ssh-add), until this works: {by_hand} true",
        )
    if isinstance(error, asyncssh.KeyImportError | asyncssh.KeyEncryptionError):
        return MachineError(
            f"a key for {host} ({what}) cannot be read: {said}", hint="keys with a passphrase are used through ssh-add"
        )
    if isinstance(error, asyncssh.ConfigParseError):
        return MachineError(
            f"the ssh config cannot be used: {said}", hint=f"correct {paths.home() / '.ssh' / 'config'}"
        )
    if isinstance(error, asyncssh.ChannelOpenError) and error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return MachineError(
            f"the jump host before {what} does not forward connections: {said}",
            hint="allow it in its sshd_config: AllowTcpForwarding yes",
        )
    if isinstance(error, OSError | asyncssh.ConnectionLost | asyncssh.ChannelOpenError):
        return unreachable(what, f"{said}, says its jump host" if jumped else said, by_hand)
    return MachineError(f"{host} does not serve as {what}: {said}", hint=f"try it by hand: {by_hand} true")


def _system_says(error: Exception) -> str:
    """The kernel's words where asyncio has put its own in their place: "Connect call failed (...)"."""
    if not isinstance(error, OSError):
        return ""
    if error.errno and not isinstance(error, socket.gaierror):  # the resolver has numbers of its own
        return os.strerror(error.errno)
    return error.strerror or ""


def _nothing_in_common(what: str, host: str, by_hand: str, said: str) -> MachineError:
    """Neither end has shown a key yet: nothing is wrong with those that are known."""
    found = _NO_MATCH.match(said)
    if found is None:
        return MachineError(f"{host} ({what}) ended the key exchange: {said}", hint=f"try it by hand: {by_hand} true")
    option = _OPTIONS.get(found["what"], "algorithms")
    theirs = [name for name in found["theirs"].split(",") if not name.startswith("kex-strict")]
    return MachineError(
        f"limosa and the sshd of {host} ({what}) have no {found['what']} algorithm in common: here "
        f"{_few(found['ours'].split(','))}, there {_few(theirs)}",
        hint=f"the algorithms are those of {option} in {paths.home() / '.ssh' / 'config'} and in the sshd_config "
        "there: let one be in both",
    )


def _few(names: list[str]) -> str:
    named = [name for name in names if name and name != "<None>"]
    return ", ".join([*named[:_NAMED], *(["..."] if len(named) > _NAMED else [])]) or "none that limosa knows"


def _strange_key(what: str, host: str, by_hand: str, keys: HostKeys, jumped: bool) -> MachineError:
    if keys.known:
        forget = shlex.join(["ssh-keygen", "-f", keys.known, "-R", keys.where])
        return MachineError(
            f"the host key of {host} ({what}) is not the one that {keys.known} has: another machine may answer",
            hint=f"if it was installed anew: {forget}, then add the new key",
        )
    hint = f"compare and accept it once by hand: {by_hand}"
    aliased = keys.options is not None and keys.options.host_key_alias
    if not jumped and not aliased:  # otherwise ssh-keyscan cannot get there, or writes another name
        port = ["-p", str(keys.port)] if keys.port else []
        scan = shlex.join(["ssh-keyscan", *port, "--", keys.host or host])
        hint += f"; or, where the network is trusted: {scan} >> {shlex.quote(keys.files[0])}"
    return MachineError(f"the host key of {host} ({what}) is not known here", hint=hint)
