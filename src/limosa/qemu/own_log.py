"""What a guest's QEMU wrote to its log on its host, and why it ended by that."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable

from limosa.architecture import X86_64
from limosa.errors import LimosaError, MachineError, StateError
from limosa.hosts.host import Host

_OF_AGE = re.compile(r"warning: .* is deprecated")


async def why_ended(host: Host, guest: str, log: str) -> LimosaError:
    """Why QEMU ended, in a sentence of ours where the cause is known."""
    said = (await host.run(["tail", "-n", "3", "--", log], check=False)).text
    text = _last_line(said) or "it said nothing"
    if "unsupported machine type" in text:
        return MachineError(
            f"QEMU on {host.name} does not know guest {guest}'s machine type",
            hint="set `machine:` to one that every host's QEMU knows, see limosa doctor",
        )
    if 'Failed to get "write" lock' in said or "Failed to get shared" in said:
        return StateError(
            f"the disk of guest {guest} is in use by another process", hint="limosa status shows who runs it"
        )
    if "annot allocate memory" in said or "cannot set up guest memory" in said:
        return MachineError(
            f"{host.name} has no memory left for guest {guest}", hint="lower the guest's `memory`, or stop another"
        )
    return LimosaError(f"QEMU for guest {guest} on {host.name} ended at once: {text}", hint=f"its log: {log}")


def _last_line(said: str) -> str:
    """QEMU's last message in *said* without the program's name. That something will go one day is no reason."""
    lines = [line for line in said.strip().splitlines() if not _OF_AGE.search(line)]
    return lines[-1].split(f"{X86_64.qemu}: ", 1)[-1] if lines else ""


async def log_size(host: Host, log: str) -> int:
    """The bytes of *log* so far; 0 when it does not exist."""
    said = (await host.run(["stat", "-c", "%s", "--", log], check=False)).text
    return int(said) if said else 0


async def said_since(host: Host, log: str, offset: int) -> str:
    """QEMU's last message in *log* after its first *offset* bytes; empty when it said nothing."""
    with contextlib.suppress(LimosaError):
        return _last_line((await host.run(["tail", "-c", f"+{offset + 1}", "--", log], check=False)).text)
    return ""


async def listening(host: Host, log: str) -> Callable[[], Awaitable[str]]:
    """What gives QEMU's last message that came after now; empty while there is none."""
    offset = await log_size(host, log)

    async def said() -> str:
        return await said_since(host, log, offset)

    return said
