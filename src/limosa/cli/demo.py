"""``limosa demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Option
from limosa.cli.options import JsonOption, NoInstallOption
from limosa.cli.values import FILE

if TYPE_CHECKING:
    from limosa.experiment.result import Result


def demo(
    lab: Annotated[
        Path | None,
        Option("--lab", kind=FILE, help="A lab file of your own, in place of the two hosts that limosa brings."),
    ] = None,
    no_install: NoInstallOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build a two-host lab, boot a guest, move it there and back under load, and report what that cost."""
    from limosa.cli.face import face, run
    from limosa.cli.outcome import show_experiment

    async def work() -> Result:
        from limosa.experiment.demo import demo as run_demo

        with face(as_json) as events:
            return await run_demo(lab, events=events, no_install=no_install)

    show_experiment(run(work), as_json)
