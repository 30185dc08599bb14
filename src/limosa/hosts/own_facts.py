"""What this machine is, read from /proc and /sys, and by trying to open its devices."""

from __future__ import annotations

from limosa.hosts.host import HostFacts


def facts() -> HostFacts:
    """This machine, asked now."""
    from limosa.hosts.link.far.system import machine_facts

    return HostFacts(**machine_facts())
