"""Figures as a reader sees them: value and unit, three or four significant digits."""

from __future__ import annotations

from datetime import UTC, datetime

from limosa.results.metrics import Quantity, Reading

NONE = "–"


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
            return mebibytes(reading)
        case "rate":
            return mebibytes_per_s(reading)
        case "count":
            return str(reading)
        case "speed":
            return f"{reading:.0f}/s"


def milliseconds(value_ms: float | None) -> str:
    """*value_ms* in ms below 10 s, in s above."""
    if value_ms is None:
        return NONE
    if value_ms >= 10_000:
        return f"{value_ms / 1000:.1f} s"
    return f"{value_ms:.0f} ms" if value_ms >= 100 else f"{value_ms:.1f} ms"


def rounded(value_ms: float) -> str:
    """*value_ms* for a sentence: whole ms from 10 ms up."""
    return f"{value_ms:.0f} ms" if 10 <= value_ms < 10_000 else milliseconds(value_ms)


def seconds(value_ms: float | None) -> str:
    """*value_ms* in seconds with two decimals below 100 s."""
    if value_ms is None:
        return NONE
    return f"{value_ms / 1000:.2f} s" if value_ms < 100_000 else f"{value_ms / 1000:.0f} s"


def mebibytes(value_bytes: float | None) -> str:
    """*value_bytes* in MiB, or GiB from 10 GiB up."""
    if value_bytes is None:
        return NONE
    mib = value_bytes / 1024**2
    return f"{mib / 1024:.1f} GiB" if mib >= 10_240 else f"{mib:.0f} MiB" if mib >= 10 else f"{mib:.1f} MiB"


def mebibytes_per_s(value: float | None) -> str:
    """*value* bytes per second in MiB/s."""
    return NONE if value is None else f"{value / 1024**2:.0f} MiB/s"


def percent(share: float | None) -> str:
    """A share of 0 to 1 in percent."""
    return NONE if share is None else f"{share * 100:.1f} %"


def moment(time_ns: int) -> str:
    """*time_ns* as date and time, UTC."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%d %B %Y, %H:%M UTC").lstrip("0")


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 move``, ``2 moves``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
