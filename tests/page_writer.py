"""A process with memory of a known size that writes to its pages as it is told, and says what it wrote.

``python page_writer.py BYTES``, then a line each: ``once SEED COUNT PAGES`` writes to COUNT pages, drawn from the first
PAGES with replacement, and prints how many of them were distinct; ``run SEED PAGES`` goes on writing so until the next
line, then prints each write: the moment in s (CLOCK_MONOTONIC) and the page; ``zero COUNT`` fills that many with zeros.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import select
import sys
import time

PAGE_BYTES = 4096


class Writer:
    """Pages of a file in memory, which the kernel joins to no other mapping."""

    def __init__(self, size: int) -> None:
        descriptor = os.memfd_create("ram")
        os.ftruncate(descriptor, size)
        self._memory, self._counter = mmap.mmap(descriptor, size), 0

    def write(self, page: int) -> None:
        """What was never there before."""
        self._counter += 1
        self._memory[page * PAGE_BYTES : page * PAGE_BYTES + 8] = self._counter.to_bytes(8, "little")

    def once(self, seed: int, count: int, pages: int) -> int:
        chance = random.Random(seed)
        drawn = [chance.randrange(pages) for _ in range(count)]
        for page in drawn:
            self.write(page)
        return len(set(drawn))

    def run(self, seed: int, pages: int) -> list[tuple[float, int]]:
        chance, written = random.Random(seed), list[tuple[float, int]]()
        while not select.select([sys.stdin], [], [], 0.0002)[0]:
            page = chance.randrange(pages)
            self.write(page)
            written.append((time.monotonic(), page))
        return written

    def zero(self, count: int) -> int:
        self._memory[: count * PAGE_BYTES] = bytes(count * PAGE_BYTES)
        return count


def main() -> None:
    """Obey until the end of the input."""
    writer = Writer(int(sys.argv[1]))
    print(json.dumps("ready"), flush=True)
    while line := os.read(0, 100).decode():
        if not line.strip():
            continue  # it ended a run
        verb, *numbers = line.split()
        print(json.dumps(getattr(writer, verb)(*map(int, numbers))), flush=True)


if __name__ == "__main__":
    main()
