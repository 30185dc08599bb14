"""Whether the slow tests are wanted."""

from __future__ import annotations

import os

VARIABLE = "LIMOSA_SLOW"


def wanted() -> bool:
    """By ``./limosa test --slow``, which sets the variable, or by the variable itself."""
    return os.environ.get(VARIABLE, "0") not in ("", "0")
