"""Text from guests and from QEMU as it may be printed: what a guest wrote must not command the reader's terminal."""

from __future__ import annotations

import re

_SEQUENCES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])?"
)
"""Control sequences by ECMA-48: CSI, OSC, the other strings, and those of two characters; whole or cut short."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What is left of C0, DEL and C1, but for tab and line feed."""


def printable(text: str) -> str:
    """*text* without control sequences and control characters; tabs and line feeds stay."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", text))
