"""The benches there are, a row each. A bench is added by its folder and its row here."""

from __future__ import annotations

from typing import Any

from limosa.bench.cpu import CPU
from limosa.bench.disk import DISK
from limosa.bench.during import DURING_MIGRATION
from limosa.bench.entry import Chapter, Entry
from limosa.bench.network import NETWORK
from limosa.errors import StateError
from limosa.results import store
from limosa.results.account import Account
from limosa.results.store import RunDirectory

BENCHES: dict[str, Entry[Any]] = {entry.name: entry for entry in (CPU, NETWORK, DISK, DURING_MIGRATION)}
"""By name, in the order of the handout."""


def chapters() -> dict[str, Chapter]:
    """What the handout has of the benches, by name."""
    return {chapter.name: chapter for entry in BENCHES.values() for chapter in entry.chapters}


def account(run: RunDirectory) -> Account | None:
    """What there is to say of a run; None when it is no bench, or one that had not begun to measure.

    Raises LimosaError for a damaged one.
    """
    kind = run.read(store.RUN).kind
    entry = next((entry for entry in BENCHES.values() if entry.kind == kind), None)
    return entry.account(run) if entry is not None and (run.path / entry.file).is_file() else None


def told(run: RunDirectory) -> Account:
    """The same, where it has to be a bench. Raises StateError for another run."""
    found = account(run)
    if found is None:
        raise StateError(f"the run {run.id} is no bench", hint="limosa bench makes one")
    return found
