"""Hosts made of Linux namespaces: no root needed, nothing left behind.

The fabric is the outermost: as an ordinary user it has a user namespace, and always its own net, mount and pid
namespaces. Each host is a child of it with its own net, mount, pid, uts and ipc namespaces. When the fabric's first
process ends, the kernel ends everything in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from limosa import paths, tasks
from limosa.errors import LimosaError, MachineError
from limosa.events import CommandRan, Events
from limosa.hosts import own_facts
from limosa.hosts.host import CLIENT, HostFacts, output_kept_open, ran, unreachable
from limosa.hosts.namespaces import first_process
from limosa.hosts.namespaces.pipes import read_all, write_all
from limosa.process import Completed, base_environment, detach, reap

KEEPER = Path(__file__).with_name("keeper.py")
_AFTER_EXIT_S = 1.0
"""How long output is still read after a process ended, when a child of its keeps the pipe open."""


class Fabric(msgspec.Struct, frozen=True):
    """What a fabric is made with."""

    lab: str
    rootless: bool
    log: Path
    """Where the keepers' complaints go."""
    lifeline: int | None = None
    """A descriptor whose end of file ends the lab; for labs that must die with their maker."""
    hold: int | None = None
    """A descriptor that the fabric's processes keep open while they live: what is locked by it stays so."""
    remove: str = ""
    """The directory removed when the lifeline's end is seen."""
    below_run: tuple[str, ...] = ()
    """Directories below this machine's /run, which the fabric covers by its own, that the hosts need."""


class NamespaceHost:
    """Implements the Host port. ``keeper.pid`` is the host's first process as seen here."""

    def __init__(self, name: str, keeper: first_process.Keeper, rootless: bool, events: Events) -> None:
        self._name, self.keeper, self.rootless, self.events = name, keeper, rootless, events

    @property
    def name(self) -> str:
        """The host's name in the lab file, or ``client``."""
        return self._name

    @property
    def python(self) -> str:
        """That which runs limosa: the host has this machine's files."""
        return sys.executable

    @property
    def runtime_directory(self) -> str:
        """On a tmpfs of the host's own, which vanishes with it."""
        return "/run/limosa"

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout_s: float | None = None,
        as_root: bool = False,
    ) -> Completed:
        """Run *argv* to its end; see the port. It is killed when the caller is cancelled, killed or times out.

        Every process here is root in its namespaces, with or without *as_root*.
        """
        work = self._run(argv, stdin, base_environment(env))
        return await ran(self, argv, work, self.events, check=check, timeout_s=timeout_s)

    async def _run(self, argv: Sequence[str], stdin: bytes, env: dict[str, str]) -> tuple[int, bytes, bytes]:
        with contextlib.ExitStack() as stack:
            (child_in, our_in), (our_out, child_out), (our_err, child_err) = (_pipe(stack) for _ in range(3))
            theirs = (child_in, child_out, child_err)
            streams = (write_all(our_in, stdin), *(read_all(pipe.fileno()) for pipe in (our_out, our_err)))
            # At once, so that a process that reads has its input although this one is busy when it begins.
            async with tasks.beside(*streams) as (_, *reading):
                started = await self._start(argv, env, [pipe.fileno() for pipe in theirs])
                stack.callback(started.close)
                for pipe in theirs:
                    pipe.close()
                returncode = await started.wait()
                _, open_still = await asyncio.wait(reading, timeout=_AFTER_EXIT_S)
                if open_still:
                    raise output_kept_open(self, argv[0])
                return returncode, reading[0].result(), reading[1].result()

    async def spawn(self, argv: Sequence[str], *, log: str, env: Mapping[str, str] | None = None) -> int:
        """Start a process that outlives the caller; see the port."""
        started = await self._start(argv, base_environment(env), keep=True, log=log)
        started.close()
        self.events.emit(CommandRan(host=self.name, argv=tuple(argv), returncode=0, duration_s=0.0))
        return started.pid

    async def _start(
        self, argv: Sequence[str], env: dict[str, str], fds: Sequence[int] = (), *, keep: bool = False, log: str = ""
    ) -> first_process.Started:
        try:
            return await self.keeper.start(argv, env, fds, keep=keep, log=log)
        except FileNotFoundError as error:
            raise MachineError(
                f"the program {argv[0]} is not installed on {self.name}",
                hint="limosa doctor says which package has it",
            ) from error
        except OSError as error:
            why = error.strerror or error
            raise MachineError(f"{argv[0]} could not be started on {self.name}: {why}") from error

    async def connect(self, path: str) -> socket.socket:
        """A connected socket to the unix socket *path* of the host. Raises StateError when nobody listens."""
        try:
            return await self.keeper.connect(path)
        except OSError as error:
            raise unreachable(self.name, path) from error

    async def put(self, local: Path, path: str) -> None:
        """Copy a local file to the host."""
        try:
            data = await asyncio.to_thread(local.read_bytes)
        except OSError as error:
            raise LimosaError(f"{local} cannot be read: {error.strerror}") from error
        await self.run(["sh", "-c", 'cat >"$1"', "sh", path], stdin=data)

    async def get(self, path: str, local: Path) -> None:
        """Copy a file of the host here."""
        done = await self.run(["sh", "-c", 'cat <"$1"', "sh", path])
        try:
            await asyncio.to_thread(local.write_bytes, done.stdout)
        except OSError as error:
            raise paths.cannot_write(error, local) from error

    async def facts(self) -> HostFacts:
        """The machine's own facts: namespaces share its kernel and its memory."""
        return own_facts.facts()

    async def alive(self) -> bool:
        """Whether the host is on."""
        return await self.keeper.alive()

    def interactive(self, argv: Sequence[str]) -> list[str]:
        """The local command line that runs *argv* there with the caller's terminal."""
        user = ["--user", "--preserve-credentials"] if self.rootless else []
        # The root too: where this process itself lives in a chroot, the mount namespace alone would leave it.
        spaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--root"]
        return ["nsenter", "--target", str(self.keeper.pid), *user, *spaces, "--wdns=/", "--", *argv]


