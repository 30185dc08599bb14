"""What the terminal shows of a finished experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limosa.experiment.result import Result


def show_experiment(result: Result, as_json: bool) -> None:
    """Tables, remarks and where the report is; exits with 6 when a migration failed, with 1 when something was lost."""
    show_measured(result, as_json)
    if any(row.outcome != "completed" for row in result.summary.migrations):
        raise SystemExit(6)
    if not result.passed:
        raise SystemExit(1)


def show_measured(result: Result, as_json: bool) -> None:
    """The same, and nothing of whether it is a success."""
    from limosa.cli.columns import print_table
    from limosa.cli.face import show_result
    from limosa.cli.printable import print_sentence
    from limosa.results.summary_tables import tables

    if as_json:
        shown = {"run": str(result.run), "report": str(result.report), "passed": result.passed}
        show_result({**shown, "summary": result.summary})
    else:
        for table in tables(result.summary):
            print(f"\n{table.title}")
            print_table(table.columns, table.rows)
        for remark in result.summary.remarks:
            print_sentence("note", remark)
        print(f"\nreport: {result.report}")
