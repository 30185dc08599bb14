"""Which processes of this machine are a lab's: its fabric and hosts, by the mark that their first processes bear.

Both a keeper and the ``unshare`` that waits for it bear it. Everything else of a lab is a descendant of a keeper inside
its pid namespaces, and ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from limosa.deadline import Deadline
from limosa.errors import LimosaError

_KEEPER_PROGRAMS = (b"/limosa/hosts/namespaces/keeper.py", b"/limosa/hosts/keeper.py")
"""How the path of a keeper's program ends; the second: in labs that an older version brought up."""

_GUESTS = b"/run/limosa/guests/"
"""In the command line of each guest's QEMU: where its sockets are."""

_EXECUTION_S = 1.0
"""How long a process may take from one program to the next. One whose command line stays empty is not waited for."""


def marked(lab: str, host: str = "") -> list[int]:
    """The pids of what keeps the hosts of the lab with directory *lab* on this machine; *host*: that one alone."""
    return [pid for pid in pids() if bears_mark(pid, lab, host)]


def reachable(pid: int, lab: str) -> bool:
    """Whether *pid* is a keeper of the lab, and what it keeps can be entered from here.

    Not so from another user namespace beside it, in which its processes may be seen all the same.
    """
    try:
        Path(f"/proc/{pid}/root").readlink()
    except OSError:
        return False
    return bears_mark(pid, lab)


def pids() -> list[int]:
    """Every process that is seen here, the oldest first as far as numbers tell."""
    return sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def runs_guest(pid: int, keeper: int) -> bool:
    """Whether process *pid* belongs to a guest and runs on the very host of that *keeper*."""
    try:
        if _GUESTS not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        return Path(f"/proc/{pid}/ns/pid").readlink() == Path(f"/proc/{keeper}/ns/pid").readlink()
    except OSError:
        return False


def bears_mark(pid: int, lab: str, host: str = "") -> bool:
    """Whether process *pid* is now a keeper of that lab (and of that host), or the ``unshare`` of one."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    wanted = [(b"--lab", os.fsencode(lab)), *([(b"--host", os.fsencode(host))] if host else [])]
    return any(word.endswith(_KEEPER_PROGRAMS) for word in words) and not set(wanted) - set(itertools.pairwise(words))


def is_rootless(pid: int) -> bool:
    """Whether process *pid* lives in a user namespace of its own; raises nothing when it has just ended."""
    try:
        return Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()
    except OSError:
        return False


def is_first(pid: int) -> bool:
    """Whether process *pid* is the first of a pid namespace: not the ``unshare`` that waits for a keeper, nor a child
    of the keeper's that has yet to execute its program. False when it has just ended.
    """
    try:
        return namespace_pids(pid)[-1] == 1
    except OSError:
        return False


def inner_pid(pid: int, namespace_of: int) -> int:
    """The pid of process *pid* (as seen here) as it is seen in the pid namespace of process *namespace_of*.

    Raises LimosaError when one of them has ended.
    """
    try:
        return namespace_pids(pid)[len(namespace_pids(namespace_of)) - 1]
    except OSError as error:
        raise LimosaError("a host ended while it was being made", hint="limosa up makes it again") from error


def namespace_pids(pid: int) -> list[int]:
    """The pid of process *pid* in each pid namespace that it is in, ours first. Raises OSError when it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return [int(word) for word in line.split()[1:]]
    raise LimosaError("this kernel does not tell pids across namespaces (no NSpid in /proc)")


async def _marked_by_now(mark: str, host: str) -> list[int]:
    """As ``marked``, when every process can be told by its command line: one that executes its program has none, for
    as long as that takes, and a first process may be at it."""
    async for _ in Deadline.after(_EXECUTION_S).ticks(0.001):
        if not any(map(_executes, pids())):
            break
    return marked(mark, host)


def _executes(pid: int) -> bool:
    """Whether process *pid* is between two programs. What has no program at all is of the kernel, or has ended."""
    try:
        return bool(Path(f"/proc/{pid}/exe").readlink()) and not Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def end_marked(mark: str, host: str = "") -> bool:
    """End every process that bears the lab's mark (*host*: those of one host); whether there was any.

    Nothing else can be hit, whatever a record says: the mark is read after the process is held by a descriptor, so
    that its pid cannot pass to another one in between. All are held before one is ended: with an ``unshare`` ends its
    keeper, which has no command line as it ends, and is to be waited for all the same. They are looked for until there
    is none: one of them may have made another while it was being ended. Raises LimosaError.
    """
    any_found = False
    while found := await _marked_by_now(mark, host):
        any_found = True
        with contextlib.ExitStack() as stack:
            held = [(pid, stack.enter_context(_held(pid))) for pid in found]
            ours = [(pid, process) for pid, process in held if process is not None and bears_mark(pid, mark, host)]
            for pid, process in ours:
                _kill(pid, process)
            for pid, process in ours:
                await _wait_ended(pid, process)
    return any_found


@contextlib.contextmanager
def _held(pid: int) -> Iterator[int | None]:
    """A descriptor of process *pid*, which no other can become while it is open. None: it has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor
    finally:
        with contextlib.suppress(ChildProcessError):  # it is its own parent's business, unless that is this process
            os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
        os.close(descriptor)


def _kill(pid: int, descriptor: int) -> None:
    """SIGKILL. One that is gone already is no error; raises LimosaError for another user's."""
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except PermissionError as error:
        raise LimosaError(
            f"process {pid} of this lab belongs to another user", hint="ask its owner, or root"
        ) from error


async def _wait_ended(pid: int, descriptor: int, patience_s: float = 10.0) -> None:
    """Wait until the process has ended, threads and all. Raises LimosaError."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: None if ended.done() else ended.set_result(None))
    try:
        async with asyncio.timeout(patience_s):
            await ended
    except TimeoutError as error:
        raise LimosaError(f"process {pid} does not end, not even by SIGKILL") from error
    finally:
        loop.remove_reader(descriptor)
