"""What this machine is, read from /proc and /sys, and by trying to open its devices."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from limosa.hosts.host import HostFacts


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _opens(device: str) -> bool:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def facts() -> HostFacts:
    """This machine, asked now."""
    return HostFacts(
        kernel=platform.release(),
        cpu_model=_field("/proc/cpuinfo", "model name") or platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=int(_field("/proc/meminfo", "MemTotal").split()[0]) * 1024,
        memory_available_bytes=int(_field("/proc/meminfo", "MemAvailable").split()[0]) * 1024,
        kvm=_opens("/dev/kvm"),
        tun=_opens("/dev/net/tun"),
    )


def user_namespace_hint() -> str:
    """What to change so that an ordinary user may make namespaces here."""
    restricted = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if restricted.exists() and restricted.read_text().strip() == "1":
        return "AppArmor forbids it: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
    allowed = Path("/proc/sys/kernel/unprivileged_userns_clone")
    if allowed.exists() and allowed.read_text().strip() == "0":
        return "sudo sysctl kernel.unprivileged_userns_clone=1, or run as root"
    return "sudo sysctl user.max_user_namespaces=10000, or run as root"
