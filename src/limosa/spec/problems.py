"""What is wrong with a lab file: collected first and raised as one error, so that one reading names all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NoReturn

import msgspec

from limosa import paths
from limosa.errors import SpecError

Location = tuple[str | int, ...]
"""Where a value stands: ``("guests", "guest1", "memory")``."""


def _see_also() -> str:
    return f"{paths.document('lab-file.md')} describes every key; `limosa schema` prints them for an editor"


MOST_SHOWN = 20
"""Problems that are told of one file; who has mended those sees the next."""

MOST_LISTED = 24
"""Names in one list."""

_LONG_WORD = re.compile(r"\S{300,}")


class Problem(msgspec.Struct, frozen=True):
    """One fault, its place, and the way out."""

    line: int | None
    location: Location
    message: str
    hint: str = ""

    @property
    def key(self) -> str:
        """The location as people write it: ``guests.guest1.memory``."""
        return key_text(self.location)

    @property
    def sentence(self) -> str:
        """The key and what is wrong with it; of a value without end only its beginning."""
        text = f"{self.key}: {self.message}" if self.location else self.message
        return _LONG_WORD.sub(lambda word: f"{word[0][:60]}...{word[0][-1]}", text)


def key_text(location: Location) -> str:
    """``("hosts", "host1", "qemu_firmware", 0)`` as ``hosts.host1.qemu_firmware[0]``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            # A quoted key may hold anything, also what a terminal would obey.
            text += ("." if text else "") + (part if part.isprintable() else repr(part))
    return text


def raise_all(problems: Sequence[Problem], file: str) -> NoReturn:
    """Raise one SpecError for all of *problems*, one on each line, in the order of the file.

    ``line`` and ``key`` are those of the first; with several problems, every line carries its own hint.
    """
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    first = ordered[0]
    if len(ordered) == 1:
        message, hint = first.sentence, first.hint or _see_also()
    else:
        lines = [_one_line(problem, file) for problem in ordered[:MOST_SHOWN]]
        if len(ordered) > MOST_SHOWN:
            lines.append(f"and {len(ordered) - MOST_SHOWN} more problems")
        # SpecError puts the first place before the message by itself.
        lines[0] = lines[0].removeprefix(_place(first, file))
        message, hint = "\n".join(lines), _see_also()
    error = SpecError(message, hint=hint, file=file, line=first.line, key=first.key)
    error.problems = tuple((each.line, each.key, each.message, each.hint) for each in ordered if each.message)
    raise error


def _place(problem: Problem, file: str) -> str:
    return f"{file}:{problem.line}: " if problem.line else f"{file}: "


def _one_line(problem: Problem, file: str) -> str:
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{_place(problem, file)}{problem.sentence}{hint}"


def nearest(name: str, valid: Iterable[str]) -> str:
    """``, did you mean 'memory'?`` when one of *valid* is near to *name*, else nothing."""
    import difflib

    by_lower = {candidate.lower(): candidate for candidate in valid}
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f", did you mean {by_lower[found[0]]!r}?" if found else ""


def listed(names: Iterable[str], last_word: str = "and") -> str:
    """``'a', 'b' and 'c'``."""
    quoted = [repr(name) for name in names]
    if len(quoted) > MOST_LISTED:
        return f"{', '.join(quoted[:MOST_LISTED])} {last_word} {len(quoted) - MOST_LISTED} more"
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} {last_word} {quoted[-1]}"


def found(value: object) -> str:
    """What *value* is, in words for an error."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return repr(value)
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return type(value).__name__
