"""What this machine is, read from /proc and /sys, and by trying to open its devices."""

from __future__ import annotations

import functools

from limosa.hosts.far.system import machine_facts, machine_name
from limosa.hosts.host import HostFacts


@functools.cache
def name() -> str:
    """What this machine is known by, as in its facts; it stays so while a process runs."""
    return machine_name()


def facts() -> HostFacts:
    """This machine, asked now."""
    return HostFacts(**machine_facts())
