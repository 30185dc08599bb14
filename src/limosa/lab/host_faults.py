"""Faults that a person makes on purpose, host by host, and undoes: its plug is pulled, its links are cut."""

from __future__ import annotations

import contextlib

from limosa.errors import LimosaError
from limosa.hosts.kind import HostState, Seen
from limosa.lab.construction import Construction
from limosa.lab.lab_hosts import LabHosts


async def power_off(hosts: LabHosts, name: str) -> None:
    """As pulling the plug: everything on the host ends at once. Raises StateError where that is not ours to do."""
    hosts.host(name)
    await hosts.kind(name).power_off(name)
    del hosts.on[name]
    hosts.seen[name] = Seen.off(name)
    hosts.record.off = sorted({*hosts.record.off, name})
    hosts.directory.save(hosts.record)


async def cut(hosts: LabHosts, name: str) -> None:
    """Take the host's links down, on every network. On record first: what is cut can be restored then."""
    hosts.host(name)
    before, hosts.record.cut = hosts.record.cut, sorted({*hosts.record.cut, name})
    try:
        hosts.directory.save(hosts.record)
        await hosts.kind(name).set_links(name, "down")
    except LimosaError:
        hosts.record.cut = before
        with contextlib.suppress(LimosaError):
            hosts.directory.save(hosts.record)
        raise


async def restore(hosts: LabHosts, name: str) -> None:
    """Undo ``cut`` and ``power_off``."""
    construction = Construction(hosts)
    if name not in hosts.on:
        if hosts.state(name) is HostState.NO_ANSWER:
            raise hosts.absent(name)
        hosts.on[name] = await hosts.kind(name).power_on(name)
        await construction.furnish(name)
        await construction.guard()
    elif name in hosts.record.cut:
        await hosts.kind(name).set_links(name, "up")
    construction.on_again(name)
    await construction.forget_silence()
