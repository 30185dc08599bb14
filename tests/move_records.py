"""What is known of real moves that were recorded for ``limosa.prediction`` to be held against; ``tests.record_moves``
makes the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parent / "golden" / "moves"
LIMIT_S = 30.0
"""How long each move had."""


class SeenLook(msgspec.Struct, frozen=True, array_like=True):
    """What query-migrate said *at_s* after the first time that it said anything of memory."""

    at_s: float
    iteration: int
    remaining_bytes: int
    sent_bytes: int
    dirty_rate_bytes_per_s: int
    throughput_bytes_per_s: float
    expected_downtime_s: float | None
    throttle_percent: int | None


class Writer(msgspec.Struct, frozen=True):
    """What goes on writing in the guest, and how fast it did before the move, in bytes/s."""

    working_set_bytes: int
    asked_bytes_per_s: int
    pattern: str = "uniform"
    reached_bytes_per_s: float = 0.0


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of the guest's memory, as it was before the move."""

    size_bytes: int
    zero_share: float
    changed_share: float
    """Of its pages, those that were not the same some seconds later."""


class RecordedMove(msgspec.Struct, frozen=True):
    """One move: what there was to move and over what, what was asked for, and what came of it."""

    name: str
    qemu: str
    memory_bytes: int
    link_bytes_per_s: int
    """What the shaped link takes of a TCP stream."""
    writer: Writer | None
    method: str
    told: dict[str, Any]
    """What the source's QEMU had in force that is not its own default, by the option's name."""
    blocks: list[Block]
    """The guest's memory before the move, in the order of addresses."""
    completed: bool
    looks: list[SeenLook]
    total_s: float | None = None
    downtime_s: float | None = None
    """As QEMU tells it."""
    pause_s: float | None = None
    """From STOP at the source to RESUME at the target."""
    exposure_s: float | None = None
    sent_bytes: int | None = None
    setup_s: float | None = None


def recorded_moves() -> list[RecordedMove]:
    """All of them, by QEMU's version and in the order in which they were made."""
    lines = [line for path in sorted(FOLDER.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    return [msgspec.json.decode(line, type=RecordedMove) for line in lines]
