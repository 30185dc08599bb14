"""What this machine is and how busy it is: the part of every result that says whether two may be compared."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

PROC, SYS = Path("/proc"), Path("/sys")


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine. Empty text where it does not tell."""

    kernel: str
    cpu_model: str
    cpus: int
    """Those that this process may use."""
    governor: str
    """The frequency governor of the first CPU; "powersave" and the like make figures vary."""
    memory_bytes: int | None
    """None where it does not tell."""


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Moments of /proc/stat, in clock ticks since boot, all CPUs together (man 5 proc_stat)."""

    total: int
    idle: int
    """Idle and waiting for I/O."""
    steal: int
    """Taken by the hypervisor below this machine."""


def read_machine(proc: Path = PROC, sys: Path = SYS) -> Machine:
    """Look at this machine now."""
    memory_kib = _field(proc / "meminfo", "MemTotal").removesuffix("kB").strip()
    return Machine(
        kernel=platform.release(),
        cpu_model=_field(proc / "cpuinfo", "model name") or platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        governor=_text(sys / "devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
        memory_bytes=int(memory_kib) * 1024 if memory_kib else None,
    )


def read_load_average(proc: Path = PROC) -> float | None:
    """Processes that ran or wanted to, on average over the last minute; None where it cannot be read."""
    words = _text(proc / "loadavg").split()
    return float(words[0]) if words else None


def read_cpu_times(proc: Path = PROC) -> CpuTimes:
    """The CPU times so far; two of them give shares."""
    words = _text(proc / "stat").partition("\n")[0].split()
    # user nice system idle iowait irq softirq steal; guest times are within user's already.
    times = [int(word) for word in words[1:9]]
    times += [0] * (8 - len(times))
    return CpuTimes(total=sum(times), idle=times[3] + times[4], steal=times[7])


def steal_share(before: CpuTimes, after: CpuTimes) -> float | None:
    """The share of CPU time, 0 to 1, that the hypervisor below took between two moments; None if they are one."""
    total = after.total - before.total
    return max(0, after.steal - before.steal) / total if total > 0 else None


def busy_share(before: CpuTimes, after: CpuTimes) -> float | None:
    """The share of CPU time, 0 to 1, that was used between two moments, steal included; None if they are one."""
    total = after.total - before.total
    return 1.0 - (after.idle - before.idle) / total if total > 0 else None


def _field(path: Path, name: str) -> str:
    for line in _text(path).splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
