"""What a bench is to the rest of the house: a row of ``limosa.bench.benches``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from limosa.bench.bed import Beds
from limosa.events import Events
from limosa.results.account import Account
from limosa.results.store import RunDirectory
from limosa.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting:
    """What a chapter's time is made of: seconds of measuring as its settings say, and the guests that are started."""

    whole_s: float
    quick_s: float
    guests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLab:
    """What a chapter that takes ``--lab`` asks of the lab's guest."""

    memory_bytes: int
    """It fills so much, if it is not told to fill less by ``--memory``."""
    loads: tuple[tuple[str, str], ...]
    """Its loads, as ``--load`` names them, and the program in the guest that makes each; empty: it takes none."""


SYSTEM_BYTES = 112 << 20
"""What the system of a small guest takes and the agent leaves it to spare: with the kernel of Debian 13 98 MiB."""


def fitted(own: OwnLab, memory_bytes: int, missing: Collection[str]) -> tuple[str, ...]:
    """The words that fit it to a guest with *memory_bytes*, without the programs that are *missing*: at most half of
    the memory is filled, less where its system needs more, and a load that cannot be made is left out."""
    most_bytes = max(min(memory_bytes // 2, memory_bytes - SYSTEM_BYTES), memory_bytes // 8)
    words = [] if own.memory_bytes <= most_bytes else ["--memory", format_bytes(most_bytes >> 20 << 20)]
    loads = [load for load, program in own.loads if program not in missing]
    if len(loads) < len(own.loads):
        words += [word for load in loads for word in ("--load", load)]
    return tuple(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A bench in the handout: the command that a reader types to have it again."""

    name: str
    title: str
    words: tuple[str, ...]
    """Without the word limosa."""
    quick: tuple[str, ...]
    """Further words for the short version."""
    lasts: Lasting
    own_lab: OwnLab | None = None
    """What it asks of a lab of the reader's own; None: it is measured on this machine alone."""
    installs: bool = False
    """Whether the command installs what it needs, and takes ``--no-install``."""
    document: str = ""
    """The source document's own figures, shown whether ours could be measured or not; empty: it has none."""


S = TypeVar("S")


class Entry(Generic[S]):
    """One bench. Plain functions, so that a bench needs no more than its own folder; ``S`` are its settings."""

    def __init__(
        self,
        *,
        name: str,
        purpose: str,
        kind: str,
        file: str,
        defaults: S,
        measure: Callable[[S, Beds, Events], Awaitable[RunDirectory]],
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
        self.defaults = defaults
        self.measure = measure
        """Makes its bed and fills a run. Raises SpecError for settings that cannot be."""
        self.account = account
        """Reads a run, compares, and tells. Raises LimosaError for a damaged run."""
        self.chapters = chapters
