"""The single door to local processes: argument lists, explicit environment, always waited for.

A failure carries one line that can be pasted into a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from limosa.errors import CommandError, LimosaError, MachineError
from limosa.tasks import to_the_end, uninterrupted

GRACE_S = 2.0
"""How long a process may take to end after SIGTERM before SIGKILL."""

_KEPT = ("PATH", "HOME", "USER", "LANG", "TERM", "TMPDIR", "XDG_CACHE_HOME", "XDG_STATE_HOME")
"""What a child inherits; the rest of the environment stays out, so that runs can be repeated."""


class Completed(msgspec.Struct, frozen=True):
    """A finished process: its exit status (negative: the signal that ended it) and what it printed."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    duration_s: float

    @property
    def text(self) -> str:
        """Standard output as text, without the final line ends."""
        return self.stdout.decode(errors="replace").rstrip("\n")


class Runner(Protocol):
    """Where commands run to their end: as much of a host as whoever only runs commands needs."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def python(self) -> str:
        """The python3 that runs there, for a program that needs the standard library alone."""

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
        """Run a command to its end. It dies when the caller is cancelled or killed.

        *as_root*: through ``sudo -n`` where limosa is not root there. Raises LimosaError's children: MachineError when
        it may not be root, CommandError for a status other than 0 unless *check* is off.
        """


def base_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that every child gets, and *extra* on top."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = kept.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    missing = [d for d in ("/usr/sbin", "/sbin") if d not in path.split(":")]
    return kept | {"PATH": ":".join([path, *missing])} | dict(extra or {})


async def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    check: bool = True,
    timeout_s: float | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run *argv* to its end and return what it printed.

    Raises CommandError for an exit status other than 0 (with ``check``), MachineError when the program does not exist
    or may not be run, LimosaError when *timeout_s* passes. Cancelled or timed out, the process group is ended first.
    """
    started = time.monotonic()
    try:
        child = await _create(
            *argv,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=base_environment(env),
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise _cannot_start(argv[0], error) from error
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await child.communicate(stdin or None)
    except TimeoutError as error:
        await uninterrupted(stop(child))
        raise LimosaError(f"{argv[0]} did not finish within {timeout_s:g} s") from error
    except BaseException:
        await uninterrupted(stop(child))
        raise
    assert child.returncode is not None
    if check and child.returncode != 0:
        raise CommandError(argv, child.returncode, err.decode(errors="replace"))
    return Completed(tuple(argv), child.returncode, out, err, time.monotonic() - started)


async def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    pass_fds: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    """Start *argv* with pipes to all three of its streams; the caller has to end it with ``stop``.

    Raises MachineError when the program does not exist or may not be run.
    """
    try:
        return await _create(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=base_environment(env),
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise _cannot_start(argv[0], error) from error


async def _create(*argv: str, **options: Any) -> asyncio.subprocess.Process:
    """As ``create_subprocess_exec``, but a cancellation ends the whole group.

    asyncio itself would kill the first process only and then wait for pipes to close, which the rest of the group
    holds open: a compiler that waits for its input, for one, for ever.
    """
    child, cancelled = await to_the_end(asyncio.create_subprocess_exec(*argv, **options))
    if cancelled:
        await uninterrupted(stop(child))
        raise asyncio.CancelledError
    return child


def _cannot_start(program: str, error: OSError) -> MachineError:
    if isinstance(error, FileNotFoundError):
        return MachineError(f"the program {program} is not installed", hint="limosa doctor says which package has it")
    return MachineError(
        f"the program {program} cannot be run: {error.strerror}",
        hint="it has to be executable for this user, on a file system that is not mounted noexec",
    )


async def stop(child: asyncio.subprocess.Process, grace_s: float = GRACE_S) -> None:
    """End a process group: SIGTERM, grace, SIGKILL; return when it has been waited for."""
    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, None)):
        if child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await child.wait()


def detach(argv: Sequence[str], *, log: os.PathLike[str], pass_fds: Sequence[int] = ()) -> int:
    """Start a process in a session of its own that outlives this one; its output is appended to *log*.

    Returns its pid. Whoever wants to see its end calls ``reap``.
    """
    actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]  # type: ignore[list-item]
    actions.append((os.POSIX_SPAWN_OPEN, 1, os.fspath(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))  # type: ignore[arg-type]
    actions.append((os.POSIX_SPAWN_DUP2, 1, 2))
    # dup2 onto itself clears close-on-exec in the child alone.
    actions.extend((os.POSIX_SPAWN_DUP2, number, number) for number in pass_fds)
    # Whatever else this process itself inherited open, a pipe of its caller for one, would be held for ever.
    for number in _inheritable():
        if number not in pass_fds:
            # By its own flag, as an action may not name what is above the limit; nobody else here hands it down.
            os.set_inheritable(number, False)
    for number in pass_fds:
        os.set_inheritable(number, True)
    try:
        return os.posix_spawnp(argv[0], list(argv), base_environment(), file_actions=actions, setsid=True)
    except (FileNotFoundError, PermissionError) as error:
        raise _cannot_start(argv[0], error) from error
    finally:
        for number in pass_fds:
            os.set_inheritable(number, False)


def _inheritable() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def succeeds(argv: Sequence[str]) -> bool:
    """Whether a command that ends at once can be run, and exits with 0. For what cannot wait in an event loop."""
    try:
        return (
            subprocess.run(argv, env=base_environment(), capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
        )
    except OSError:
        return False


def reap(pid: int) -> None:
    """Collect an ended child of this process; one that is not ours is its own parent's business."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
