"""Whose turn it is on the CPUs: most tests run side by side, and one that measures time runs alone.

Each test holds the machine for as long as it lasts: together with others, or (``pytest.mark.alone``) by itself. The
locks are on two directories of this clone, so that nothing is left and two suites in one clone share the machine too.
Whoever comes next waits at the door, so that a test which wants to be alone is not overtaken for ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

DOOR = Path(__file__).parent / "unit"
MACHINE = Path(__file__).parent / "system"


NESTED = "LIMOSA_TEST_NESTED"
"""Set for processes that a test starts to run tests of their own: it holds the machine for them."""
_HELD: set[tuple[Path, int]] = set()
"""What is held, and by which thread of this process."""


@contextlib.contextmanager
def turn(*, alone: bool, door: Path = DOOR, machine: Path = MACHINE) -> Iterator[None]:
    """Hold the machine, waiting for the others where that is needed. A test that runs tests of its own holds it
    already: waiting for others, who wait for it, would never end."""
    here = machine, threading.get_ident()
    if here in _HELD or NESTED in os.environ:
        yield
        return
    with contextlib.ExitStack() as held:
        with _locked(door, fcntl.LOCK_EX):
            held.enter_context(_locked(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        _HELD.add(here)
        held.callback(_HELD.discard, here)
        yield


@contextlib.contextmanager
def _locked(place: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        try:
            yield
        finally:
            # A child that outlives the test may have the description too; closing ours alone would keep the lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
