"""What may be skipped: the list is sound, and on CI's machine it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import permitted_skips
from tests.permitted_skips import EVERY, LIST, Machines, Permitted

pytest_plugins = ["pytester"]
TESTS = Path(__file__).parents[1]
CONFTEST = TESTS / "conftest.py"
ELSEWHERE = Machines("elsewhere", lambda: False)


def test_the_list_is_of_tests_that_exist_and_of_reasons_that_they_give() -> None:
    texts = [*TESTS.rglob("*.py"), *(TESTS.parent / "src").rglob("*.py")]
    said = "".join(path.read_text() for path in texts if "permitted_skips" not in path.name)
    for entry in LIST:
        file = entry.tests.partition("::")[0]
        assert file == "tests/*" or (TESTS.parent / file).is_file(), entry
        assert [reason for reason in entry.reasons if reason not in said] == [], entry


@pytest.mark.parametrize(("nodeid", "reason", "may"), [
    ("tests/unit/test_a.py::test_x", "there is no moon", True),
    ("tests/unit/test_a.py::test_x", "there is no sun", False),
    ("tests/unit/test_a.py::test_x", "there is no wind", False),  # permitted on other machines
    ("tests/unit/test_b.py::test_x", "there is no moon", False),
])  # fmt: skip
def test_test_reason_and_machine_have_to_fit(
    monkeypatch: pytest.MonkeyPatch, nodeid: str, reason: str, may: bool
) -> None:
    entries = Permitted("tests/unit/test_a.py::*", ("no moon",), EVERY), Permitted("tests/*", ("no wind",), ELSEWHERE)
    monkeypatch.setattr(permitted_skips, "LIST", entries)
    assert permitted_skips.permitted(nodeid, reason) is may


def skipping(pytester: pytest.Pytester, reasons: Sequence[str]) -> None:
    pytester.makeconftest(CONFTEST.read_text())
    lines = [f"def test_{n}():\n    pytest.skip({reason!r})\n" for n, reason in enumerate(reasons)]
    path = pytester.path / "tests" / "unit" / "test_some.py"
    path.parent.mkdir(parents=True)
    path.write_text("import pytest\ndef test_a(): pass\n" + "".join(lines))


@pytest.mark.parametrize(("ci", "reasons", "code"), [
    ("true", ["no moon tonight"], pytest.ExitCode.OK),
    ("true", ["no moon tonight", "pip is missing"], pytest.ExitCode.TESTS_FAILED),
    ("", ["no moon tonight", "pip is missing"], pytest.ExitCode.OK),
    ("true", [], pytest.ExitCode.OK),
])  # fmt: skip
def test_on_cis_machine_any_other_skip_fails_the_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, reasons: list[str], code: pytest.ExitCode
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(permitted_skips, "LIST", (Permitted("tests/unit/*", ("no moon",), EVERY),))
    skipping(pytester, reasons)
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "tests")
    result.assert_outcomes(passed=1, skipped=len(reasons))
    assert result.ret == code
    said = "NOT PERMITTED TO BE SKIPPED HERE: tests/unit/test_some.py::test_1: pip is missing"
    assert (said in result.outlines) is (code != pytest.ExitCode.OK)
