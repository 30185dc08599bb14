"""Figures as a reader sees them, on a page, on paper and in a terminal: value and unit, three or four digits.

Numbers, sizes and rates are written by ``limosa.units``; here is what a reader of results needs beside.
"""

from __future__ import annotations

from datetime import UTC, datetime

from limosa.results.metrics import Quantity, Reading
from limosa.units import format_bytes, format_bytes_per_s

NONE = "–"
DIGITS = 3
"""That count, of a size or a rate."""


def spelt(quantity: Quantity, reading: Reading) -> str:
    """A metric's reading, its unit with it."""
    if reading is None:
        return NONE
    match quantity:
        case "pause":
            return milliseconds(reading)
        case "span":
            return seconds(reading)
        case "size":
            return format_bytes(reading, DIGITS)
        case "rate":
            return format_bytes_per_s(reading, DIGITS)
        case "count":
            return str(reading)
        case "speed":
            return f"{reading:,.0f}/s"


def milliseconds(value_ms: float | None) -> str:
    """*value_ms* in ms below 10 s, in s above."""
    if value_ms is None:
        return NONE
    if value_ms >= 10_000:
        return f"{value_ms / 1000:.1f} s"
    return f"{value_ms:,.0f} ms" if value_ms >= 100 else f"{value_ms:.1f} ms"


def rounded(value_ms: float) -> str:
    """*value_ms* for a sentence: whole ms from 10 ms up."""
    return f"{value_ms:,.0f} ms" if 10 <= value_ms < 10_000 else milliseconds(value_ms)


def seconds(value_ms: float | None) -> str:
    """*value_ms* in seconds with two decimals below 100 s."""
    if value_ms is None:
        return NONE
    return f"{value_ms / 1000:.2f} s" if value_ms < 100_000 else f"{value_ms / 1000:.0f} s"


def size(value_bytes: float | None) -> str:
    """*value_bytes* in the unit that fits."""
    return NONE if value_bytes is None else format_bytes(value_bytes, DIGITS)


def percent(share: float | None) -> str:
    """A share of 0 to 1 in percent."""
    return NONE if share is None else f"{share * 100:.1f} %"


def moment(time_ns: int) -> str:
    """*time_ns* as date and time, UTC."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%d %B %Y, %H:%M UTC").lstrip("0")


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 move``, ``2 moves``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
