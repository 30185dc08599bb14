"""``limosa bench cpu --guest bare``: host, KVM and TCG run one object file that never makes a system call.

It measures user-mode compute and nothing else, so it is no general figure; but it runs under a KVM that can run no
Linux. Guest and host program print lines of the same form, and this machine's clock gives the rate of both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, replace

import numpy as np

from limosa import paths, process
from limosa.bench.bed import HOST, Bed, Beds
from limosa.bench.cpu.measure import SUBJECTS, CpuSettings
from limosa.bench.cpu.parse import PRIME_LIMIT
from limosa.bench.ledger import Ledger, recorded, unnumbered, watched
from limosa.bench.repetitions import Bench, Metric, Repetition
from limosa.bench.rounds import measure_all, seeded
from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError
from limosa.events import Events
from limosa.guest import bare
from limosa.results.store import RunDirectory

REPORT = 100
"""Events between two lines: some 35 lines a second on a fast machine. More would measure the serial line."""

START_S = 60.0
"""Firmware takes long where KVM only emulates supervisor code."""

PRIMES = Metric(name="cpu-events", label="user-mode compute (prime search, bare guest)", unit="events/s")


async def measure(settings: CpuSettings, beds: Beds, events: Events) -> RunDirectory:
    """Measure; see the module. Returns the run, with what could be measured."""
    if settings.threads != 1:
        raise LimosaError("the bare guest has one thread", hint="leave --threads out, or take --guest micro")
    seed = seeded(settings.seed)
    built = await bare.build(paths.cache() / "images", events)
    shared = {"primes.o": built.primes_sha256}
    bench = Bench(
        kind="bench-cpu",
        title="User-mode compute: host, bare guest with KVM, bare guest without",
        baseline="host",
        seed=seed,
        settings={**asdict(settings), "seed": seed, "compiler": built.compiler},
        metrics=[PRIMES],
        subjects=[replace(subject, files=shared) for subject in SUBJECTS],
    )
    async with beds.of_guests("bench-bare", ()) as bed, recorded(bench, bed.name, events) as ledger:
        able = ["host"]
        for kind in ("kvm", "tcg"):
            chosen = await _accel(bed, ledger, built, kind)
            able += [f"guest-{kind}"] if chosen else []

        async def turn(name: str, time_s: int) -> list[tuple[Repetition, str]]:
            return await _measured(bed, name, built, time_s)

        await measure_all(bed, ledger, able, turn)
    return ledger.run


async def _accel(bed: Bed, ledger: Ledger, built: bare.BareImage, kind: str) -> bool:
    """Whether the bare guest runs under *kind* here; the reason is recorded either way."""
    name = f"guest-{kind}"
    if kind == "tcg":
        ledger.change(name, accel_reason="asked for")
        return True
    try:
        reason = await bed.bare.prove_kvm(built.kernel)
    except MachineError as error:
        ledger.change(name, status="skipped", reason=error.message)
        bed.events.note(f"{name} is left out: {error.message}")
        return False
    ledger.change(name, accel_reason=reason)
    return True


async def _measured(bed: Bed, name: str, built: bare.BareImage, time_s: int) -> list[tuple[Repetition, str]]:
    source = _host_lines(bed, built, time_s) if name == "host" else _guest_lines(bed, name, built)
    async with source as reader:
        samples, seen = await watched(lambda: _read(reader, time_s))
    moments, counts = zip(*samples, strict=True)
    duration_s, total = moments[-1] - moments[0], counts[-1] - counts[0]
    # Between two lines the speed is taken to be even; the counts of the seconds add up to the total.
    marks = [*np.arange(moments[0], moments[-1], 1.0), moments[-1]]
    seconds = [float(step) for step in np.diff(np.interp(marks, moments, counts))]
    repetition = unnumbered(
        name, PRIMES.name, seen, value=total / duration_s, total=total, duration_s=duration_s, seconds=seconds
    )
    raw = "".join(f"{moment - moments[0]:.6f} {count}\n" for moment, count in samples)
    return [(repetition, raw)]


async def _read(reader: asyncio.StreamReader, time_s: int) -> list[tuple[float, int]]:
    """(moment in s, events so far) at each line of report, for *time_s* from the first on."""
    serial, samples = bare.SerialReader(), list[tuple[float, int]]()
    limit = Deadline.after(START_S)
    while not samples or samples[-1][0] - samples[0][0] < time_s:
        try:
            async with asyncio.timeout(limit.left_s):
                data = await reader.read(4096)
        except TimeoutError as error:
            raise LimosaError(f"the bare guest reported nothing for {START_S:g} s") from error
        if not data:
            raise LimosaError("it ended while it was measured")
        found = [report for report in serial.feed(data) if isinstance(report, bare.Primes | bare.Fault | bare.Failed)]
        for report in found:
            if not isinstance(report, bare.Primes):
                raise LimosaError(f"it stopped by itself: {report}")
        if found and isinstance(found[-1], bare.Primes):
            samples.append((time.monotonic(), found[-1].events))
            limit = Deadline.after(START_S)
    return samples


@asynccontextmanager
async def _host_lines(bed: Bed, built: bare.BareImage, time_s: int) -> AsyncIterator[asyncio.StreamReader]:
    """The host's program, which is let run on a little longer than it is read."""
    words = [str(built.host_primes), str(time_s + 5), str(PRIME_LIMIT), str(REPORT)]
    child = await process.start(bed.host(HOST).interactive(words))
    try:
        assert child.stdout is not None
        yield child.stdout
    finally:
        await process.stop(child)


def _guest_lines(bed: Bed, name: str, built: bare.BareImage) -> AbstractAsyncContextManager[asyncio.StreamReader]:
    """A bare guest of its own for each repetition: it starts in well under a second."""
    append = bare.kernel_arguments("primes", limit=PRIME_LIMIT, report=REPORT)
    return bed.bare.serial(name, "kvm" if name == "guest-kvm" else "tcg", built.kernel, append)
