"""``limosa runs``, ``runs show``, ``runs open`` and ``runs prune``: what was measured, and is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption
from limosa.cli.values import DURATION, RUN, number

if TYPE_CHECKING:
    from limosa.results.archive import KeptRun

_SPARE = ("lab", "what", "began", "size", "guest")
"""What goes first on a narrow terminal: what the id tells, too."""

RunArgument = Annotated[str, Argument(kind=RUN, help="A run's id, its beginning, or its directory; else the latest.")]


def list_runs(as_json: JsonOption = False) -> None:
    """List what was measured, the newest first."""
    from limosa.results import archive

    found = archive.kept()
    if as_json:
        from limosa.cli.face import show_result

        show_result(found)
    elif found:
        _print(found)
    else:
        print("no runs yet; limosa demo makes one")


def _print(runs: list[KeptRun]) -> None:
    from limosa.cli.columns import print_table
    from limosa.units import format_bytes

    rows = [
        (run.id, run.kind, _when(run.began_ns), run.lab, run.guest, run.outcome, format_bytes(run.size_bytes))
        for run in runs
    ]
    print_table(("run", "what", "began", "lab", "guest", "outcome", "size"), rows, spare=_SPARE)


def _when(moment_ns: int) -> str:
    """A moment as a clock on the wall here shows it."""
    import time

    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment_ns / 1e9))


def show(run: RunArgument = "", as_json: JsonOption = False) -> None:
    """Show what a run found: its figures, how it ended, where it is."""
    from limosa.bench import benches
    from limosa.cli.columns import print_table
    from limosa.cli.face import show_result
    from limosa.cli.printable import print_sentence
    from limosa.errors import StateError
    from limosa.results import archive
    from limosa.results.meant import LATEST, find
    from limosa.results.summary import summarise
    from limosa.results.summary_tables import tables

    directory = find(run or LATEST)
    kept = archive.of(directory)
    account, summary, lacking = benches.account(directory), None, ""
    try:
        summary = summarise(directory)
    except StateError as error:
        lacking = error.message
    if as_json:
        figures = {"bench": account.figures} if account else {}
        show_result({"run": kept, "summary": summary, **figures})
        return
    print_table(("what", "value"), _facts(kept))
    for table in (*(tables(summary) if summary else ()), *([account.table] if account else ())):
        print(f"\n{table.title}")
        print_table(table.columns, table.rows)
    for remark in summary.remarks if summary else [lacking]:
        print_sentence("note", remark)


def _facts(run: KeptRun) -> list[tuple[str, str]]:
    from limosa.units import format_bytes, format_duration

    lasted = format_duration((run.ended_ns - run.began_ns) / 1e9) if run.ended_ns else ""
    facts = {
        "run": run.id, "what": run.kind, "lab": run.lab, "guest": run.guest, "began": _when(run.began_ns),
        "lasted": lasted, "outcome": run.outcome, "error": run.error, "size": format_bytes(run.size_bytes),
        "directory": run.directory, "report": run.report or f"none yet: limosa runs open {run.id}",
    }  # fmt: skip
    return [(what, value) for what, value in facts.items() if value]


def open_report(run: RunArgument = "", as_json: JsonOption = False) -> None:
    """Open a run's report in the browser; it is made if there is none.

    The browser is what $BROWSER names, else what xdg-open finds. Without a display it says where the report is.
    """
    from pathlib import Path

    from limosa.cli import browser
    from limosa.cli.face import show_result
    from limosa.experiment.result import reported
    from limosa.results import archive
    from limosa.results.meant import LATEST, find

    directory = find(run or LATEST)
    page = Path(archive.of(directory).report or reported(directory).report)
    command = browser.command(page)
    if as_json:
        opened = bool(command) and browser.opened(command)
        show_result({"run": str(directory.path), "report": str(page), "opened": opened})
        return
    print(page, flush=True)
    if command:
        browser.become(command)
    print(f"  {browser.WITHOUT}")


def prune(
    keep: Annotated[int | None, Option(kind=number(0), help="How many stay, the newest ones.")] = None,
    older_than: Annotated[
        float | None, Option(kind=DURATION, help="Only those that began longer ago, as '720 h'.")
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Remove nothing; say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove old runs; one that is being written stays.

    With both --keep and --older-than those go for which both hold.
    """
    from limosa.cli.face import show_result
    from limosa.errors import SpecError
    from limosa.results import archive
    from limosa.units import format_bytes

    if keep is None and older_than is None:
        hint = "give --keep N or --older-than DURATION, and --dry-run to see it first"
        raise SpecError("which runs are to go?", hint=hint)
    going = archive.superfluous(archive.kept(), keep=keep, older_than_s=older_than)
    gone = [run for run in going if dry_run or archive.remove(run)]
    if as_json:
        show_result({"dry_run": dry_run, "removed": gone, "size_bytes": sum(run.size_bytes for run in gone)})
        return
    for run in gone:
        print(f"{'would remove' if dry_run else 'removed'} {run.id}: {format_bytes(run.size_bytes)}")
    if not gone:
        print("nothing to remove")
