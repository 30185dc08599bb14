"""What CPU time the virtual CPUs of one guest got on one host, told every quarter of a second.

Sent to the host and run there by ``python3 -I -S -c``: the standard library of Python 3.8 alone. A line a look:
``PID CLOCK_NS RAN_NS WAITED_NS``, the sums over the threads of the guest's virtual CPUs since they began (the first
two figures of /proc/PID/task/TID/schedstat; Linux, Documentation/scheduler/sched-stats.rst), or ``none``. So a reader
that goes away is noticed at the next line.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

LOOK_S = 0.25
COLUMNS = ("arrived_ns", "pid", "clock_ns", "ran_ns", "waited_ns")
"""Of the file that such lines are kept in, each with the moment at which it arrived (CLOCK_REALTIME)."""


def command(name: str) -> list[str]:
    """The command line for a host; *name* is what QEMU was told by ``-name guest=``."""
    return ["python3", "-I", "-S", "-c", Path(__file__).read_text(), name]


def parse(line: str) -> tuple[int, int, int, int] | None:
    """A line as (pid, clock_ns, ran_ns, waited_ns); None for any other."""
    words = line.split()
    if len(words) != 4 or not all(word.isdecimal() for word in words):
        return None
    return int(words[0]), int(words[1]), int(words[2]), int(words[3])


def process_of(name: str, proc: str = "/proc") -> int:
    """The QEMU of the guest *name*; 0: there is none."""
    for entry in Path(proc).iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"-name" in arguments[:-1]:
            given = arguments[arguments.index(b"-name") + 1]
            if given.split(b",")[0] == b"guest=" + os.fsencode(name):
                return int(entry.name)
    return 0


def times(pid: int, proc: str = "/proc") -> tuple[int, int] | None:
    """How long the virtual CPUs of *pid* ran and waited for a CPU, in ns; None: gone, or the kernel does not tell."""
    ran = waited = found = 0
    try:
        for task in Path(proc, str(pid), "task").iterdir():
            if not (task / "comm").read_text().rstrip().endswith(("/KVM", "/TCG")):
                continue
            words = (task / "schedstat").read_text().split()
            ran, waited, found = ran + int(words[0]), waited + int(words[1]), found + 1
    except (OSError, ValueError, IndexError):
        return None
    return (ran, waited) if found else None


def main() -> None:
    """Until somebody ends it, or nobody reads."""
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    name, pid = sys.argv[1], 0
    while True:
        pid = pid or process_of(name)
        clock_ns, seen = time.monotonic_ns(), times(pid) if pid else None
        if seen is None:
            pid = 0
            print("none", flush=True)
        else:
            print(pid, clock_ns, *seen, flush=True)
        time.sleep(LOOK_S)


if __name__ == "__main__":
    main()
