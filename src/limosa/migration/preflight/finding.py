"""What a check found of a move that has not begun."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from limosa import errors
from limosa.errors import LimosaError

Severity = Literal["error", "warning", "note"]
"""``error``: the move is refused. ``warning``: it goes on, and is worse for it. ``note``: what is good to know."""
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence, and what a person can do about it."""

    severity: Severity
    sentence: str
    fix: str = ""
    check: str = ""
    """The name of the check that found it."""
    refusal: str = ""
    """Of an error: which of limosa's errors the move is refused with."""

    @property
    def exit_code(self) -> int:
        """What the refused move exits with; 0 where it goes on."""
        return _kind(self.refusal).exit_code if self.severity == "error" else 0

    def error(self) -> LimosaError:
        """What the move is refused with."""
        return _kind(self.refusal)(self.sentence, hint=self.fix)


def _kind(name: str) -> type[LimosaError]:
    kind: Any = getattr(errors, name, LimosaError)
    return kind if isinstance(kind, type) and issubclass(kind, LimosaError) else LimosaError


def refuse(kind: type[LimosaError], sentence: str, fix: str = "") -> Finding:
    """The move must not begin: it is refused with an error of that *kind*."""
    return Finding(severity="error", sentence=sentence, fix=fix, refusal=kind.__name__)


def refused(error: LimosaError) -> Finding:
    """The move must not begin, for that very reason."""
    # Others take more than a sentence and a hint to make.
    plain = (errors.SpecError, errors.MachineError, errors.StateError, errors.BusyError, errors.DecisionError)
    return refuse(type(error) if isinstance(error, plain) else LimosaError, error.message, error.hint)


def warn(sentence: str, fix: str = "") -> Finding:
    """The move goes on, and is worse for it."""
    return Finding(severity="warning", sentence=sentence, fix=fix)


def note(sentence: str, fix: str = "") -> Finding:
    """Good to know."""
    return Finding(severity="note", sentence=sentence, fix=fix)


def first_error(findings: Iterable[Finding]) -> Finding | None:
    """What the move is refused with; None where it may begin."""
    return next((finding for finding in findings if finding.severity == "error"), None)
