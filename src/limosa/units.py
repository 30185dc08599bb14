"""Quantities as people write them: sizes, rates and durations, parsed exactly and printed shortly.

Rule: a number without a unit is refused, and so is one whose unit can be read in two ways (``512M``).
Parsing is exact (decimals, no floats), so that what is printed in full reads back as the same number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

BYTES: Mapping[str, int] = {
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
"""Units of size, in bytes: IEC 80000-13 for powers of two, SI for powers of ten."""

BITS_PER_S: Mapping[str, int] = {
    "bit/s": 1,
    "kbit/s": 10**3,
    "Mbit/s": 10**6,
    "Gbit/s": 10**9,
    "Tbit/s": 10**12,
}
"""Units of a link's rate, in bits per second. Links are sold in powers of ten."""

SECONDS: Mapping[str, Decimal] = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "min": Decimal(60),
    "h": Decimal(3600),
}
"""Units of time, in seconds."""

_Factors = Mapping[str, int] | Mapping[str, Decimal]
_BYTES_PER_S: Mapping[str, int] = {f"{unit}/s": factor for unit, factor in BYTES.items()}

NUMBER_PATTERN = r"[0-9]{1,18}(?:\.[0-9]{1,18})?"
"""A quantity's number: no sign, no exponent. Eighteen digits hold an exbibyte."""

_QUANTITY = re.compile(rf"({NUMBER_PATTERN})[ \t]*([^\s0-9].*)?", re.DOTALL)
_MICRO = "μ"
"""GREEK SMALL LETTER MU, which looks like the micro sign that Unicode has beside it."""


def pattern(units: Mapping[str, object]) -> str:
    """A regular expression for the quantities that have one of *units*, as a JSON schema wants it."""
    longest_first = sorted(units, key=len, reverse=True)
    return f"^{NUMBER_PATTERN.replace('(?:', '(')} *({'|'.join(longest_first)})$"


def parse_bytes(text: str) -> int:
    """A size in bytes: ``512 MiB`` is 536870912. Raises ValueError."""
    return _whole(text, BYTES, "a size", "512 MiB")


def parse_bits_per_s(text: str) -> int:
    """A link's rate in bits per second: ``1 Gbit/s`` is 1000000000. Raises ValueError; 0 is not a rate."""
    try:
        rate_bits_per_s = _whole(text, BITS_PER_S, "a link rate", "1 Gbit/s")
    except ValueError:
        _refuse_bytes_per_s(text)
        raise
    if rate_bits_per_s == 0:
        raise ValueError("a link rate must be more than 0")
    return rate_bits_per_s


def parse_bytes_per_s(text: str) -> int:
    """A bandwidth in bytes per second, from bytes or bits: ``100 MiB/s``, ``1 Gbit/s``. Raises ValueError."""
    factors = {unit: Decimal(factor) for unit, factor in _BYTES_PER_S.items()}
    factors |= {unit: Decimal(bits) / 8 for unit, bits in BITS_PER_S.items()}
    bandwidth_bytes_per_s = int(_quantity(text, factors, "a bandwidth", "100 MiB/s"))
    if bandwidth_bytes_per_s == 0:
        # QEMU reads 0 as "no limit", the opposite of what such a number says.
        raise ValueError(f"{_quoted(text)} is too little: a bandwidth must be at least 1 B/s")
    return bandwidth_bytes_per_s


def parse_seconds(text: str) -> float:
    """A duration in seconds: ``300 ms`` is 0.3. Raises ValueError."""
    return float(_quantity(text.replace(_MICRO, "µ"), SECONDS, "a duration", "300 ms"))


def format_number(value: float, digits: int = 3) -> str:
    """*value* as a person writes it: *digits* that count, or all of a whole number, and never an exponent.

    ``1,234,567``, ``940``, ``16.7``, ``0.00123``.
    """
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def format_bytes(size_bytes: float, digits: int = 4) -> str:
    """A size in the largest binary unit that it fills: 536870912 is ``512 MiB``."""
    return _scaled(size_bytes, {unit: BYTES[unit] for unit in ("B", "KiB", "MiB", "GiB", "TiB")}, digits)


