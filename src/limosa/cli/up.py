"""``limosa up``."""

from __future__ import annotations

from typing import Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption, LabOption
from limosa.cli.values import LAB


def up(
    file: Annotated[str, Argument(kind=LAB, help="The lab file; without it as for --lab.")] = "",
    lab: LabOption = "",
    start: Annotated[bool, Option(help="Start the guests too.")] = True,
    wait: Annotated[bool, Option(help="Wait until guests have booted.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Make the lab's hosts and start its guests; what is there already is kept, what died is made again."""
    from limosa.cli.face import face, run, show_result
    from limosa.lab import Lab

    async def work() -> list[str]:
        with face(as_json) as events:
            async with Lab.open(file or lab, events=events) as opened:
                return await opened.up(start=start, wait=wait)

    made = run(work)
    if as_json:
        show_result({"made": made})
    else:
        print("made: " + ", ".join(made) if made else "nothing to do: the lab is up")
