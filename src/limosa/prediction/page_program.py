"""Which of a guest's pages change, read from outside: a program for the guest's host, of the standard library alone.

It reads random pages of the guest's memory through /proc/PID/mem of its QEMU and compares their checksums with those of
a first look. A page that was rewritten with the very same bytes is therefore not seen as dirtied, though a migration
sends it again; and one that was dirtied and holds its first bytes again is only seen if a look fell in between.

Memory is looked at by groups of pages. Each group takes one random page of each of as many equal strata, has its first
look at a random moment of its own, and further ones at the windows after that: many short looks at many moments, where
one long sweep would blur short windows, and would hold up whoever shares the processor. A page that was found dirty is
not read again. Pages that QEMU never touched are told from /proc/PID/pagemap and not read, which would make them.

Its processor time is bounded: what a look costs is measured on the first ones, and the groups after are made as large
as the time that is left allows. So it needs no low priority, with which it would run when the guest does not, and would
see windows that begin and end at such moments. How long they really were is measured.
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import random
import sys
import time
import zlib
from pathlib import Path
from typing import Any

PAGE_BYTES = 4096
"""What QEMU's log counts by on every target that limosa knows."""
CHUNK_PAGES = 32
"""Pages between two looks at the clock, some 0.1 ms."""
LEAST_PAGES = 16
_ENTRY = 8
_PRESENT, _SWAPPED = 1 << 63, 1 << 62
"""Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)."""
_ZEROS = zlib.crc32(bytes(PAGE_BYTES))
_UNTOUCHED = -1
"""In place of the checksum of a page that is not in memory; it holds zeros, or is swapped out."""
_ON_DISK = -2


class NotReadableError(Exception):
    """Why the memory cannot be read, in words; *forbidden*: another user might."""

    def __init__(self, why: str, *, forbidden: bool = False) -> None:
        super().__init__(why)
        self.forbidden = forbidden


