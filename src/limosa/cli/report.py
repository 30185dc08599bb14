"""``limosa report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption
from limosa.cli.values import DIRECTORY, RUN


def report(
    run: Annotated[
        str,
        Argument(kind=RUN, help="A run's id or directory; without it the latest."),
    ] = "",
    png: Annotated[bool, Option("--png", help="Write the plots as PNG files too.")] = False,
    csv: Annotated[bool, Option("--csv", help="Write the tables as CSV files too.")] = False,
    output: Annotated[
        Path | None, Option("--output", kind=DIRECTORY, help="Where PNG and CSV files go; without it the run.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a run's report again, from its raw data."""
    from limosa import report as reports
    from limosa.cli.face import show_result
    from limosa.errors import StateError
    from limosa.experiment.result import reported
    from limosa.paths import require_writable_folder
    from limosa.results.meant import LATEST, find

    if output is not None:
        require_writable_folder(output, "--output")
    chosen = find(run or LATEST)
    result = reported(chosen)
    folder = output or chosen.path
    written = [result.report]
    if png:
        if not (pictures := reports.png(chosen.path, folder)):
            raise StateError(f"the run {chosen.id} has no data for a plot", hint=f"limosa runs show {chosen.id}")
        written += pictures
    written += reports.csv(chosen.path, folder) if csv else []
    if as_json:
        show_result({"run": str(chosen.path), "files": [str(path) for path in written], "summary": result.summary})
    else:
        print("\n".join(map(str, written)))
