"""The CPUs are kept awake by a descriptor that is held, and only where the system permits it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from limosa.experiment.wakefulness import DEVICE, cpus_awake


def _held(path: Path) -> bool:
    return any(fd.resolve() == path.resolve() for fd in Path("/proc/self/fd").iterdir())


def test_a_latency_of_nothing_is_asked_for_while_it_is_open(tmp_path: Path) -> None:
    device = tmp_path / "latency"
    device.touch()
    with cpus_awake(device) as awake:
        assert awake and _held(device)
        assert struct.unpack("i", device.read_bytes()) == (0,)
    assert not _held(device)


def test_where_it_is_forbidden_nothing_happens(tmp_path: Path) -> None:
    with cpus_awake(tmp_path / "none" / "latency") as awake:
        assert not awake


@pytest.mark.skipif(not os.access(DEVICE, os.W_OK), reason=f"{DEVICE} may not be written")
def test_the_kernel_takes_the_request() -> None:
    with cpus_awake() as awake, DEVICE.open("rb") as device:
        assert awake
        assert struct.unpack("i", device.read(4)) == (0,)
