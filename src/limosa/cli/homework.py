"""``limosa homework``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Option
from limosa.cli.options import JsonOption, NoInstallOption
from limosa.cli.values import DIRECTORY, FILE, RUN

if TYPE_CHECKING:
    from limosa.homework import Handout


def homework(
    lab: Annotated[
        Path | None,
        Option("--lab", kind=FILE, help="A lab file of your own, in place of the two hosts that limosa brings."),
    ] = None,
    quick: Annotated[bool, Option("--quick", help="Short measurements: to see what it looks like.")] = False,
    again: Annotated[
        str,
        Option("--again", kind=RUN, help="Make the pages of this run again; measure nothing."),
    ] = "",
    output: Annotated[
        Path | None, Option("--output", kind=DIRECTORY, help="Where the pages go; without it the run's own.")
    ] = None,
    no_install: NoInstallOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run the whole course recipe, from two hosts to the benches, and write the model answer as HTML and PDF."""
    from limosa.cli.face import face, run, show_result
    from limosa.errors import SpecError
    from limosa.paths import require_writable_folder

    if again and lab is not None:
        raise SpecError("--again makes the pages of a run: it measures no lab", hint="leave --lab out, or --again")
    if output is not None:
        require_writable_folder(output, "--output")

    async def work() -> Handout:
        from limosa.homework import do, remake

        with face(as_json) as events:
            if again:
                return await remake(again, events=events, folder=output)
            return await do(quick=quick, events=events, file=lab, folder=output, no_install=no_install)

    handout = run(work)
    if as_json:
        show_result(handout)
    else:
        for part in handout.parts:
            print(f"{part.title}: {part.status}{f': {part.reason}' if part.reason else ''}")
        print("\n".join(str(path) for path in handout.files))
    if any(part.status == "failed" for part in handout.parts):
        raise SystemExit(1)
