"""Order, turns and last words of the suite.

The gate comes first and the slow real parts last. Tests run side by side, those that measure time alone (``turns``).
At the end stands what was skipped, with why, and how many slow tests were left out. On CI's machine the run fails where
something was skipped that is not on the list of ``permitted_skips``.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import pytest
from _pytest.terminal import TerminalReporter

from tests import permitted_skips, slow, turns

ORDER = ("gate", "unit", "golden", "contract", "system")
LONG_FIRST = (
    "test_other_distributions.py",
    "test_ssh_servers.py",
    "test_installer_iso.py",
    "test_containers.py",
    "test_mixed_labs.py",
    "test_container_labs.py",
    "test_migration_faults.py",
    "test_post_copy.py",
    "test_tls_post_copy.py",
    "test_demo_ended.py",
    "test_documents.py",
    "test_own_disk.py",
    "test_homework.py",
    "test_bench_during.py",
    "test_screen.py",
)
"""Of the system tests, the files that take longest: begun last, one of them would keep a single worker busy."""
MOST_WORKERS = 4
"""A worker's test may run several QEMUs: beyond this memory is the limit, not the number of CPUs."""

SLOW_TIMEOUT_S = 3600
"""A slow test may last so long before it is said to hang; any other, what ``pyproject.toml`` says."""

LEFT_OUT = pytest.StashKey[int]()


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """An event loop for all tests of a file, where what they share is bound to one."""
    with asyncio.Runner() as runner:
        yield runner


def pytest_addoption(parser: pytest.Parser) -> None:
    """``./limosa test --slow`` and ``--on``."""
    parser.addoption("--on", metavar="DISTRIBUTION", help="run all of it in a root of another distribution: trixie")
    parser.addoption("--slow", action="store_true", help=f"run the slow tests too (or set {slow.VARIABLE}=1)")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """With ``--on`` nothing is run here."""
    if config.option.on is None:
        return None
    from tests import elsewhere

    return elsewhere.main(config.option.on, elsewhere.passed_on(config.invocation_params.args))


def pytest_configure(config: pytest.Config) -> None:
    """Before any test is read, as some decide by it how often they repeat; workers and children inherit it."""
    if config.option.slow:
        os.environ[slow.VARIABLE] = "1"


# -- which tests, in which order, how many at once --------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """A worker more than there are CPUs, as most tests wait for something most of the time; none where only some are
    wanted, or where they talk to the terminal."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    some = any(argument.partition("::")[0].endswith(".py") for argument in config.args)
    if some or config.option.keyword or config.option.collectonly or config.option.capture == "no":
        return 0
    return min(len(os.sched_getaffinity(0)) + 1, MOST_WORKERS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Quick failures first: by folder, else in the order that pytest found; slow ones only where they are wanted."""
    items.sort(key=_place)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))
    wanted = slow.wanted() or "slow" in config.option.markexpr
    named = {argument.partition("[")[0] for argument in config.args if "::" in argument}
    left_out = [
        item for item in items
        if not wanted and item.get_closest_marker("slow") and item.nodeid.partition("[")[0] not in named
    ]  # fmt: skip
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    config.stash[LEFT_OUT] = len(left_out)


def _place(item: pytest.Item) -> tuple[int, int]:
    folder, file = _folder(item.nodeid), item.nodeid.split("::")[0].rpartition("/")[2]
    first = ORDER.index(folder) if folder in ORDER else len(ORDER)
    return first, LONG_FIRST.index(file) if file in LONG_FIRST else len(LONG_FIRST)


def _folder(nodeid: str) -> str:
    parts = nodeid.split("::")[0].split("/")
    return parts[1] if len(parts) > 2 else ""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Setup, call and teardown of a test in its turn; what it waits for that does not count towards its timeout."""
    with turns.turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


# -- first words: a run that is cut short has said what failed ---------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """At once on CI's machine, where nobody can ask a run that did not come to its end."""
    if report.failed and permitted_skips.is_ci() and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        print(f"\n{report.nodeid} ({report.when}): {crash.message if crash else report.longrepr}", flush=True)


# -- last words -------------------------------------------------------------------------------------------------------


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells the one who prints what it left out; each worker sees all tests. That one judges the skips."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash.get(LEFT_OUT, 0)
    elif session.exitstatus == pytest.ExitCode.OK and _not_permitted(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _not_permitted(config: pytest.Config) -> list[str]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not permitted_skips.is_ci():
        return []
    return permitted_skips.complaints(_skipped(reporter))


def _skipped(reporter: TerminalReporter) -> dict[str, str]:
    """The reason by the test's id."""
    return {report.nodeid: _reason(report) for report in reporter.stats.get("skipped", [])}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Hear that."""
    told = getattr(node, "workeroutput", {}).get("left_out", 0)
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    config.stash[LEFT_OUT] = max(told, config.stash.get(LEFT_OUT, 0))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """List what was skipped and left out, and shout where nothing of a whole file was tested."""
    skipped = _skipped(terminalreporter)
    ran = [
        report.nodeid
        for outcome, reports in terminalreporter.stats.items()
        if outcome in ("passed", "failed", "error", "xfailed", "xpassed")
        for report in reports
    ]
    if skipped:
        terminalreporter.section("skipped, and why")
        for line in grouped(skipped):
            terminalreporter.write_line(line)
        for line in untested(skipped, ran):
            terminalreporter.write_line(line, red=True, bold=True)
        for line in _not_permitted(config):
            terminalreporter.write_line(line, red=True, bold=True)
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"left out because slow: {left_out}; ./limosa test --slow runs them too")


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
