"""Calibration: pause a guest for known times and see by how much each clock is wrong."""

from __future__ import annotations

import asyncio
import random

from limosa.experiment.measurement import measure, recorded_run
from limosa.experiment.result import Result, reported
from limosa.lab import Lab
from limosa.probes.pace import Probing

LENGTHS_MS = (5.0, 20.0, 100.0, 500.0)
APART_S = 2.0
"""Between two pauses: the guest's clock is compared over half a second on either side."""


async def calibrate(lab: Lab, guest: str, *, repeat: int = 5, lengths_ms: tuple[float, ...] = LENGTHS_MS) -> Result:
    """Pause *guest* *repeat* times for each of *lengths_ms*, in random order; the errors are in the summary.

    The probes are those of a demo, at the same rates: what is calibrated is what measures. Raises what ``watch``
    raises.

    Example::

        calibrated = await calibrate(lab, "guest1", repeat=1, lengths_ms=(20.0,))
        print(calibrated.summary.pauses)
    """
    order = [length for length in lengths_ms for _ in range(repeat)]
    random.shuffle(order)
    async with (
        recorded_run(lab, guest, "calibrate") as run,
        measure(lab, guest, run, Probing(cpus_awake=True), {}) as measurement,
    ):
        await asyncio.sleep(APART_S)
        with lab.events.stage(f"pause {guest} {len(order)} times"):
            for length_ms in order:
                await measurement.pause(length_ms)
                await asyncio.sleep(length_ms / 1000 + APART_S)
        await measurement.check_alive()
    return await asyncio.to_thread(reported, run)
