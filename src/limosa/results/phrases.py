"""How the benches' sentences say a figure (shares, ratios with their intervals), and whether a ratio bears one."""

from __future__ import annotations

from collections.abc import Sequence

from limosa.results.statistics import Estimate
from limosa.units import format_number

WIDE = 0.10
"""Half an interval of a ratio: beyond it, a tenth more or less cannot be told."""


def above(ratio: Estimate) -> bool:
    """Above 1 by more than chance; without an interval, by more than a tenth."""
    return ratio.low > 1 if ratio.low is not None else ratio.value > 1 / 0.9


def below(ratio: Estimate) -> bool:
    """Below 1 by more than chance; without an interval, by more than a tenth."""
    return ratio.high < 1 if ratio.high is not None else ratio.value < 0.9


def unlike(ratio: Estimate) -> bool:
    """Known too badly to say "the same"."""
    return ratio.low is None or ratio.high is None or (ratio.high - ratio.low) / 2 > WIDE


def roughly(ratio: Estimate) -> str:
    """``roughly `` before a ratio that is not known to a tenth of itself, else nothing."""
    known = ratio.low is not None and ratio.high is not None and (ratio.high - ratio.low) / 2 <= WIDE * abs(ratio.value)
    return "" if known else "roughly "


def percent(share: float) -> str:
    """``16 %``, ``2.3 %``: two digits are all that such a share is known to."""
    value = share * 100
    return f"{value:.0f} %" if abs(value) >= 10 or value == round(value) else f"{value:.1f} %"


def times(ratio: Estimate) -> str:
    """``0.113 times (95 % interval 0.108 to 0.129)``."""
    return f"{format_number(ratio.value)} times ({interval(ratio)})"


def interval(ratio: Estimate) -> str:
    """``95 % interval 0.108 to 0.129``; without one it is said."""
    if ratio.low is None or ratio.high is None:
        return "no interval"
    return f"95 % interval {format_number(ratio.low)} to {format_number(ratio.high)}"


def listed(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a; b; and c``: the parts have commas of their own."""
    if len(parts) < 3:
        return " and ".join(parts)
    return f"{'; '.join(parts[:-1])}; and {parts[-1]}"


def sentence(text: str) -> str:
    """*text* begun with a capital and ended with a full stop."""
    return f"{capital(text)}{'' if text.endswith('.') else '.'}"


def capital(text: str) -> str:
    """*text* begun with a capital."""
    return f"{text[:1].upper()}{text[1:]}"
