"""The parts of the recipe, and what is recorded of them; figures stay in the parts' own runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from limosa.results.store import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    """How one part ended."""

    name: str
    title: str
    command: list[str] = field(default_factory=list)
    """Without the word limosa; empty for the lab itself."""
    status: Literal["done", "failed"] = "done"
    reason: str = ""
    run: str = ""
    """Its run directory; empty: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Homework:
    """``homework.json`` in the run directory of the lab: everything else is read from the parts' own runs."""

    format: int = 1
    quick: bool
    lab: str = ""
    """The lab file, where it is one of the student's own."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""
    explained: list[tuple[str, str]] = field(default_factory=list)
    """The guest's command line, option by option, with its purpose."""
    shown: list[tuple[str, str, str]] = field(default_factory=list)
    """(host, command line, what it printed)"""
    parts: list[PartResult] = field(default_factory=list)


HOMEWORK = Document("homework.json", Homework)
