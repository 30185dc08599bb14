"""Whether a QEMU's emulator is known to lose no write when it moves a guest of any memory size: by trial, remembered.

The verdict is kept under the binary's identity and the machine that it runs on, as what the binary offers is.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from limosa import remembered
from limosa.qemu.features import Features

FORMAT = 1
"""Raised when the trial changes, so that an older verdict is not read."""

UNCLEAR_LASTS_S = 86400.0
"""A trial that showed nothing is repeated after a day: the machine may only have been busy."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial showed. ``reason`` is one plain clause."""

    sound: bool
    reason: str
    clear: bool = True
    """Whether it showed anything; a QEMU of which nothing was shown is not taken to be sound."""
    tried_at_s: float
    """Unix time."""


def recall(qemu: Features, cache: Path | None = None) -> Verdict | None:
    """What is remembered of *qemu* where it was asked what it offers; None: it was not tried there."""
    known = remembered.read(_kept(qemu, cache), Verdict)
    if known is not None and not known.clear and time.time() - known.tried_at_s > UNCLEAR_LASTS_S:
        return None
    return known


def remember(qemu: Features, verdict: Verdict, cache: Path | None = None) -> None:
    """Keep *verdict* for the next time."""
    remembered.write(_kept(qemu, cache), verdict)


def _kept(qemu: Features, cache: Path | None) -> Path:
    return remembered.place("dirty-log", remembered.key(str(FORMAT), qemu.asked_on, qemu.identity), cache)
