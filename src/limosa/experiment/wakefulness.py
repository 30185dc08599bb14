"""Keeping this machine's CPUs from sleeping while something short is measured.

A CPU that slept for 100 ms wakes late and with cold caches, which is no error of a clock. The kernel keeps the CPUs
awake for as long as somebody holds /dev/cpu_dma_latency with a latency of 0 (its
Documentation/power/pm_qos_interface.rst), as cyclictest does. That ends with the process, however that ends.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEVICE = Path("/dev/cpu_dma_latency")


@contextmanager
def cpus_awake(device: Path = DEVICE) -> Iterator[bool]:
    """While the context is open, no CPU sleeps. Gives False where that may not be asked for: it is root's."""
    try:
        request = device.open("wb", buffering=0)
    except OSError:
        yield False
        return
    with request:
        request.write(struct.pack("i", 0))
        yield True
