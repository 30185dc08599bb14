"""The phases of a migration: each names what is about to happen, and what may come next."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Phase(StrEnum):
    """In order. A phase is on disk before what it names begins."""

    STARTING_TARGET = "starting-target"
    """The target QEMU is launched."""
    PREPARING = "preparing"
    """Capabilities and parameters are set on both sides; the target listens."""
    MOVING = "moving"
    """The source sends."""
    SWITCHED = "switched"
    """The source has sent everything and stopped for good; the target starts by itself."""
    ENDING_SOURCE = "ending-source"
    """The target runs; the source QEMU is ended."""
    RESCUING = "rescuing"
    """Something interrupted it; the guest is being kept where it runs."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED})

BEFORE_SENDING = frozenset({Phase.STARTING_TARGET, Phase.PREPARING})
"""While the last phase is one of these, nothing of the guest has left the source."""

PRE_COPY: Mapping[Phase, frozenset[Phase]] = {
    Phase.STARTING_TARGET: frozenset({Phase.PREPARING}),
    Phase.PREPARING: frozenset({Phase.MOVING}),
    Phase.MOVING: frozenset({Phase.SWITCHED}),
    Phase.SWITCHED: frozenset({Phase.ENDING_SOURCE}),
    Phase.ENDING_SOURCE: frozenset({Phase.COMPLETED}),
}
"""What may follow which when all goes well; from each the way to ``RESCUING`` is open."""
