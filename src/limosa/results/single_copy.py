"""Did one guest, and only one, run? Two copies of a guest send ticks with the same numbers at different times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limosa.probes.ticks import Ticks
from limosa.results.format import Check

REORDER_NS = 1_000_000_000
"""A datagram that lay in a shaped link's queue may be overtaken by this much; a second copy falls further behind."""


@dataclass(frozen=True, slots=True)
class CopyFindings:
    """What speaks for a second copy (the first three), and what does not."""

    conflicts: int
    """Sequence numbers that came with two different guest times: two guests sent them."""
    disorders: int
    """Ticks with a later number but an earlier (or the same) guest time than the tick before it."""
    rewinds: int
    """Ticks more than REORDER_NS of guest time behind one that had arrived before: an old state ran on."""
    doubled: int
    """Exact copies, made by the network: harmless."""
    overtaken: int
    """Ticks that arrived after a younger one: harmless."""
    lost: int
    """Numbers that never arrived."""

    @property
    def single(self) -> bool:
        """Whether nothing speaks for a second copy."""
        return not (self.conflicts or self.disorders or self.rewinds)


def find_copies(ticks: Ticks) -> CopyFindings:
    """Look through a whole run's ticks, in the order of arrival."""
    if len(ticks) < 2:
        return CopyFindings(0, 0, 0, 0, 0, 0)
    pairs = np.unique(np.stack([ticks.sequence, ticks.guest_monotonic_ns], axis=1), axis=0)
    same_number = np.diff(pairs[:, 0]) == 0
    disorders = (np.diff(pairs[:, 1]) <= 0) & ~same_number
    newest_ns = np.maximum.accumulate(ticks.guest_monotonic_ns)
    numbers = np.unique(ticks.sequence)
    return CopyFindings(
        conflicts=int(same_number.sum()),
        disorders=int(disorders.sum()),
        rewinds=int((newest_ns - ticks.guest_monotonic_ns > REORDER_NS).sum()),
        doubled=len(ticks) - len(pairs),
        overtaken=int((np.diff(ticks.sequence) < 0).sum()),
        lost=int(numbers[-1]) - int(numbers[0]) + 1 - len(numbers),
    )


def check_single_copy(ticks: Ticks) -> Check | None:
    """The ``single-copy`` check of a run; None without ticks."""
    if len(ticks) < 2:
        return None
    found = find_copies(ticks)
    if found.single:
        detail = f"{len(ticks)} ticks tell of one guest ({found.lost} lost, {found.doubled} doubled)"
    else:
        detail = (
            f"two copies may have run: {found.conflicts} tick numbers came with two guest times,"
            f" {found.disorders} out of order in time, {found.rewinds} from the past"
        )
    return Check(name="single-copy", passed=found.single, detail=detail)
