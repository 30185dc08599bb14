"""The SSH check of an installed system, by asyncssh: strict about its host key, and without an account here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from limosa.deadline import Deadline
from limosa.errors import LimosaError
from limosa.guest.installer.cause import cause, cause_or_last

if TYPE_CHECKING:
    import asyncssh

_AGAIN_S = 1.0
_ANSWER_S = 30.0


def make_key(path: Path, comment: str) -> str:
    """A new Ed25519 key in *path*, mode 0600; return its public line, which is also in ``<path>.pub``."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.export_private_key())
    public = key.export_public_key().decode().strip()
    path.with_name(path.name + ".pub").write_text(public + "\n")
    return public


@asynccontextmanager
async def logged_in(
    port: int, key: Path, host_key: str, within_s: float
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection as root to the machine behind *port* of 127.0.0.1, whose host key has to be *host_key*.

    Raises LimosaError when none comes about in time, and at once when it is another machine or the key is refused.
    """
    import asyncssh

    known = asyncssh.import_known_hosts(f"[127.0.0.1]:{port} {host_key}\n")
    deadline, last = Deadline.after(within_s), "nothing"
    async for _ in deadline.ticks(_AGAIN_S):
        try:
            async with asyncio.timeout(min(_ANSWER_S, deadline.left_s + 0.1)):
                connection = await asyncssh.connect(
                    "127.0.0.1",
                    port,
                    username="root",
                    client_keys=[str(key)],
                    known_hosts=known,
                    agent_path=None,
                    config=None,
                    password_auth=False,
                    kbdint_auth=False,
                )
        except asyncssh.HostKeyNotVerifiable as error:
            raise LimosaError("the installed system shows another SSH host key than it said on its console") from error
        except asyncssh.PermissionDenied as error:
            raise LimosaError(
                "the installed system refuses the key over SSH", hint="see the transcript for what setup did"
            ) from error
        except (OSError, TimeoutError, asyncssh.Error) as error:
            last = str(error) or type(error).__name__
            continue
        async with connection:
            yield connection
            return
    raise LimosaError(f"SSH did not answer within {within_s:g} s: {last}", hint="see the transcript for how it booted")


async def run(connection: asyncssh.SSHClientConnection, line: str, within_s: float, stdin: bytes = b"") -> str:
    """What a shell command prints there. Raises LimosaError when it fails."""
    import asyncssh

    try:
        done = await connection.run(line, input=stdin, encoding=None, timeout=within_s)
    except (asyncssh.Error, TimeoutError, OSError) as error:
        raise LimosaError(f"over SSH, {line!r} did not come to an end: {error or type(error).__name__}") from error
    out, err = _text(done.stdout), _text(done.stderr)
    if done.exit_status != 0:
        raise LimosaError(f"over SSH, {line!r} failed: {cause(err) or cause_or_last(out or err)}")
    return out


def _text(data: object) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else str(data or "")
