"""Which line of what a program said tells why it failed: the last one rarely does."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LONGEST = 300
"""As many characters as a note can bear."""

_TELLING = re.compile(
    r"\b(?:error|fatal|failed|failure|cannot|can't|could not|unable|no such|no space|not found|not permitted|denied"
    r"|refused|unreachable|timed? ?out|bad address|untrusted|invalid|panic)\b",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"\b0 (?:errors?|failed|failures?)\b|\b(?:errors?|failed|failures?)[:=] ?0\b", re.IGNORECASE)
"""A program's account of what did not go wrong."""


def cause(text: str) -> str:
    """The first line of *text* that speaks of a fault, with the indented ones behind it; empty when none does.

    So say apk, mke2fs, tar and the shell: what is printed later are consequences and counts.
    """
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if _TELLING.search(_COUNTED.sub("", line)):
            return _joined(lines, number)
    return ""


def cause_or_last(text: str) -> str:
    """The same, else the last line; a sentence for a program that said nothing."""
    lines = text.strip().splitlines()
    return cause(text) or (lines[-1].strip()[:_LONGEST] if lines else "it said nothing")


def _joined(lines: Sequence[str], first: int) -> str:
    """A line and those that are indented deeper behind it, which are its particulars."""
    indent = len(lines[first]) - len(lines[first].lstrip())
    parts = [lines[first].strip()]
    for line in lines[first + 1 :]:
        if len(line) - len(line.lstrip()) <= indent:
            break
        parts.append(line.strip())
    whole = " ".join(parts)
    return whole if len(whole) <= _LONGEST else whole[: _LONGEST - 1] + "…"