class Memory:
    """The guest's memory in the process *pid* that was *started* then (field 22 of proc_pid_stat(5)): *size* bytes.

    Raises NotReadableError. What is open stays that process's, even if it ends and another one gets its pid.
    """

    def __init__(self, pid: int, started: int, size: int) -> None:
        folder = f"/proc/{pid}"
        try:
            self.pages = size // PAGE_BYTES
            self._memory = os.open(f"{folder}/mem", os.O_RDONLY)
            self._map = os.open(f"{folder}/pagemap", os.O_RDONLY)
            self.base = place(Path(folder, "maps").read_text(), size)
            if int(Path(folder, "stat").read_text().rpartition(")")[2].split()[19]) != started:
                raise NotReadableError(f"process {pid} is not the guest's QEMU any more")
            self.checksum(0)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise NotReadableError(f"process {pid} is gone") from error
        except PermissionError as error:
            why = "another user's, or the kernel forbids one process to look into another (kernel.yama.ptrace_scope)"
            told = f"the memory of process {pid} may not be read: it is {why}"
            raise NotReadableError(told, forbidden=True) from error
        except OSError as error:
            raise NotReadableError(f"the memory of process {pid} cannot be read: {error.strerror}") from error

    def checksum(self, page: int) -> int:
        """That of a page; _UNTOUCHED or _ON_DISK for one that is not in memory, which stays so."""
        entry = os.pread(self._map, _ENTRY, (self.base // PAGE_BYTES + page) * _ENTRY)
        if len(entry) < _ENTRY:
            raise NotReadableError("the guest's QEMU has ended")
        bits = int.from_bytes(entry, sys.byteorder)
        if bits & _PRESENT:
            return self.content(page)
        return _ON_DISK if bits & _SWAPPED else _UNTOUCHED

    def content(self, page: int) -> int:
        """The checksum of a page that is known to be in memory."""
        data = os.pread(self._memory, PAGE_BYTES, self.base + page * PAGE_BYTES)
        if len(data) < PAGE_BYTES:
            raise NotReadableError("the guest's QEMU has ended")
        return zlib.crc32(data)


def place(maps: str, size: int) -> int:
    """Where the *size* bytes of memory are in an address space, by the text of /proc/PID/maps: the one mapping that may
    be read and written, and no code, and is that large.

    QEMU keeps an inaccessible page behind memory, so that no other mapping can be joined to it. Raises NotReadableError
    when none is found, or more than one.
    """
    found = []
    for line in maps.splitlines():
        words = line.split(None, 5)
        first, end = (int(each, 16) for each in words[0].split("-"))
        if end - first == size and words[1][:3] == "rw-":
            found.append(first)
    if len(found) != 1:
        how = f"{len(found)} mappings are" if found else "no mapping is"
        raise NotReadableError(f"the guest's memory is not found in its QEMU: {how} {size} bytes large")
    return found[0]


class Group:
    """Pages that are compared with one first look of theirs."""

    def __init__(self, memory: Memory, count: int, chance: random.Random) -> None:
        self._memory = memory
        count = min(count, memory.pages)
        edges = [memory.pages * at // count for at in range(count + 1)]
        self.pages = [chance.randrange(edges[at], edges[at + 1]) for at in range(count)]
        self._before: list[int] = []
        self._times: list[float] = []
        self._clean: list[list[int]] = []
        """By chunk, the indices of the pages that were not found dirty."""
        self.zeros = self._dirtied = self._dirtied_zeros = 0
        self.windows: list[tuple[float, int, int]] = []
        """How long, how many pages had changed, and how many of those held zeros when that was seen."""

    def begin(self) -> None:
        """The first look."""
        for first in range(0, len(self.pages), CHUNK_PAGES):
            began = time.monotonic()
            indices = range(first, min(first + CHUNK_PAGES, len(self.pages)))
            self._before += [self._memory.checksum(self.pages[index]) for index in indices]
            self._clean.append(list(indices))
            self._times.append((began + time.monotonic()) / 2)
        self.zeros = sum(sum_ in (_ZEROS, _UNTOUCHED) for sum_ in self._before)

    def look(self) -> None:
        """A further look, which ends a window."""
        waited_s = 0.0
        for chunk, clean in enumerate(self._clean):
            began = time.monotonic()
            self._clean[chunk] = [index for index in clean if not self._changed(index)]
            middle = (began + time.monotonic()) / 2
            first = chunk * CHUNK_PAGES
            waited_s += (middle - self._times[chunk]) * min(CHUNK_PAGES, len(self.pages) - first)
        self.windows.append((waited_s / len(self.pages), self._dirtied, self._dirtied_zeros))

    def _changed(self, index: int) -> bool:
        before, page = self._before[index], self.pages[index]
        now = self._memory.content(page) if before >= 0 else self._memory.checksum(page)
        if now == before or (before == _UNTOUCHED and now == _ZEROS):
            return False  # what was swapped in may only have been read: it is counted as dirtied
        self._dirtied += 1
        self._dirtied_zeros += now in (_ZEROS, _UNTOUCHED)
        return True


def measure(memory: Memory, asked: dict[str, Any]) -> dict[str, Any]:
    """The groups, what they took, and how long it lasted.

    *asked*: ``windows_s``, in order; ``groups`` of ``pages`` each at most, whose first looks are spread over
    ``spread_s``; ``cpu_s`` to be used at most, and of all processors ``cpu_share``, of which a small group for each may
    make more; ``seed``.
    """
    chance, windows = random.Random(asked["seed"]), asked["windows_s"]
    count, looks = asked["groups"], len(windows) + 1
    began, used = time.monotonic(), time.process_time()
    step = asked["spread_s"] / count
    all_s = len(os.sched_getaffinity(0)) * (asked["spread_s"] + windows[-1])
    most_s = min(asked["cpu_s"], asked["cpu_share"] * all_s)
    due = [(began + (number + chance.random()) * step, number, -1) for number in range(count)]
    heapq.heapify(due)
    groups: dict[int, Group] = {}
    read = 0
    while due:
        at, number, window = heapq.heappop(due)
        time.sleep(max(0.0, at - time.monotonic()))
        if window < 0:
            spent = time.process_time() - used
            affordable = most_s / (spent / read) / (count * looks) if read else LEAST_PAGES * 4
            group = groups[number] = Group(memory, max(LEAST_PAGES, min(int(affordable), asked["pages"])), chance)
            at = time.monotonic()
            group.begin()
        else:
            group = groups[number]
            group.look()
        read += len(group.pages)
        if window + 1 < len(windows):
            # After the first look, whenever that was; not after the look before, so that delays do not add up.
            base = at if window < 0 else at - windows[window]
            heapq.heappush(due, (base + windows[window + 1], number, window + 1))
    return {
        "groups": [
            {"pages": len(group.pages), "zeros": group.zeros, "windows": group.windows} for group in groups.values()
        ],
        "cpu_s": time.process_time() - used,
        "lasted_s": time.monotonic() - began,
    }


def main() -> None:
    """Print what was measured, or why it cannot be."""
    asked = json.loads(sys.argv[1])
    try:
        found = measure(Memory(asked["pid"], asked["started"], asked["bytes"]), asked)
    except NotReadableError as error:
        found = {"why": str(error), "forbidden": error.forbidden}
    except OSError as error:
        if error.errno not in (errno.EIO, errno.ESRCH):
            raise
        found = {"why": f"the guest's memory cannot be read: {error.strerror}"}
    print(json.dumps(found))
