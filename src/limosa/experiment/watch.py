"""One guest watched in a run directory of its own: what a notebook, or an experiment of one's own, begins with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from limosa.experiment.measurement import Measurement, measure, recorded_run
from limosa.experiment.workload import Workload
from limosa.lab import Lab
from limosa.probes.pace import Probing


@asynccontextmanager
async def watch(
    lab: Lab, guest: str, *, kind: str = "watch", workload: Workload | None = None, probing: Probing | None = None
) -> AsyncIterator[Measurement]:
    """Probe *guest* while the context is open, and record everything in a new run of this *kind*.

    With a *workload* the guest is at work meanwhile, and in the end everything that it wrote is checked. The clocks
    compare what was before and after a migration, so let some seconds pass around each. Then
    ``limosa.reported(watched.run)`` makes summary and report. *probing* says how often each probe measures.

    Raises StateError when the guest does not run or has no agent, BusyError while another measures it.

    Example::

        async with watch(lab, "guest1", workload=Workload()) as watched:
            await asyncio.sleep(2)
            await watched.migrate("host2")
            await asyncio.sleep(2)
        result = reported(watched.run)
        print(result.passed, result.report)
    """
    described = {} if workload is None else workload.described()
    async with (
        recorded_run(lab, guest, kind) as run,
        measure(lab, guest, run, probing or Probing(), described) as measurement,
    ):
        if workload is not None:
            await measurement.set_to_work(workload)
        yield measurement
        await measurement.finish_workload()
        await measurement.check_alive()
