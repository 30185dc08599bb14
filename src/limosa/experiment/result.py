"""What an experiment leaves behind: a run directory with its summary and its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limosa import report
from limosa.results import store
from limosa.results.account import Account
from limosa.results.format import Summary
from limosa.results.store import RunDirectory
from limosa.results.summary import summarise


@dataclass(frozen=True, slots=True)
class Result:
    """What an experiment leaves: its run directory, the summary, and the report's file."""

    run: Path
    report: Path
    summary: Summary

    @property
    def passed(self) -> bool:
        """Whether every migration completed and everything came through unharmed; a run that did nothing did not."""
        summary = self.summary
        moved = all(row.outcome == "completed" for row in summary.migrations)
        measured = bool(summary.migrations or summary.pauses)
        return measured and moved and all(check.passed for check in summary.checks)


def reported(run: RunDirectory, account: Account | None = None) -> Result:
    """Derive the summary, write it, and make the report. Raises LimosaError for a damaged run.

    *account*: what there is to say of a bench, where it is known already.

    Example::

        result = reported(watched.run)
        for check in result.summary.checks:
            print(check.name, check.passed, check.detail)
    """
    summary = summarise(run)
    run.write(store.SUMMARY, summary)
    return Result(run.path, report.build(run.path, account), summary)
