"""Which pages of another process change: a real one, which says itself what it wrote."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limosa.prediction import memory_look, page_program
from limosa.prediction.memory_look import NotRead
from limosa.prediction.page_program import LEAST_PAGES, PAGE_BYTES, Group, Memory, NotReadableError, place
from limosa.prediction.sampled_pages import Sample
from limosa.qemu.launches import Running
from tests.local_host import LocalHost

PAGES = 8192
SIZE = PAGES * PAGE_BYTES
WRITER = Path(__file__).parents[1] / "page_writer.py"


class Writer:
    """The process, and what it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, WRITER, str(SIZE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.answer() == "ready"

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def told(self, line: str) -> Any:
        self.tell(line)
        return self.answer()

    @property
    def started(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[19])

    def memory(self) -> Memory:
        return Memory(self.process.pid, self.started, SIZE)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.end()


def off(seen: float, share: float, pages: int) -> float:
    """In standard errors of a sample."""
    return abs(seen - share) / math.sqrt(share * (1 - share) / pages)


def test_a_sample_sees_the_share_that_was_written(writer: Writer) -> None:
    """In lockstep: the pages are drawn by seeds, so it comes out the same each time."""
    memory, pages = writer.memory(), 1024
    for seed, count in ((1, 100), (2, 1000), (3, 4000)):
        group = Group(memory, pages, random.Random(seed))
        group.begin()
        distinct = writer.told(f"once {seed} {count} 4096")
        group.look()
        [(_, dirtied, zeros)] = group.windows
        assert off(dirtied / pages, distinct / PAGES, pages) < 3 and zeros == 0


def test_what_changed_stays_counted_and_what_did_not_change_is_not(writer: Writer) -> None:
    writer.told("once 1 8192 8192")
    group = Group(writer.memory(), PAGES, random.Random(1))
    group.begin()
    group.look()
    first = writer.told("once 2 500 8192")
    group.look()
    group.look()
    assert [dirtied for _, dirtied, _ in group.windows] == [0, first, first], "all pages are in the sample"


def test_zeros(writer: Writer) -> None:
    """Pages that were never touched hold zeros, and are not touched for it."""
    group = Group(writer.memory(), PAGES, random.Random(1))
    before = resident(writer)
    group.begin()
    assert group.zeros == PAGES and resident(writer) == before
    written = writer.told("once 1 3000 4096")
    group.look()
    assert group.windows[-1][1:] == (written, 0)
    again = Group(writer.memory(), PAGES, random.Random(1))
    again.begin()
    writer.told("zero 4096")
    again.look()
    assert again.zeros == PAGES - written
    assert again.windows[-1][1:] == (written, written)


def resident(writer: Writer) -> int:
    return int(Path(f"/proc/{writer.process.pid}/statm").read_text().split()[1])


def test_a_process_that_goes_on_writing(writer: Writer) -> None:
    """Each window's share lies between those of the least and the most that was written in any window so long."""
    asked = {
        "windows_s": [0.02, 0.05, 0.1],
        "groups": 6,
        "pages": 1024,
        "spread_s": 0.2,
        "cpu_s": 10.0,
        "cpu_share": 9.0,
        "seed": 1,
    }
    memory = writer.memory()
    writer.tell("run 5 1024")
    found = page_program.measure(memory, asked)
    written = writer.told("")
    assert len(written) > 100
    for at in range(3):
        windows = [group["windows"][at] for group in found["groups"]]
        pages = sum(group["pages"] for group in found["groups"])
        seen = sum(dirtied for _, dirtied, _ in windows) / pages
        least = min(distinct(written, min(window[0] for window in windows)))
        most = max(distinct(written, max(window[0] for window in windows)))
        error = 4 * math.sqrt(most / PAGES / pages)
        assert least / PAGES - error <= seen <= most / PAGES + error


def distinct(written: list[tuple[float, int]], t_s: float) -> list[int]:
    """How many pages were written in each window of *t_s* within the time of writing."""
    moments = [moment for moment, _ in written]
    last = bisect_left(moments, moments[-1] - t_s)
    ends = [bisect_left(moments, moments[first] + t_s) for first in range(last)]
    return [len({page for _, page in written[first:end]}) for first, end in enumerate(ends)] or [0]


@pytest.mark.parametrize("bound", [{"cpu_s": 1e-6}, {"cpu_share": 1e-9}])
def test_time_that_is_short_samples_few_pages(writer: Writer, bound: dict[str, float]) -> None:
    asked = {"windows_s": [0.01, 0.02], "groups": 5, "pages": 1024, "spread_s": 0.05, "cpu_s": 9.0, "cpu_share": 9.0,
             "seed": 1} | bound  # fmt: skip
    first, *others = page_program.measure(writer.memory(), asked)["groups"]
    assert first["pages"] == 4 * LEAST_PAGES
    assert {group["pages"] for group in others} == {LEAST_PAGES}


def test_a_group_takes_a_page_of_each_stratum(writer: Writer) -> None:
    group = Group(writer.memory(), 128, random.Random(1))
    assert [page * 128 // PAGES for page in group.pages] == list(range(128))
    assert len(Group(writer.memory(), 10 * PAGES, random.Random(1)).pages) == PAGES


MAPS = """\
7f0000000000-7f0000010000 rw-p 00000000 00:00 0
7f0000010000-7f0008012000 rw-p 00000000 00:00 0
7f0008012000-7f0008013000 ---p 00000000 00:00 0
7f0010000000-7f0018002000 rwxp 00000000 00:00 0
7f0020000000-7f0028002000 r--s 00000000 00:01 3 /memfd:a name with spaces (deleted)
"""


def test_where_memory_is() -> None:
    assert place(MAPS, 0x8002000) == 0x7F0000010000
    shared = MAPS.replace("r--s", "rw-s").replace("0010000-7f0008012000 rw-p", "0010000-7f0008012000 r--p")
    assert place(shared, 0x8002000) == 0x7F0020000000
    with pytest.raises(NotReadableError, match="no mapping is 4096 bytes large"):
        place("", 4096)
    with pytest.raises(NotReadableError, match="2 mappings are"):
        place(MAPS.replace("r--s", "rw-s"), 0x8002000)


async def read(writer: Writer, *, started: int) -> NotRead:
    found = await memory_look.read(LocalHost(), Running("", writer.process.pid, started), SIZE)
    assert isinstance(found, NotRead)
    return found


async def test_another_process_by_that_number_is_not_read(writer: Writer) -> None:
    assert "is not the guest's QEMU any more" in (await read(writer, started=writer.started + 1)).why


async def test_a_process_that_is_gone(writer: Writer) -> None:
    started = writer.started
    writer.end()
    assert (await read(writer, started=started)).why == f"process {writer.process.pid} is gone"


def test_a_process_that_ends_meanwhile(writer: Writer) -> None:
    group = Group(writer.memory(), 100, random.Random(1))
    writer.told("once 1 8192 8192")
    group.begin()
    writer.end()
    with pytest.raises(NotReadableError, match="has ended"):
        group.look()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's process: only root can become another user")
def test_another_user_s_process(writer: Writer) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(NotReadableError, match="may not be read: it is another user's") as caught:
            writer.memory()
    finally:
        os.seteuid(0)
    assert caught.value.forbidden


async def test_where_a_user_may_not_root_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what root is told is what is told."""
    asked: list[bool] = []

    async def looked(*_: object, as_root: bool) -> Sample:
        asked.append(as_root)
        return Sample(why="root's" if as_root else "user's", forbidden=True)

    monkeypatch.setattr(memory_look, "_looked", looked)
    assert await memory_look.read(LocalHost(), Running("", 1, 1), SIZE) == NotRead("root's")
    assert asked == [False, True]
