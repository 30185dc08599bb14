"""The pages of help: headings in bold on a terminal, lines broken between words. Imports nothing that a fast start
would wait for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

TYPE_CHECKING = False  # importing it from typing would take as long as all else here
if TYPE_CHECKING:
    from limosa.cli.declared import Parameter

WIDEST = 100
_NARROWEST = 40
_NAME_WIDTH = 26
"""Longer names have a line of their own."""

Row = tuple[str, str]
"""A name, and what is said of it."""


def page(usage: str, about: Iterable[str], parts: Sequence[tuple[str, Sequence[Row]]], end: str = "") -> str:
    """A page of help: the paragraphs *about* what it is of, then each part's heading and rows."""
    width = _width()
    lines = [f"{_bold('Usage:')} {usage}", ""]
    for paragraph in about:
        lines += [*wrapped(paragraph, width, "  "), ""]
    for heading, rows in parts:
        lengths = [len(name) for name, _ in rows]
        column = max((length for length in lengths if length <= _NAME_WIDTH), default=_NAME_WIDTH) + 4
        lines.append(_bold(f"{heading}:"))
        for name, said in rows:
            first, *more = wrapped(said, width, " " * column) or [""]
            if len(name) + 4 <= column:
                lines.append(f"  {name}".ljust(column) + first[column:])
            else:
                lines += [f"  {name}", first]
            lines += more
        lines.append("")
    return "\n".join([*lines, *wrapped(end, width, "  ")]).rstrip() + "\n"


def wrapped(text: str, width: int, indent: str) -> list[str]:
    """*text* in lines of at most *width*, each indented; a word that is longer stands alone."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return lines


def _width() -> int:
    try:
        columns = int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size().columns
    except (OSError, ValueError):
        columns = 80
    return min(max(columns, _NARROWEST), WIDEST)


def _bold(text: str) -> str:
    terminal = sys.stdout.isatty() and sys.stderr.isatty()  # a page may go to either
    plain = not terminal or os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ
    return text if plain else f"\x1b[1m{text}\x1b[0m"


def verb_page(path: str, about: str, takes: Sequence[Parameter], verbs: Mapping[str, str]) -> str:
    """The page of one verb, whose function says *about* in its docstring; *verbs* are those behind it."""
    from limosa.cli.words import usage

    paragraphs = [" ".join(each.split()) for each in about.split("\n\n")]
    arguments = [(each.metavar, each.told) for each in takes if not each.names]
    options = [(written(each), each.told) for each in takes if each.names]
    parts = [("Verbs", [*verbs.items()])] if verbs else []
    parts += [("Arguments", arguments)] if arguments else []
    words = usage(path, takes) + (f", or {path} VERB ..." if verbs else "")
    return page(words, paragraphs, [*parts, ("Options", [*options, ("-h, --help", "Show this page.")])])


def written(option: Parameter) -> str:
    """An option as help shows it: its names, and what stands for its value."""
    return f"{', '.join((*option.names, *option.noes))} {option.metavar}".rstrip()
