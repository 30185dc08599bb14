"""A guest's memory, looked at from outside by a program on its host: see ``page_program`` for what that sees."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from limosa import bundle, untrusted
from limosa.errors import LimosaError, MachineError
from limosa.prediction import sampled_pages
from limosa.prediction.sampled_pages import Sample
from limosa.prediction.working_set import WINDOWS_S, WorkingSet
from limosa.process import Runner
from limosa.qemu.launches import Running

GROUPS = 32
"""Moments at which pages are looked at for the first time."""
PAGES = 512
"""Of a group, at most: with 32 groups a share of 5 % is known to 10 % in 99.7 cases of 100 (2.9 standard errors of
sqrt(0.95 / (0.05 * 16384)))."""
SPREAD_S = 4.0
"""Over how long the first looks are spread."""
CPU_S, CPU_SHARE = 0.6, 0.02
"""What it may take of a processor, and at most of all that the host has, for as long as it lasts: where all of it
is busy, those who run there lose about that share of their speed."""

_PROGRAM = "limosa.prediction.page_program"
_LATE_S = 60.0
"""How much longer it may take on a machine that has no time for it."""


class NotRead(msgspec.Struct, frozen=True):
    """The memory could not be read: ``why``, in words."""

    why: str


async def read(
    host: Runner, running: Running, memory_bytes: int, *, spread_s: float = SPREAD_S, cpu_s: float = CPU_S
) -> WorkingSet | NotRead:
    """The curve of a guest with *memory_bytes* that is *running* on *host*, some 12 s from now.

    *cpu_s* bounds what it takes of a processor, and so how many pages are sampled. It is looked at as limosa's user
    there, and where that may not, as root where limosa may be. Raises LimosaError where the host does not answer or
    the program fails.
    """
    asked = {
        "pid": running.pid,
        "started": running.started,
        "bytes": memory_bytes,
        "windows_s": WINDOWS_S,
        "groups": GROUPS,
        "pages": PAGES,
        "spread_s": spread_s,
        "cpu_s": cpu_s,
        "cpu_share": CPU_SHARE,
        "seed": int.from_bytes(os.urandom(4), "big"),
    }
    sample = await _looked(host, asked, as_root=False)
    if sample.forbidden:
        with contextlib.suppress(MachineError):  # it may not be root there
            sample = await _looked(host, asked, as_root=True)
    if sample.why:
        return NotRead(sample.why)
    try:
        return sampled_pages.working_set(sample, WINDOWS_S, memory_bytes)
    except ValueError as error:
        raise _untold(host, error) from error


async def _looked(host: Runner, asked: Mapping[str, Any], *, as_root: bool) -> Sample:
    sent = bundle.program([(_PROGRAM, Path(__file__).with_name("page_program.py"))])
    line, patience_s = bundle.command(host.python, json.dumps(asked)), asked["spread_s"] + WINDOWS_S[-1] + _LATE_S
    done = await host.run(line, stdin=sent, timeout_s=patience_s, as_root=as_root)
    try:
        return untrusted.decode(done.stdout, type=Sample)
    except msgspec.DecodeError as error:
        raise _untold(host, error) from error


def _untold(host: Runner, error: Exception) -> LimosaError:
    return LimosaError(f"{host.name} did not tell how its guest's memory changes: {error}")
