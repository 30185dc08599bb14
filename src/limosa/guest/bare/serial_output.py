"""What the bare guest prints on its serial line, as frozen types. Pure.

A line counts once its end is there. The lines of one guest that moved are read from the logs of all its QEMUs
joined in the order of the moves: a line that a move cut in two is whole again in the joined text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ready:
    """The program runs in user mode. What does not belong to the mode is 0."""

    mode: str
    memory_mib: int
    lines: int
    report: int
    """Passes or events between two reports."""
    limit: int


@dataclass(frozen=True, slots=True)
class Pass:
    """Pass *number* (from 1) over all *pages* is complete; *lost* pages were found wrong so far."""

    number: int
    pages: int
    lost: int
    tsc: int
    """The processor's time stamp counter: under TCG and after a move, no measure of time."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Every page was looked at, in pass *number*: *lost* were wrong, *lost_total* is since the start."""

    pages: int
    number: int
    lost: int
    lost_total: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A page did not hold what was last written: *word* (8 bytes each) of *line* (64 bytes each) differs.

    Word 0 is the pass, word 1 the page's number, the others a pattern of both.
    """

    page: int
    line: int
    word: int
    expected: int
    found: int


@dataclass(frozen=True, slots=True)
class Primes:
    """*events* events since the start; each found *primes* primes."""

    events: int
    primes: int
    tsc: int


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to a status request: ``Pass`` (its pages are those done in the pass) or ``Primes``."""

    progress: Pass | Primes


@dataclass(frozen=True, slots=True)
class Fault:
    """The processor raised an exception, so the program stopped: a bug in it, or a damaged guest."""

    vector: int
    error: int
    instruction: int
    address: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The program refused to start, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The program ended as it was asked to."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A whole line of the program that nobody knows: never to be taken for good news."""

    text: str


Report = Ready | Pass | Verified | Lost | Primes | Status | Fault | Failed | Stopped | Unread

_N = r"([0-9]{1,20})"
_X = r"0x([0-9a-f]{1,16})"
"""Numbers of 64 bits; what is longer was never printed by the program."""


def _numbers(build: Callable[..., Report], base: int = 10) -> Callable[[re.Match[str]], Report]:
    return lambda match: build(*(int(group, base) for group in match.groups()))


def _status_pass(number: int, pages: int, lost: int, tsc: int) -> Status:
    return Status(Pass(number, pages, lost, tsc))


def _status_primes(events: int, primes: int, tsc: int) -> Status:
    return Status(Primes(events, primes, tsc))


_LINES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Report]], ...] = tuple(
    (re.compile(pattern), build)
    for pattern, build in (
        (rf"pass {_N} page={_N} lost={_N} tsc={_N}", _numbers(Pass)),
        (rf"events={_N} primes={_N} tsc={_N}", _numbers(Primes)),
        (rf"verified pages={_N} pass={_N} lost={_N} total={_N}", _numbers(Verified)),
        (rf"LOST page={_N} line={_N} word={_N} expected={_N} found={_N}", _numbers(Lost)),
        (rf"status mode=write pass={_N} page={_N} lost={_N} tsc={_N}", _numbers(_status_pass)),
        (rf"status mode=primes events={_N} primes={_N} tsc={_N}", _numbers(_status_primes)),
        (
            rf"ready mode=(write|primes) memory_mib={_N} lines={_N} report={_N} limit={_N}",
            lambda match: Ready(match[1], *(int(group) for group in match.groups()[1:])),
        ),
        (rf"FAULT vector={_N} error={_X} instruction={_X} address={_X}", lambda match: _fault(match)),
        (r"error (.+)", lambda match: Failed(match[1])),
        (r"stopped", lambda match: Stopped()),
    )
)


def _fault(match: re.Match[str]) -> Fault:
    return Fault(int(match[1]), *(int(group, 16) for group in match.groups()[1:]))


def _report(line: str) -> Report | None:
    """What one line says; None for a line of someone else's, such as firmware."""
    start, found, text = line.rstrip("\r").partition("bare: ")
    if not found:
        return None
    if not start:
        for pattern, build in _LINES:
            if match := pattern.fullmatch(text):
                return build(match)
    return Unread(line)


def parse(text: str) -> tuple[Report, ...]:
    """The reports in *text*, in order. A last line without its end is left out."""
    return tuple(report for line in text.split("\n")[:-1] if (report := _report(line)) is not None)


class SerialReader:
    """Reads the serial line as it comes, in pieces of any size; a line cut in two is joined."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> tuple[Report, ...]:
        """The reports that *data* completes."""
        whole, end, self._rest = (self._rest + data).rpartition(b"\n")
        return parse((whole + end).decode(errors="replace"))
