from __future__ import annotations

import pytest

from limosa.guest.bare import (
    Failed,
    Fault,
    Lost,
    Pass,
    Primes,
    Ready,
    Report,
    SerialReader,
    Status,
    Stopped,
    Unread,
    Verified,
    parse,
)

LINES: list[tuple[str, Report]] = [
    (
        "bare: ready mode=write memory_mib=64 lines=64 report=16 limit=0",
        Ready(mode="write", memory_mib=64, lines=64, report=16, limit=0),
    ),
    ("bare: pass 17 page=16384 lost=2 tsc=99", Pass(number=17, pages=16384, lost=2, tsc=99)),
    (
        "bare: verified pages=16384 pass=17 lost=1 total=3",
        Verified(pages=16384, number=17, lost=1, lost_total=3),
    ),
    (
        "bare: LOST page=12 line=3 word=0 expected=16 found=14",
        Lost(page=12, line=3, word=0, expected=16, found=14),
    ),
    ("bare: events=100 primes=1228 tsc=7", Primes(events=100, primes=1228, tsc=7)),
    ("bare: status mode=write pass=3 page=9 lost=0 tsc=1", Status(Pass(3, 9, 0, 1))),
    ("bare: status mode=primes events=16 primes=1228 tsc=1", Status(Primes(16, 1228, 1))),
    (
        "bare: FAULT vector=14 error=0x6 instruction=0x1005d0 address=0xdead",
        Fault(vector=14, error=6, instruction=0x1005D0, address=0xDEAD),
    ),
    (
        "bare: error the working set is larger than the memory",
        Failed("the working set is larger than the memory"),
    ),
    ("bare: stopped", Stopped()),
]


@pytest.mark.parametrize(("line", "report"), LINES)
def test_each_line(line: str, report: Report) -> None:
    assert parse(line + "\n") == (report,)
    assert parse(line + "\r\n") == (report,)


def test_last_line_without_its_end_is_left_out() -> None:
    assert parse("bare: stopped\nbare: pass 17 page=16384 lost=0 tsc=1") == (Stopped(),)


def test_other_lines_are_left_out() -> None:
    assert parse("SeaBIOS (version 1.16)\n\nbare: stopped\n") == (Stopped(),)


@pytest.mark.parametrize("line", ["bare: pass seventeen", "bare: pabare: stopped", "\x00bare: stopped"])
def test_damaged_lines_are_never_good_news(line: str) -> None:
    assert parse(line + "\n") == (Unread(line),)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_reader_joins_pieces(size: int) -> None:
    data = "".join(line + "\n" for line, _ in LINES).encode()
    reader = SerialReader()
    reports: list[Report] = []
    for start in range(0, len(data), size):
        reports += reader.feed(data[start : start + size])
    assert reports == [report for _, report in LINES]
