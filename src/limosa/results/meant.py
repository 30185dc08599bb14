"""Which run is meant by what a person says: its id, the beginning of one, a path, or ``latest``.

That is the last which holds what a verb shows: the one place for it. A run that was named is taken whatever it holds,
and its verb says what is not there.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable
from pathlib import Path

from limosa import paths
from limosa.errors import LimosaError, SpecError, StateError
from limosa.results.format import EVENTS
from limosa.results.store import RUN, RunDirectory, all_runs

LATEST = "latest"
"""What a person says instead of a run's id, for the one that began last."""

_LISTS = ("migrations.json", "pauses.json", "load.json", "checks.json")
_LINES = ("repetitions.jsonl",)
_OTHERS = ("homework.json", "parts")
"""Files of results: lists, which may be empty, lines, and what is there when something is in it."""


class Holding:
    """Something that a run may hold: ``what`` names it, ``made_by`` says how to come by one that does."""

    def __init__(self, what: str, made_by: str, in_it: Callable[[RunDirectory], bool]) -> None:
        self.what, self.made_by, self.in_it = what, made_by, in_it


def _anything(run: RunDirectory) -> bool:
    lists = any(_bytes(run.path / name).strip() not in (b"", b"[]") for name in _LISTS)
    lines = any(_bytes(run.path / name) for name in _LINES)
    # The first line of a table is its heading.
    return (
        lists
        or lines
        or any(_bytes(table).count(b"\n") > 1 for table in run.samples.glob("*.csv"))
        or any((run.path / name).exists() for name in _OTHERS)
    )


def _migration(run: RunDirectory) -> bool:
    return b'"command":"migrate"' in _bytes(run.path / EVENTS)


def _of_kind(beginning: str) -> Callable[[RunDirectory], bool]:
    def test(run: RunDirectory) -> bool:
        return run.read(RUN).kind.startswith(beginning) and _anything(run)

    return test


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


SOMETHING = Holding("with anything measured in it", "limosa demo makes one", _anything)
MIGRATION = Holding("with a migration in it", "limosa demo makes one", _migration)
BENCH = Holding("of a bench", "limosa bench makes one", _of_kind("bench-"))
HOMEWORK = Holding("of a homework", "limosa homework makes one", _of_kind("homework"))


def latest(base: Path | None = None, holding: Holding = SOMETHING) -> RunDirectory:
    """The run that began last, of those that hold something; damaged ones are passed over.

    Raises StateError when there is none.
    """
    runs = all_runs(base)
    if not runs:
        raise StateError("there is no run yet", hint=holding.made_by)
    for path in reversed(runs):
        with contextlib.suppress(LimosaError):
            if holding.in_it(run := RunDirectory.open(path)):
                return run
    raise StateError(f"there is no run {holding.what}", hint=holding.made_by)


def find(wanted: str, base: Path | None = None, holding: Holding = SOMETHING) -> RunDirectory:
    """The run with this id, this beginning of an id, this path, or ``latest``: the last that holds that.

    Raises SpecError, with the nearest names, when there is none; StateError when there are no runs at all.
    """
    if wanted == LATEST:
        return latest(base, holding)
    if "/" in wanted or wanted in (".", ".."):
        if not Path(wanted).is_dir():
            raise SpecError(f"there is no directory {wanted}")
        return RunDirectory.open(Path(wanted))
    names = [path.name for path in all_runs(base)]
    begun = [name for name in names if name.startswith(wanted)]
    if wanted in names or len(begun) == 1:
        return RunDirectory.open((paths.runs() if base is None else base) / (wanted if wanted in names else begun[0]))
    if (Path(wanted) / RUN.file).is_file():
        return RunDirectory.open(Path(wanted))
    if not names:
        raise StateError(f"there is no run {wanted}, nor any other", hint="limosa demo makes one")
    near = begun[:3] or difflib.get_close_matches(wanted, [LATEST, *names], n=3, cutoff=0.4) or names[-3:]
    problem = f"{len(begun)} runs begin with {wanted}" if begun else f"there is no run {wanted}"
    raise SpecError(problem, hint=f"the nearest {'is' if len(near) == 1 else 'are'} {', '.join(near)}")