def _pipe(stack: contextlib.ExitStack) -> tuple[io.FileIO, io.FileIO]:
    """A pipe whose ends are closed with *stack* at the latest."""
    read, write = os.pipe2(os.O_CLOEXEC)
    return stack.enter_context(io.FileIO(read, "rb")), stack.enter_context(io.FileIO(write, "wb"))


def _keeper_argv(lab: str, host: str, ready: int, extra: Sequence[str]) -> list[str]:
    program = [sys.executable, "-I", "-S", str(KEEPER)]
    return [*program, "--lab", lab, "--host", host, "--ready", str(ready), *extra]


async def make_fabric(fabric: Fabric, events: Events) -> tuple[NamespaceHost, int]:
    """Make the outer namespaces and their keeper; also returns the pid of the ``unshare`` that waits for it.

    Raises MachineError when the machine does not allow namespaces.
    """
    user = ["--user", "--map-root-user"] if fabric.rootless else []
    spaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--propagation", "private", "--mount-proc"]
    ours, theirs = first_process.ready_pair()
    lifeline = ["--lifeline", str(fabric.lifeline)] if fabric.lifeline is not None else []
    hold = ["--hold", str(fabric.hold)] if fabric.hold is not None else []
    remove = ["--remove", fabric.remove] if fabric.remove else []
    binds = [word for path in fabric.below_run for word in ("--bind", str(path), str(path))]
    keeper = _keeper_argv(fabric.lab, CLIENT, theirs.fileno(), [*lifeline, *hold, *remove, *binds])
    argv = ["unshare", *user, *spaces, "--fork", "--kill-child", "--", *keeper]
    passed = [theirs.fileno(), *(number for number in (fabric.lifeline, fabric.hold) if number is not None)]
    log_start = fabric.log.stat().st_size if fabric.log.exists() else 0
    with ours:
        with theirs:
            outer = detach(argv, log=fabric.log, pass_fds=passed)
        try:
            pid = await first_process.await_ready(ours, CLIENT)
        except BaseException as error:
            os.kill(outer, signal.SIGKILL)  # our own child, so its number is still its own until it is reaped
            reap(outer)
            if not isinstance(error, LimosaError):
                raise
            said = fabric.log.read_bytes()[log_start:].decode(errors="replace").strip()
            raise _refused(said or error.message, fabric.rootless) from error
    return NamespaceHost(CLIENT, first_process.Keeper(pid, CLIENT, fabric.lab), fabric.rootless, events), outer


def _refused(said: str, rootless: bool) -> MachineError:
    if rootless:
        from limosa.remedies import namespaces_fix

        return MachineError(
            f"this machine does not let an ordinary user make namespaces: {said.splitlines()[-1]}",
            hint=namespaces_fix(),
        )
    return MachineError(
        f"namespaces could not be made: {said.splitlines()[-1]}",
        hint="inside a container, run as an ordinary user or give the container CAP_SYS_ADMIN",
    )


async def make_host(client: NamespaceHost, lab: str, name: str, binds: Mapping[str, Path], log: Path) -> NamespaceHost:
    """Make one host in the fabric; *binds* maps a path on the host to a directory of this machine."""
    spaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--propagation", "private", "--mount-proc"]
    ours, theirs = first_process.ready_pair()
    shared = [part for target, source in binds.items() for part in ("--bind", str(source), target)]
    argv = ["unshare", *spaces, "--fork", "--kill-child", "--", *_keeper_argv(lab, name, 3, shared)]
    with ours, Path(os.devnull).open("rb") as nothing, log.open("ab") as said:
        with theirs:
            fds = (nothing.fileno(), said.fileno(), said.fileno(), theirs.fileno())
            started = await client.keeper.start(argv, base_environment(), fds, keep=True)
        started.close()
        pid = await first_process.await_ready(ours, name)
    return NamespaceHost(name, first_process.Keeper(pid, name, lab), client.rootless, client.events)