def format_rate(rate_bits_per_s: float) -> str:
    """A link's rate in the largest unit that it fills: 1000000000 is ``1 Gbit/s``."""
    return _scaled(rate_bits_per_s, BITS_PER_S)


def format_bytes_per_s(bandwidth_bytes_per_s: float, digits: int = 4) -> str:
    """A bandwidth in the largest binary unit that it fills: 104857600 is ``100 MiB/s``."""
    return f"{format_bytes(bandwidth_bytes_per_s, digits)}/s"


def format_duration(duration_s: float) -> str:
    """A duration in seconds for people: ``12.3 ms``, ``4.5 s``, ``2 min 5 s``."""
    if duration_s == 0:
        return "0 s"
    if abs(duration_s) < 59.95:
        return _scaled(duration_s, {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0})
    sign = "-" if duration_s < 0 else ""
    whole_s = round(abs(duration_s))
    hours, minutes, seconds = whole_s // 3600, whole_s // 60 % 60, whole_s % 60
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
    return sign + " ".join(f"{count} {unit}" for count, unit in parts if count)


def _quoted(text: str) -> str:
    """*text* in quotes, or its beginning."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _whole(text: str, factors: Mapping[str, int], what: str, example: str) -> int:
    value = _quantity(text, factors, what, example)
    if value != int(value):
        smallest = next(iter(factors))
        raise ValueError(f"{_quoted(text)} is not a whole number of {smallest}")
    return int(value)


def _quantity(text: str, factors: _Factors, what: str, example: str) -> Decimal:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{_quoted(text)} is not {what}, which is a number and a unit, for instance {example}")
    number, unit = match.group(1), (match.group(2) or "").strip()
    if unit in factors:
        return Decimal(number) * Decimal(factors[unit])
    known = ", ".join(factors)
    if not unit:
        raise ValueError(f"{_quoted(text)} has no unit, write for instance {example} (units: {known})")
    near = _nearest(number, unit, factors)
    raise ValueError(f"{_quoted(text)} has no unit known for {what}{near} (units: {known})")


def _nearest(number: str, unit: str, factors: Mapping[str, object]) -> str:
    """The way out for the usual slips: upper and lower case, ``512M``, ``1Gbps``."""
    spelt = unit.lower().replace("bps", "bit/s").replace("bits", "bit")
    spelt = {"u": "us", "sec": "s", "m": "min"}.get(spelt, spelt) if "ms" in factors else spelt
    endings = ("", "b", "ib", "bit/s", "b/s", "ib/s")
    found = [u for ending in endings for u in factors if u.lower() == spelt + ending]
    if not found:
        return ""
    # Binary units come first: 512M is read as 512 MiB by nearly everyone who writes it about memory.
    found.sort(key=lambda u: "i" not in u.replace("bit", ""))
    return f", did you mean {number} {found[0]}?"


def _refuse_bytes_per_s(text: str) -> None:
    try:
        rate = _quantity(text, _BYTES_PER_S, "", "")
    except ValueError:
        return
    raise ValueError(
        f"{_quoted(text)} is in bytes, a link rate is in bits per second: did you mean {format_rate(int(rate * 8))}?"
    )


def _scaled(value: float, factors: Mapping[str, float] | Mapping[str, int], digits: int = 4) -> str:
    """At most *digits* significant digits, or all of a whole number: 1000 MiB stays 1000 MiB."""
    units = sorted(factors.items(), key=lambda item: item[1])
    unit, factor = units[0]
    for larger, larger_factor in units[1:]:
        # What would be printed as 1024 KiB belongs to the next unit.
        if abs(value) < larger_factor * 0.99995:
            break
        unit, factor = larger, larger_factor
    scaled = value / factor
    return f"{format_number(scaled, digits).replace(',', '')} {unit}"
