"""One migration of a guest of a lab that goes on, with the clocks beside it and a run that says what it cost."""

from __future__ import annotations

import asyncio

from limosa.errors import LimosaError, StateError
from limosa.experiment.measurement import has_agent, measure, recorded_run
from limosa.experiment.result import Result, reported
from limosa.lab import Lab, qemu_launch
from limosa.migration.settings import Settings
from limosa.migration.transfer import Outcome
from limosa.probes.pace import Probing
from limosa.results.store import RunDirectory

SETTLE_S = 3.0
"""Time before and after it: the clocks compare a second on either side of a pause, and the drift of three before it."""


class MeasuredMove:
    """What came of it: the *outcome* as ``Lab.attempt`` has it, and the *result* that a reader is shown."""

    def __init__(self, outcome: Outcome, result: Result) -> None:
        self.outcome, self.result = outcome, result


async def measured_move(lab: Lab, guest: str, target: str, settings: Settings | None = None) -> MeasuredMove:
    """Move *guest* to *target* while probes watch it; of one without an agent, what can be had.

    The guest does what it does: no workload is begun in it. A failure is in the outcome. Raises what ``Lab.attempt``
    raises, and BusyError while another measures the guest; the run says so then.
    """
    await _require_way(lab, guest, target)
    async with recorded_run(lab, guest, "migrate", told=True, blind=True) as run:
        outcome = await _measured(lab, guest, target, run, settings or Settings())
    with lab.events.stage("write the report"):
        return MeasuredMove(outcome, await asyncio.to_thread(reported, run))


async def _require_way(lab: Lab, guest: str, target: str) -> None:
    """What is seen at once makes no run."""
    lab.guest(guest)
    if target not in lab.spec.hosts:
        raise qemu_launch.unknown_host(lab.spec, target)
    if await lab.guests.where(guest) == target:
        free = ", ".join(name for name in lab.spec.hosts if name != target)
        raise StateError(f"guest {guest} is on {target} already", hint=f"other hosts: {free or 'none'}")


async def _measured(lab: Lab, guest: str, target: str, run: RunDirectory, settings: Settings) -> Outcome:
    failure: LimosaError | None = None
    agent = await has_agent(lab, guest)
    try:
        async with measure(lab, guest, run, Probing(), {}, agent=agent) as measurement:
            with lab.events.stage(f"measure {guest} at rest"):
                await asyncio.sleep(SETTLE_S)
            outcome = await measurement.migrate(target, settings)
            failure = outcome.failure
            if failure is not None:
                lab.events.note(failure.message, level="warning")
            await asyncio.sleep(SETTLE_S)
            await measurement.check_alive()
    except LimosaError as error:
        if failure is not None:  # a guest that was lost answers no probe any more
            raise failure from error
        raise
    return outcome
