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
    STARTING_POST_COPY = "starting-post-copy"
    """The source is told to stop and to let the target go on without the rest: from here on each side may have what the
    other lacks."""
    POST_COPY = "post-copy"
    """The guest runs on the target, and what it lacks follows."""
    WAITING_FOR_LINK = "waiting-for-link"
    """The link between the two does not carry; both sides stand still and keep what they have."""
    RECOVERING = "recovering"
    """The link carries again: the target listens anew, and the source goes on sending."""
    SWITCHED = "switched"
    """The source has sent everything and stopped for good; the target starts by itself, or runs already."""
    ENDING_SOURCE = "ending-source"
    """The target runs; the source QEMU is ended."""
    RESCUING = "rescuing"
    """Something interrupted it; the guest is being kept where it runs."""
    LOST = "lost"
    """The guest went down with one side while its memory was on both; its remains are not ended yet."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED})

BEFORE_SENDING = frozenset({Phase.STARTING_TARGET, Phase.PREPARING})
"""While the last phase is one of these, nothing of the guest has left the source."""

BETWEEN = frozenset({Phase.STARTING_POST_COPY, Phase.POST_COPY, Phase.WAITING_FOR_LINK, Phase.RECOVERING})
"""While the last phase is one of these, the guest's memory is on both hosts."""

AFTER_SWITCH = BETWEEN | {Phase.SWITCHED, Phase.ENDING_SOURCE}

PRE_COPY: Mapping[Phase, frozenset[Phase]] = {
    Phase.STARTING_TARGET: frozenset({Phase.PREPARING}),
    Phase.PREPARING: frozenset({Phase.MOVING}),
    Phase.MOVING: frozenset({Phase.SWITCHED}),
    Phase.SWITCHED: frozenset({Phase.ENDING_SOURCE}),
    Phase.ENDING_SOURCE: frozenset({Phase.COMPLETED}),
}
"""What may follow which when all goes well; from each the way to ``RESCUING`` is open."""

POST_COPY: Mapping[Phase, frozenset[Phase]] = {
    **PRE_COPY,
    Phase.MOVING: frozenset({Phase.STARTING_POST_COPY, Phase.SWITCHED}),
    Phase.STARTING_POST_COPY: frozenset({Phase.POST_COPY, Phase.WAITING_FOR_LINK, Phase.SWITCHED}),
    Phase.POST_COPY: frozenset({Phase.WAITING_FOR_LINK, Phase.SWITCHED}),
    Phase.WAITING_FOR_LINK: frozenset({Phase.RECOVERING, Phase.POST_COPY, Phase.SWITCHED}),
    Phase.RECOVERING: frozenset({Phase.POST_COPY, Phase.WAITING_FOR_LINK, Phase.SWITCHED}),
}
"""Likewise of a move that may become post-copy: it always begins as pre-copy, and may be over before it does."""
