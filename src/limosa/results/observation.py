"""One move or calibration pause as it was observed: what every metric is derived from, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limosa.results.clocks import Window, separated
from limosa.results.format import Migration, Pause
from limosa.results.samples import Samples

BEFORE_NS = 10_000_000_000
"""CPU speed "before" a migration is that of at most this long before it, and after the migration before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A move or a pause with the run's samples, and where to look in them."""

    migration: Migration | None
    """None: a calibration pause."""
    window: Window
    """The pause, or all of the move when STOP or RESUME is not known (it failed, QEMU's event was missed, or another
    machine's clock tells of it): the clients' clocks then tell what they saw of it."""
    stopped: bool
    """Whether STOP and RESUME are known, by whatever clock."""
    before_ns: int
    """Since when the guest's speed counts as that of before."""
    samples: Samples


def observed_moves(migrations: Sequence[Migration], samples: Samples) -> list[Observation]:
    """Each migration, in order; none looks into its neighbours' pauses."""
    found, previous_ns = [], 0
    for migration, window in zip(migrations, separated([_window(m) for m in migrations]), strict=True):
        stopped = migration.stop_ns is not None and migration.resume_ns is not None
        before_ns = max(previous_ns, migration.started_ns - BEFORE_NS)
        found.append(
            Observation(migration=migration, window=window, stopped=stopped, before_ns=before_ns, samples=samples)
        )
        previous_ns = migration.ended_ns
    return found


def observed_pauses(pauses: Sequence[Pause], samples: Samples) -> list[Observation]:
    """Each calibration pause, in order."""
    windows = separated([Window.of_pause(pause.stop_ns, pause.resume_ns) for pause in pauses])
    return [Observation(migration=None, window=w, stopped=True, before_ns=w.stop_ns, samples=samples) for w in windows]


def _window(migration: Migration) -> Window:
    return Window.of_migration(*(migration.blackout or (migration.started_ns, migration.ended_ns)))
