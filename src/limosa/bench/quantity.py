"""Quantities for people: a value in the unit that fits its size, with three or four digits."""

from __future__ import annotations

from limosa.results.statistics import Estimate
from limosa.results.summary_tables import NO_READING
from limosa.units import format_number


def interval(estimate: Estimate, unit: str) -> str:
    """``3400 to 3460 events/s``, or a dash when there is none."""
    if estimate.low is None or estimate.high is None:
        return NO_READING
    low, high = quantity(estimate.low, unit), quantity(estimate.high, unit)
    same = scale(unit, estimate.low)[0] == scale(unit, estimate.high)[0]
    return f"{low.partition(' ')[0] if same else low} to {high}"


_SCALES = {
    "bit/s": (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3), ("bit/s", 1.0)),
    "bytes/s": (("MiB/s", 2.0**20), ("KiB/s", 2.0**10), ("B/s", 1.0)),
    "s": (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)),
    "share": (("%", 0.01),),
}


def scale(unit: str, value: float) -> tuple[str, float]:
    """The unit to show a *value* of *unit* in, and how many of *unit* that is."""
    scales = _SCALES.get(unit, ((unit, 1.0),))
    return next(((name, factor) for name, factor in scales if abs(value) >= factor), scales[-1])


def quantity(value: float, unit: str) -> str:
    """A value for people, with three or four digits: ``940 Mbit/s``."""
    name, factor = scale(unit, value)
    return f"{format_number(value / factor)} {name}".strip()
