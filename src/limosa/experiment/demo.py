"""The main job: build the lab, boot the guest, move it there and back while clients use it, say what it cost."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from limosa import paths, requirements, spec
from limosa.events import Events
from limosa.experiment.measurement import has_agent, measure, recorded_run
from limosa.experiment.result import Result, reported
from limosa.experiment.route import route
from limosa.experiment.workload import Workload
from limosa.lab import Lab, sweep
from limosa.migration.settings import Settings
from limosa.probes.pace import Probing
from limosa.results.store import RunDirectory

SETTLE_S = 3.0
"""Time before, between and after the migrations: the clocks compare half a second on either side of a pause."""


async def demo(
    file: Path | None = None,
    *,
    events: Events,
    settings: Settings | None = None,
    workload: Workload | None = None,
    no_install: bool = False,
) -> Result:
    """Run the main job on *file* (without it: the example of two hosts) in a lab that ends with it.

    Missing packages are installed unless *no_install*. Raises MachineError where something is missing all the same,
    SpecError for a lab without two hosts or a guest that can be measured, and LimosaError's other children when it
    cannot be done; a migration that failed is in the result.

    Example::

        shown = await demo(events=Events())
        print(shown.passed, shown.report)
    """
    sweep()
    missing = await requirements.missing()
    await requirements.install(missing, events, no_install=no_install)
    described = spec.load(file or paths.example())
    # A name of its own: the user's lab of that name, or another demo, may be running.
    lab_spec = msgspec.structs.replace(described, name=f"demo-{os.getpid()}")
    way = route(lab_spec, "a demo")
    guest = way.guest.name
    async with Lab.open(lab_spec, events=events, ephemeral=True) as lab:
        await lab.up()
        async with recorded_run(lab, guest, "demo") as run:
            await _measured(lab, guest, (way.there, way.back), run, settings or Settings(), workload or Workload())
        with events.stage("write the report"):
            result = await asyncio.to_thread(reported, run)
        await lab.stop(guest, force=True)
    return result


async def _measured(
    lab: Lab, guest: str, targets: tuple[str, ...], run: RunDirectory, settings: Settings, workload: Workload
) -> None:
    agent = await has_agent(lab, guest)
    work = workload.described() if agent else {}
    async with measure(lab, guest, run, Probing(), work, agent=agent) as measurement:
        if agent:
            with lab.events.stage("set the guest to work"):
                await measurement.set_to_work(workload)
        with lab.events.stage("measure the guest at rest"):
            await asyncio.sleep(SETTLE_S)
        for target in targets:
            outcome = await measurement.migrate(target, settings)
            if outcome.failure is not None:
                lab.events.note(outcome.failure.message, level="warning")
            await asyncio.sleep(SETTLE_S)
        with lab.events.stage("check that nothing was lost") as step:
            await measurement.finish_workload()
            await measurement.check_alive()
            if not all(check.passed for check in measurement.checks):
                step.fail()
