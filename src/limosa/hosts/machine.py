"""What this machine is, read from /proc and /sys, and by trying to open its devices."""

from __future__ import annotations

from pathlib import Path

from limosa.hosts.far.system import machine_facts
from limosa.hosts.host import HostFacts


def facts() -> HostFacts:
    """This machine, asked now."""
    return HostFacts(**machine_facts())


def user_namespace_hint() -> str:
    """What to change so that an ordinary user may make namespaces here."""
    restricted = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if restricted.exists() and restricted.read_text().strip() == "1":
        return "AppArmor forbids it: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
    allowed = Path("/proc/sys/kernel/unprivileged_userns_clone")
    if allowed.exists() and allowed.read_text().strip() == "0":
        return "sudo sysctl kernel.unprivileged_userns_clone=1, or run as root"
    return "sudo sysctl user.max_user_namespaces=10000, or run as root"
