"""Watches the QEMU processes of a lab's guests from outside, whatever the product says of them."""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

LOOK_S = 0.05
WINDOWS = 6
"""In so many looks in a row two copies must both have computed before that counts as twice: a hand-over is one look."""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, order=True)
class Seen:
    """One process: its pid as seen here, and its start time in clock ticks."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True)
class Look:
    """Which copies of a guest there were at one moment, and those whose virtual CPU had computed since the last."""

    at_s: float
    copies: frozenset[Seen]
    computed: frozenset[Seen]


@dataclass(slots=True)
class Witness:
    """``with Witness(lab, guests) as witness``: it looks until the end; ``looks`` are all that it saw, by guest."""

    lab: str
    guests: tuple[str, ...]
    looks: dict[str, list[Look]] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _cpu: dict[Seen, int] = field(default_factory=dict)

    def __enter__(self) -> Witness:
        self.looks = {guest: [] for guest in self.guests}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        assert self._thread is not None
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(LOOK_S):
            for guest in self.guests:
                look = self._look(guest)
                self.looks[guest].append(look)
                self._judge(guest)

    def _look(self, guest: str) -> Look:
        copies, computed = set(), set()
        for seen in processes(self.lab, guest):
            ticks = vcpu_ticks(seen.pid)
            copies.add(seen)
            if ticks > self._cpu.setdefault(seen, ticks):
                computed.add(seen)
            self._cpu[seen] = ticks
        return Look(time.monotonic(), frozenset(copies), frozenset(computed))

    def _judge(self, guest: str) -> None:
        last = self.looks[guest][-WINDOWS:]
        both = frozenset.intersection(*(look.computed for look in last))
        if len(last) == WINDOWS and len(both) > 1:
            self.twice.append(f"{guest} ran as {sorted(both)}")

    def always_there(self, guest: str, since_s: float, until_s: float) -> bool:
        """Whether every look in between saw a copy."""
        between = [look for look in self.looks[guest] if since_s <= look.at_s <= until_s]
        return bool(between) and all(look.copies for look in between)

    def gone(self, guest: str) -> list[tuple[float, float]]:
        """For each time that the last copy went: when it was first seen, and when it was seen to be gone (monotonic
        seconds)."""
        looks = self.looks[guest]
        return [
            (min(look.at_s for look in looks if before.copies & look.copies), now.at_s)
            for before, now in itertools.pairwise(looks)
            if before.copies and not now.copies
        ]


def processes(lab: str, guest: str) -> list[Seen]:
    """Every process of this machine that is a QEMU of that guest."""
    found, name = [], f"guest={lab}/{guest},".encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError, IndexError):
            if entry.name.isdigit() and name in (entry / "cmdline").read_bytes().partition(b"-name\0")[2][:200]:
                found.append(Seen(int(entry.name), started(int(entry.name))))
    return sorted(found)


def started(pid: int) -> int:
    """The start time of a process in clock ticks after boot (proc_pid_stat(5), field 22). Raises OSError."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def vcpu_ticks(pid: int) -> int:
    """How long the virtual CPUs of a QEMU have computed, in clock ticks."""
    ticks = 0
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                stat = (task / "stat").read_text()
                if "(CPU " in stat:
                    fields = stat.rpartition(")")[2].split()
                    ticks += int(fields[11]) + int(fields[12])
    return ticks
