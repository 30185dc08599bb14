"""Whether a move went over to post-copy, and for how long the guest's memory was on both hosts then.

Both are told by its phases, each with the moment at which it was journalled.
"""

from __future__ import annotations

from collections.abc import Sequence

BEGINS, ENDS = "starting-post-copy", "switched"
"""``limosa.migration.phases`` has them all."""


def is_post_copy(phases: Sequence[tuple[str, int]]) -> bool:
    """Whether the source was told to let the target go on without the rest."""
    return any(phase == BEGINS for phase, _ in phases)


def exposure_ms(phases: Sequence[tuple[str, int]]) -> float | None:
    """For how long the loss of either host would have cost the guest, in ms. None: it never would have, or the end of
    it was not seen."""
    begun = next((time_ns for phase, time_ns in phases if phase == BEGINS), None)
    over = next((time_ns for phase, time_ns in phases if phase == ENDS), None)
    return None if begun is None or over is None else (over - begun) / 1e6
