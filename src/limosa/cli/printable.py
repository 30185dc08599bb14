"""Text as a terminal shows it: what a guest wrote must not command it, and sentences are broken between words."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap

_SEQUENCES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])?"
)
"""Control sequences by ECMA-48: CSI, OSC, the other strings, and those of two characters; whole or cut short."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What is left of C0, DEL and C1, but for tab and line feed."""


def printable(text: str) -> str:
    """*text* without control sequences and control characters; tabs and line feeds stay."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", text))


def print_sentence(label: str, text: str) -> None:
    """``label: text`` on standard output: on a terminal broken between words, elsewhere in one line."""
    line = f"{label}: {printable(text)}"
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    print(line)
