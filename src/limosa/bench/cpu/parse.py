"""sysbench's prime search: its command line and what it prints. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from limosa.bench.repetitions import ROUNDING, with_rest
from limosa.errors import LimosaError

PRIME_LIMIT = 10_000
"""sysbench's own default, written out: one event counts the primes up to it."""

_SECOND = re.compile(r"^\[ \d+s \] thds: \d+ eps: ([0-9]+(?:\.[0-9]+)?)", re.MULTILINE)
_TOTAL = re.compile(r"^\s*total number of events:\s+([0-9]{1,18})$", re.MULTILINE)
_DURATION = re.compile(r"^\s*total time:\s+([0-9]+(?:\.[0-9]+)?)s$", re.MULTILINE)
_VERSION = re.compile(r"^sysbench (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Primes:
    """What one run counted. ``seconds`` ends with what was left of ``events`` after the last report."""

    version: str
    events: int
    duration_s: float
    seconds: tuple[float, ...]
    scale: float = 1.0
    """What the reports were multiplied by, so that they do not add up to more than ``events``."""

    @property
    def events_per_s(self) -> float:
        """The rate over the whole run."""
        return self.events / self.duration_s


def arguments(*, threads: int, time_s: int) -> tuple[str, ...]:
    """What follows the program's name."""
    return (
        "cpu",
        f"--cpu-max-prime={PRIME_LIMIT}",
        f"--threads={threads}",
        f"--time={time_s}",
        "--report-interval=1",
        "run",
    )


def parse(text: str) -> Primes:
    """The figures in *text*. Raises LimosaError when it is not sysbench's whole output, or contradicts itself."""
    total, duration = _TOTAL.search(text), _DURATION.search(text)
    if total is None or duration is None:
        last = text.strip().splitlines()[-1] if text.strip() else "nothing"
        raise LimosaError(f"sysbench did not end as it should; its last line: {last}")
    events, duration_s = int(total.group(1)), float(duration.group(1))
    found, rates = _VERSION.search(text), _numbers(text)
    version = found.group(1) if found else ""
    if len(rates) > duration_s + 1:
        raise LimosaError(f"sysbench reported {len(rates)} seconds in {duration_s:g} s")
    # A report is a rate over the time since the one before, and where the reporting thread had to wait for a CPU that
    # is no second: then the rates, taken for counts, can be more than there was.
    scale = events / sum(rates) if sum(rates) > (1 + ROUNDING) * events else 1.0
    seconds = with_rest([scale * rate for rate in rates], events)
    return Primes(version, events, duration_s, seconds, scale)


def _numbers(text: str) -> list[float]:
    return [float(number) for number in _SECOND.findall(text)]
