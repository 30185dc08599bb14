"""The CPU time that the host gave a guest's virtual CPUs, beside what the guest made of it.

A guest under emulation is told of no stolen time: it books what the host takes from its CPU as its own work. The host
knows better. Its scheduler counts for how long each virtual CPU's thread ran, so "less work a second" comes apart
into "less CPU time" and "less work per CPU second".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from limosa.bench.during.course import Floats, Series, Times, series
from limosa.probes import vcpu
from limosa.results.samples import columns

LEAST_SHARE = 0.02
"""A second in which the guest got less than this of a CPU has no speed to speak of: clocks are read to some ms."""

LEAST_CPUS = 0.5
"""A guest that wants one CPU and gets less is starved: what it does beside its work (timers, ticks, the agent's loop)
comes at a fixed rate, and is then so great a part of its CPU time that work per CPU second says little."""

_Track = tuple[Times, Floats]
"""Moments, and the CPU time in ns that one QEMU's virtual CPUs had got until then."""


def tracks(samples: Path) -> list[_Track]:
    """One for each QEMU that carried the guest: source and target of a migration overlap."""
    found = []
    for path in sorted(samples.glob("vcpu-*.csv")):
        arrived, pid, clock, ran, _ = columns(path, vcpu.COLUMNS)
        for each in np.unique(pid):
            mine = pid == each
            # The lines' own clock spaces them; a line that is read late by us only shifts all of it by a little.
            moments = clock[mine] + int(np.min(arrived[mine] - clock[mine]))
            found.append((moments, ran[mine].astype(np.float64)))
    return found


def given(found: list[_Track], like: Series) -> Series:
    """CPU seconds a second that the guest got in each sample of *like*, all its virtual CPUs and QEMUs together.

    Samples that no track covers are left out.
    """
    if not found:
        return series([])
    first, last = min(moments[0] for moments, _ in found), max(moments[-1] for moments, _ in found)
    covered = like.inside(int(first), int(last))
    got = np.zeros(len(covered))
    for moments, ran in found:
        got += np.interp(covered.end_ns, moments, ran) - np.interp(covered.begin_ns, moments, ran)
    return Series(covered.begin_ns, covered.end_ns, got / np.maximum(covered.end_ns - covered.begin_ns, 1))


def per_cpu_second(work: Series, share: Series) -> Series:
    """*work* a second over the share of a CPU that it had; the samples of *share* are some of those of *work*."""
    speeds = dict(zip(work.end_ns.tolist(), work.value.tolist(), strict=True))
    rows = zip(share.begin_ns.tolist(), share.end_ns.tolist(), share.value.tolist(), strict=True)
    return series([(begin, end, speeds[end] / got) for begin, end, got in rows if got >= LEAST_SHARE])
