"""The Host port: everything that is done on a host goes through these few methods, whatever the host is made of."""

from __future__ import annotations

import asyncio
import shlex
import socket
import time
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from limosa.errors import CommandError, LimosaError, StateError
from limosa.events import CommandRan, Events
from limosa.process import Completed, Runner

CLIENT = "client"
"""The name of the client as a host: it probes the guests, from the fabric or from this machine."""


class HostFacts(msgspec.Struct, frozen=True):
    """What a host is: enough to judge whether a guest fits, and to label results."""

    kernel: str
    cpu_model: str
    cpus: int
    memory_bytes: int
    memory_available_bytes: int
    kvm: bool
    """Whether /dev/kvm can be opened there, which is not yet a proof that it works."""
    tun: bool
    """Whether /dev/net/tun can be opened there."""
    machine: str = ""
    """What the running machine is known by: a digest of its boot, its identifiers and its CPU, to the microcode. What
    was found out on a machine holds there, until it starts anew."""
    time_ns: int = 0
    """What its clock showed as it answered, in ns since the epoch."""


class Host(Runner, Protocol):
    """A place where processes run. ``name`` is that in the lab file, ``CLIENT`` for the client; paths are its own.

    Every method raises LimosaError's children only.
    """

    @property
    def runtime_directory(self) -> str:
        """Where this lab's sockets and logs are on the host: exists with mode 0700 and goes with the lab."""
        ...

    async def spawn(self, argv: Sequence[str], *, log: str, env: Mapping[str, str] | None = None) -> int:
        """Start a process that outlives the caller; its output is appended to the file *log*. Return its pid there."""
        ...

    async def connect(self, path: str) -> socket.socket:
        """A connected, non-blocking stream socket to the unix socket *path*. Raises StateError if nobody listens."""
        ...

    async def put(self, local: Path, path: str) -> None:
        """Copy a local file to the host; its holes stay holes."""
        ...

    async def get(self, path: str, local: Path) -> None:
        """Copy a file of the host here."""
        ...

    async def facts(self) -> HostFacts:
        """What the host is, asked now."""
        ...

    async def alive(self) -> bool:
        """Whether the host is on and answers."""
        ...

    def interactive(self, argv: Sequence[str]) -> list[str]:
        """The local command line that runs *argv* there with the caller's terminal."""
        ...


def off(host: str) -> StateError:
    """The error for a host that is off, and that limosa can switch on."""
    return StateError(f"host {host} is off", hint=f"limosa host restore {host} starts it again")


def unreachable(host: str, path: str) -> StateError:
    """The error for a socket on which nobody listens."""
    return StateError(f"nothing listens on {path} of host {host}", hint="limosa status shows what runs where")


async def ran(
    host: Host,
    argv: Sequence[str],
    work: Awaitable[tuple[int, bytes, bytes]],
    events: Events,
    *,
    check: bool,
    timeout_s: float | None,
) -> Completed:
    """What *work*, which carries *argv* out on *host*, comes to: its exit status, output and errors. See ``Host.run``.

    Raises LimosaError when *timeout_s* passes, CommandError with the line by which to see it again.
    """
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            returncode, out, err = await work
    except TimeoutError as error:
        raise LimosaError(f"{argv[0]} on {host.name} did not finish within {timeout_s:g} s") from error
    done = Completed(tuple(argv), returncode, out, err, time.monotonic() - started)
    events.emit(CommandRan(host=host.name, argv=done.argv, returncode=returncode, duration_s=done.duration_s))
    if check and returncode != 0:
        replay = shlex.join(host.interactive(argv))
        raise CommandError(argv, returncode, err.decode(errors="replace"), replay=replay)
    return done


def output_kept_open(host: Host, program: str) -> LimosaError:
    """The error for a *program* that ended while its output does not."""
    return LimosaError(
        f"{program} on {host.name} ended, but a process that it left keeps its output open",
        hint="start long-lived processes with their output elsewhere",
    )
