"""``limosa calibrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption, LabOption
from limosa.cli.values import COUNT, GUEST

if TYPE_CHECKING:
    from limosa.experiment.result import Result


def calibrate(
    guest: Annotated[
        str,
        Argument(kind=GUEST, help="A running guest; without it the lab's first."),
    ] = "",
    lab: LabOption = "",
    repeat: Annotated[int, Option(kind=COUNT, help="Pauses of each length.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Pause a guest for 5, 20, 100 and 500 ms and show the error of each clock."""
    from limosa.cli.face import face, run
    from limosa.cli.outcome import show_experiment
    from limosa.lab import Lab

    async def work() -> Result:
        from limosa.experiment.calibration import calibrate as run_calibration

        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                return await run_calibration(opened, guest or opened.guests.first, repeat=repeat)

    show_experiment(run(work), as_json)
