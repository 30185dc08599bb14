"""Which launches of a guest exist on a host: told by the processes, never by whether a monitor answers.

Every launch has an id of its own, which its command line bears. A process is ended only where it is still the one that
was seen to bear the id, by its start time: nothing is ever ended because its command line looks alike.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import msgspec

from limosa.deadline import Deadline
from limosa.errors import LimosaError, StateError, UnreachableError
from limosa.hosts.host import Host
from limosa.process import Completed

PIDFILE = "qemu.pid"
LAUNCH = "null,id=launch-"
"""What the id of a launch stands behind: a character device that does nothing, which no guest can see."""

KILLED_S = 10.0
"""How long a process may take to be gone after SIGKILL; it frees the guest's memory."""

_LOOK = r"""
: limosa-looks-for-itself
self= files=$(grep -alsF -f - /proc/[0-9]*/cmdline)
exit=$?
for file in $files; do
    pid=${file#/proc/} pid=${pid%/cmdline}
    [ "$pid" = $$ ] && self=${self:-seen} && continue
    { read -r line <"/proc/$pid/stat"; } 2>/dev/null || continue
    set -- ${line##*) }
    printf '%s %s\n' "$pid" "${20}"
    { tr '\000\n' '\n ' <"$file"; } 2>/dev/null || { [ -d "/proc/$pid" ] && self=lost; }
    printf '\000'
done
[ "$self" = seen ] && [ "$exit" -le 2 ] && printf whole
"""
"""The processes whose command lines hold the text on standard input, which no other process has in its own: pid and
start time (field 22 of proc_pid_stat(5)), then a line a word; at last that this is the whole answer.

The shell's own command line has this text in it. Where it was not found, or grep was ended, nothing is known: a host
without room for another process answers so. (grep exits with 2 when a process ended while it looked.)"""

_ITSELF = "limosa-looks-for-itself"

_SIGNAL = r"""
pid=$1 started=$2 signal=$3
{ read -r line <"/proc/$pid/stat"; } 2>/dev/null || exit 1
set -- ${line##*) }
[ "${20}" = "$started" ] || exit 1
case $1 in Z | X) [ "${18}" -gt 1 ] || exit 1 ;; esac
[ "$signal" = 0 ] || kill -"$signal" "$pid" || exit 0
"""
"""Exits with 0 for the process that was meant, which is there, and with 1 where it is not; what only waits to be
collected is gone."""


_SPAWNED = r"""
{ read -r line <"/proc/$1/stat"; } 2>/dev/null || exit 1
set -- ${line##*) }
case $1 in Z | X) exit 1 ;; esac
"""
"""Exits with 0 while the process of that pid has not ended."""


class Running(msgspec.Struct, frozen=True):
    """One QEMU process on a host, as it was seen."""

    launch: str
    """The id in its command line; empty for one that bears none."""
    pid: int
    """As seen on the host."""
    started: int
    """Clock ticks after the host's boot: with the pid, no other process."""


def new_id() -> str:
    """An id for a launch that is to be: random, as nothing else tells two apart on any machine."""
    return os.urandom(16).hex()


def runtime_directory(host: Host, guest: str) -> str:
    """Where a guest's sockets are on the host that runs it."""
    return f"{host.runtime_directory}/guests/{guest}"


async def look(host: Host, guest: str) -> list[Running]:
    """The guest's QEMU processes on *host*, as a rule one or none. Raises StateError when nobody can be asked.

    Not by the pid file: that is not written yet while QEMU starts, and a pid may have passed on to another process.
    A process that is ending has no command line any more.
    """
    pidfile = f"{runtime_directory(host, guest)}/{PIDFILE}"
    return await _all(host, "-pidfile", pidfile)


async def anywhere(host: Host, launch: str) -> list[Running]:
    """As ``look``, the process of one launch, wherever its sockets are and whoever asks: a machine may have lost the
    lab's mark, or be asked by another login than before."""
    return await _all(host, "-chardev", f"{LAUNCH}{launch}")


async def _all(host: Host, option: str, value: str) -> list[Running]:
    done = await host.run(["sh", "-c", _LOOK], stdin=f"{value}\n{_ITSELF}\n".encode(), check=False)
    *found, whole = done.stdout.split(b"\0")
    if whole != b"whole":
        raise _untold(host, done)
    seen = (_seen(text.decode(errors="replace"), option, value) for text in found)
    return [running for running in seen if running is not None]


def _seen(text: str, option: str, value: str) -> Running | None:
    """A process that was started with that option; others may only speak of it."""
    head, *words = text.split("\n")
    numbers = head.split()
    if len(numbers) != 2 or value not in _values(words, option):
        return None
    ids = [value.removeprefix(LAUNCH) for value in _values(words, "-chardev") if value.startswith(LAUNCH)]
    return Running(ids[0] if ids else "", int(numbers[0]), int(numbers[1]))


def _values(words: Sequence[str], option: str) -> list[str]:
    return [value for word, value in itertools.pairwise(words) if word == option]


async def find(host: Host, guest: str, launch: str) -> Running | None:
    """The process of one launch; None when it does not exist (any more). Raises StateError as ``look``."""
    return next((running for running in await look(host, guest) if running.launch == launch), None)


async def appeared(host: Host, guest: str, launch: str, pid: int, deadline: Deadline) -> Running | None:
    """The process of a launch that has just been spawned as *pid*; None when it has ended.

    For a moment while it executes QEMU it has no command line yet: that one look finds nothing is no end.
    """
    async for _ in deadline.ticks(0.005):
        running = await find(host, guest, launch)
        if running is not None or not await _holds(host, _SPAWNED, str(pid)):
            break
    return running


async def exists(host: Host, running: Running) -> bool:
    """Whether that very process is there still. Raises StateError when nobody can be asked."""
    return await _signal(host, running, "0")


async def _signal(host: Host, running: Running, name: str) -> bool:
    return await _holds(host, _SIGNAL, str(running.pid), str(running.started), name)


async def _holds(host: Host, script: str, *words: str) -> bool:
    """What *script* says by exit code 0 or 1. Raises UnreachableError where it was broken off."""
    done = await host.run(["sh", "-c", script, "sh", *words], check=False)
    if done.returncode not in {0, 1}:
        raise _untold(host, done)
    return done.returncode == 0


def _untold(host: Host, done: Completed) -> UnreachableError:
    """No answer is not the answer that nothing runs."""
    said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return UnreachableError(
        f"what runs on {host.name} cannot be told: {said[0] if said else f'sh ended with {done.returncode}'}",
        hint=f"limosa exec {host.name} -- ps has to work: see to memory and to the number of processes there",
    )


async def end(host: Host, running: Running, deadline: Deadline) -> None:
    """Wait for that process to end by itself until *deadline*, then kill it; returns when it is gone.

    On a host that is off nothing runs. Raises UnreachableError when that is not known, LimosaError when it stays.
    """
    try:
        async for _ in deadline.ticks(0.002):
            if not await exists(host, running):
                return
        await _signal(host, running, "KILL")
        async for _ in Deadline.after(KILLED_S).ticks(0.01):
            if not await exists(host, running):
                return
    except UnreachableError:
        raise
    except StateError:
        return
    raise LimosaError(f"process {running.pid} on {host.name}, a QEMU, does not end, not even by SIGKILL")
