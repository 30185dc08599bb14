"""What a QEMU can be asked of a migration: between these it does as it is told.

A bandwidth is kept by counting what went out in each 100 ms. The least that goes out is a page of 4 KiB, and since
QEMU 8.1, which counts what left its buffer, a buffer of 32 pages. Less than 10 B/s it takes for no limit at all.
Measured with 32 MiB of random bytes, sent to a socket that takes all: QEMU 7.2.22 sent 33 MiB at once under a limit of
5 B/s, 40 KiB/s under one of 100 B/s and 80 KiB/s under one of 64 KiB/s; QEMU 10.0.13 1.25 MiB/s under each of these.
"""

from __future__ import annotations

from collections.abc import Container

MOST_DOWNTIME_MS = 2_000_000
"""The largest ``downtime-limit`` that QEMU takes."""

LEAST_BYTES_PER_S = 10 * 4096
"""The least ``max-bandwidth`` that any QEMU keeps."""
LEAST_BUFFERED_BYTES_PER_S = 32 * LEAST_BYTES_PER_S
"""That of one which counts buffers; every QEMU keeps it."""
_BUFFERED_SINCE = "switchover-ack"
"""A capability that came with it."""

WHY_MOST = "QEMU takes no more"
WHY_LEAST = "QEMU sends at least a page of 4 KiB in each 100 ms"


def least_bytes_per_s(capabilities: Container[str]) -> int:
    """The least bandwidth that a QEMU with these migration capabilities can be held to."""
    return LEAST_BUFFERED_BYTES_PER_S if _BUFFERED_SINCE in capabilities else LEAST_BYTES_PER_S
