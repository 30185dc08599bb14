"""What may have to be done about an interrupted migration, and the words for what is known of its sides."""

from __future__ import annotations

from enum import StrEnum

from limosa.errors import LimosaError


class Verdict(StrEnum):
    """What has to be done."""

    KEEP_SOURCE = "keep-source"
    """The guest is on the source, as it is: end the target."""
    RESUME_SOURCE = "resume-source"
    """No copy runs and the target never did: let the source run again."""
    KEEP_TARGET = "keep-target"
    """The guest is on the target: end the source."""
    WAIT = "wait"
    """The hand-over is under way and will decide by itself: look again."""
    LOST = "lost"
    """No QEMU has the guest any more: it went down with the source's, its disk remains. End the target."""
    GO_ON = "go-on"
    """Each side has what the other lacks: nothing is ended, and it goes on by itself or when it is recovered."""
    STOP_SOURCE = "stop-source"
    """QEMU lets an older state of the guest run on the source: it is stopped, and a person decides."""
    ASK = "ask"
    """Both answers could harm: a person decides."""


GONE = "gone"
"""A side whose QEMU process does not exist any more."""
UNREACHABLE = "unreachable"
"""A side of which nothing is known: its host or its QEMU does not answer but may be running."""


def lost(guest: str, host: str) -> LimosaError:
    """The error for a guest whose only copy ended."""
    return LimosaError(
        f"{guest} went down during a migration: its QEMU on {host} ended",
        hint=f"its disk remains: limosa start {guest}",
    )


def ended_by_itself(guest: str) -> LimosaError:
    """The error for a guest that was shut down from inside while it moved."""
    return LimosaError(
        f"{guest} shut itself down while it was moving, and is stopped", hint=f"limosa start {guest} starts it again"
    )


def lost_between(guest: str, source: str, target: str) -> LimosaError:
    """The error for a guest of which one side ended in post-copy, or whose sides QEMU does not bring together again."""
    return LimosaError(
        f"{guest} is lost: in post-copy its memory was on {source} and on {target}, and cannot be brought together now",
        hint=f"its disk remains: limosa start {guest} ends what is left of it and boots it again",
    )
