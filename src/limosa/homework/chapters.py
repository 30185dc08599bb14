"""The parts of the recipe, and what is recorded of them; figures stay in the parts' own runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from limosa.results.store import Document
from limosa.spec.image_kinds import BARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A part of the recipe that is a command of limosa: what a reader types to have it again."""

    name: str
    title: str
    words: tuple[str, ...]
    quick: tuple[str, ...]
    """Further words for the short version."""


BENCHES: dict[str, Bench] = {
    bench.name: bench
    for bench in (
        Bench(
            name="cpu",
            title="CPU with and without KVM",
            words=("bench", "cpu"),
            quick=("--time", "2", "--repeat", "2"),
        ),
        Bench(
            name="cpu-bare",
            title="CPU with and without KVM, user mode alone",
            words=("bench", "cpu", "--guest", BARE.name),
            quick=("--time", "1", "--repeat", "2"),
        ),
        Bench(
            name="network",
            title="Network with and without virtio",
            words=("bench", "network"),
            quick=("--time", "2", "--repeat", "1"),
        ),
        Bench(
            name="during",
            title="CPU and network during a live migration",
            words=("bench", "during-migration", "--max-bandwidth", "64 MiB/s"),
            quick=("--before", "4 s", "--after", "5 s"),
        ),
    )
}
"""By name, in the order of the handout."""


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
    explained: list[tuple[str, str]] = field(default_factory=list)
    """The guest's command line, option by option, with its purpose."""
    shown: list[tuple[str, str, str]] = field(default_factory=list)
    """(host, command line, what it printed)"""
    parts: list[PartResult] = field(default_factory=list)


HOMEWORK = Document("homework.json", Homework)
