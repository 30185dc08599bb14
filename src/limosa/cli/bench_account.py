"""What a bench has measured, on the terminal or as JSON; the same for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    from limosa.bench.entry import Entry
    from limosa.results.account import Account
    from limosa.results.store import RunDirectory

S = TypeVar("S")


def run_bench(
    entry: Entry[S], settings: S, as_json: bool, *, file: Path | None = None, no_install: bool = True
) -> None:
    """Measure on labs that end with it, and show what there is to say; *file* is the lab with several hosts."""
    from limosa.cli.face import face, run
    from limosa.experiment.lab_bed import LabBeds

    async def work() -> RunDirectory:
        with face(as_json) as events:
            return await entry.measure(settings, LabBeds(events, file=file, no_install=no_install), events)

    show_bench(run(work), as_json)


def show_bench(run: RunDirectory, as_json: bool) -> None:
    """The figures, what follows from them, what makes them unsound, and where the report is.

    Exits with 1 when something was lost while it was measured; what cannot be had here is no failure.
    """
    from limosa.bench.benches import told
    from limosa.cli.face import show_result
    from limosa.experiment.result import reported

    account = told(run)
    report = reported(run, account).report
    if as_json:
        shown = {"run": str(run.path), "report": str(report), **account.figures}
        show_result({**shown, "explanations": account.explanations, "findings": account.findings})
    else:
        _print(account, report)
    if not account.whole:
        raise SystemExit(1)


def _print(account: Account, report: Path) -> None:
    from limosa.cli.columns import print_table
    from limosa.cli.printable import print_sentence

    print(f"\n{account.table.title}")
    print_table(account.table.columns, account.table.rows)
    for sentence in account.reasons:
        print_sentence("note", sentence)
    for sentence in account.explanations:
        print_sentence("it follows", sentence)
    for finding in account.findings:
        print_sentence(finding.severity, finding.text)
    for source in account.sources:
        print_sentence("reference", source)
    print(f"\nreport: {report}")
