"""What a bench is to the rest of the house: a row of ``limosa.bench.benches``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from limosa.results.account import Account
from limosa.results.store import RunDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A bench in the handout: the command that a reader types to have it again."""

    name: str
    title: str
    words: tuple[str, ...]
    """Without the word limosa."""
    quick: tuple[str, ...]
    """Further words for the short version."""
    installs: bool = False
    """Whether the command installs what it needs, and takes ``--no-install``."""
    document: str = ""
    """The source document's own figures, shown whether ours could be measured or not; empty: it has none."""


class Entry:
    """One bench. Plain functions, so that a bench needs no more than its own folder."""

    def __init__(
        self,
        *,
        name: str,
        purpose: str,
        kind: str,
        file: str,
        account: Callable[[RunDirectory], Account],
        chapters: tuple[Chapter, ...] = (),
    ) -> None:
        self.name = name
        self.purpose = purpose
        """What it is for, one line."""
        self.kind = kind
        """Of its runs."""
        self.file = file
        """What a run has as soon as there is anything to tell."""
        self.account = account
        """Reads a run, compares, and tells. Raises LimosaError for a damaged run."""
        self.chapters = chapters
