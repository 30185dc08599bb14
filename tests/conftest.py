"""Order and last words of the suite: the gate first, the slow real parts last, and what was skipped, with why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import pytest
from _pytest.terminal import TerminalReporter

ORDER = ("gate", "unit", "golden", "contract", "system")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick failures first: by folder, else in the order that pytest found."""
    items.sort(key=lambda item: ORDER.index(folder) if (folder := _folder(item.nodeid)) in ORDER else len(ORDER))


def _folder(nodeid: str) -> str:
    parts = nodeid.split("::")[0].split("/")
    return parts[1] if len(parts) > 2 else ""


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """List what was skipped, and shout where nothing of a whole file was tested."""
    skipped = {r.nodeid: _reason(r) for r in terminalreporter.stats.get("skipped", [])}
    ran = [
        report.nodeid
        for outcome, reports in terminalreporter.stats.items()
        if outcome in ("passed", "failed", "error", "xfailed", "xpassed")
        for report in reports
    ]
    if not skipped:
        return
    terminalreporter.section("skipped, and why")
    for line in grouped(skipped):
        terminalreporter.write_line(line)
    for line in untested(skipped, ran):
        terminalreporter.write_line(line, red=True, bold=True)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def grouped(skipped: Mapping[str, str]) -> list[str]:
    """One line a reason: how many tests, why, and in which files."""
    counts = Counter(skipped.values())
    lines = []
    for reason, count in counts.most_common():
        files = sorted({nodeid.split("::")[0] for nodeid, why in skipped.items() if why == reason})
        lines.append(f"{count:4}  {reason}  ({', '.join(files)})")
    return lines


def untested(skipped: Mapping[str, str], ran: Sequence[str]) -> list[str]:
    """One line for each file of which every test was skipped: a whole capability that nothing tested."""
    reasons = defaultdict(list)
    for nodeid, reason in skipped.items():
        reasons[nodeid.split("::")[0]].append(reason)
    alive = {nodeid.split("::")[0] for nodeid in ran}
    return [
        f"NOT TESTED AT ALL: {file} ({len(why)} skipped): {Counter(why).most_common(1)[0][0]}"
        for file, why in sorted(reasons.items())
        if file not in alive
    ]
