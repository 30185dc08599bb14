"""What a simulated move is made of, and what can be seen of it: data alone."""

from __future__ import annotations

from typing import Literal

import msgspec

PAGE_BYTES = 4096
ON_WIRE = (PAGE_BYTES + 8) / PAGE_BYTES
"""Bytes on the wire for each byte of a page: its address goes before it (``save_page_header`` in QEMU's ram.c)."""
ZERO_ON_WIRE = 9 / PAGE_BYTES
"""A page of zeros is its address and one byte."""

BUFFERED_BYTES = 2.6e6
"""What the kernel takes of a stream beyond what is over: Linux lets a connection's send buffer grow to 4 MiB
(``tcp_wmem``), of which its own book-keeping is a part. Seen as the pause that QEMU does not count, of moves over
200 Mbit/s."""

OPENING_S = 2.0
"""How long that takes to become so much: TCP's window grows step by step over a link that it fills. Seen as what QEMU
had sent beyond the link's rate, of the same moves."""
SILENT_START_S = 0.15
"""How long QEMU 7.2 takes of an emulated guest before it sends, where 10.0 takes none (docs/measuring.md)."""


class Link(msgspec.Struct, frozen=True):
    """What a stream goes over."""

    bytes_per_s: float
    """Of the stream, so without the headers of packets."""
    buffered_bytes: float = BUFFERED_BYTES
    """What was sent and is not over yet when the sender has to wait, in the end. The guest stands still until that is
    over."""
    opening_s: float = OPENING_S
    """From the first byte on, until the kernel takes so much."""


class Costs(msgspec.Struct, frozen=True):
    """What takes time beside the link, in seconds, and how fast one processor goes through pages."""

    setup_s: float = 0.02
    """From the command to the first page; QEMU counts it."""
    look_s: float = 0.001
    """A look at the dirty log."""
    stop_s: float = 0.005
    """To stop the guest, and to save what is no memory."""
    start_s: float = 0.02
    """At the target, from where all has come to where the guest runs."""
    post_copy_start_s: float = 0.02
    """The same in post-copy, where the target has to wait for pages."""
    post_copy_waits: float = 1.0
    """For how many pages, one after the other, each behind all that the kernel holds."""
    page_bytes_per_s: float = 1.5e9
    """Pages that hold data, as fast as one thread copies them into the kernel."""
    zero_bytes_per_s: float = 4e9
    """Pages of zeros, as fast as one thread finds that they are."""


Status = Literal["active", "postcopy-active", "completed", "cancelled"]


class SimulatedLook(msgspec.Struct, frozen=True):
    """What query-migrate would say *at_s* after the command. Raw: as QEMU, it says 0 of what it has not measured."""

    at_s: float
    status: Status
    iteration: int
    """``dirty-sync-count``."""
    total_bytes: float
    remaining_bytes: float
    sent_bytes: float
    dirty_rate_bytes_per_s: float
    throughput_bytes_per_s: float
    expected_downtime_s: float
    throttle_percent: int | None
    """None: the guest is not slowed down."""
    boundary: bool
    """Whether it is the first one since QEMU looked at the dirty log."""


class PredictedMove(msgspec.Struct, frozen=True):
    """What is said to come of a move, by whichever way."""

    completed: bool
    total_s: float | None
    """From the command to where QEMU has sent all, or to where it was last looked at. None: there is no end to it."""
    pause_s: float | None
    """No instruction of the guest runs anywhere: from its stop to where it runs at the target. None: it never stops."""
    sent_bytes: float | None
    """On the wire."""
    downtime_s: float | None = None
    """As a source without ``return-path`` tells it: from the stop to where all is handed to the kernel. None also of a
    way that does not tell the two apart."""
    exposure_s: float = 0.0
    """In post-copy, for how long the loss of either side is the loss of the guest."""
