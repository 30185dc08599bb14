"""Whether the slow tests are wanted, and how often a test that draws or repeats does so then."""

from __future__ import annotations

import os

VARIABLE = "LIMOSA_SLOW"


def wanted() -> bool:
    """By ``./limosa test --slow``, which sets the variable, or by the variable itself."""
    return os.environ.get(VARIABLE, "0") not in ("", "0")


def times(usual: int, slow: int) -> int:
    """How many repetitions: *slow* where time is given for it."""
    return slow if wanted() else usual
