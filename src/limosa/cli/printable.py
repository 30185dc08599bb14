"""Text as a terminal shows it: what others wrote must not command it, and sentences are broken between words.

Rule: whatever a command prints goes through ``printable``: ``guard`` stands before both streams, and Rich, whose own
sequences have to pass it (``raw``), is given printable text.
"""

from __future__ import annotations

import re
import sys
from typing import Any, TextIO

_SEQUENCES = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])?"
"""Control sequences by ECMA-48: CSI, OSC, the other strings, and those of two characters; whole or cut short."""

_CONTROLS = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
"""What is left of C0, DEL and C1, but for tab and line feed; and what turns the direction of text round, by which a
line shows other words than it has (Unicode Standard Annex 9)."""


def printable(text: str) -> str:
    """*text* without control sequences and control characters; tabs and line feeds stay."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text  # as nearly all is: most commands never compile the expressions, which takes 1 ms
    # Parts of file names that are not UTF-8 cannot be written as they are.
    return re.sub(_CONTROLS, "", re.sub(_SEQUENCES, "", text)).encode(errors="backslashreplace").decode()


def escaped(document: str) -> str:
    """A JSON *document* in which a terminal finds nothing to obey either, and a reader every character."""
    return re.sub(_CONTROLS, lambda found: f"\\u{ord(found[0]):04x}", document)


def print_sentence(label: str, text: str) -> None:
    """``label: text``, broken as ``print_prose`` does."""
    print_prose(f"{label}: {text}", then="  ")


def print_prose(text: str, indent: str = "", then: str = "") -> None:
    """*text* on standard output, on a terminal broken between words, further lines after *then*; elsewhere in one line.

    Not for what is to be copied: a command stays whole when the terminal itself breaks its line.
    """
    line = indent + printable(text)
    if sys.stdout.isatty():
        import shutil
        import textwrap

        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, subsequent_indent=then, break_long_words=False, break_on_hyphens=False)
    print(line)


class UnprintedError(OSError):
    """What a command prints was not taken by who reads it."""


class _Guarded:
    """A text stream that writes nothing but printable text; all else of it is as it was."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write *text* without what would command a terminal."""
        try:
            self.stream.write(printable(text))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UnprintedError(error.errno, error.strerror) from error
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write all of *lines*."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def guard() -> None:
    """From now on let only printable text through to standard output and standard error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Guarded):
            setattr(sys, name, _Guarded(stream))


def raw(stream: TextIO) -> TextIO:
    """The stream behind the guard, for those who draw, and take care of what they draw."""
    return stream.stream if isinstance(stream, _Guarded) else stream
