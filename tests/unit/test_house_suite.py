"""The suite's own last words."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"


def test_skipped_are_grouped_and_whole_files_are_shouted(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.read_text())
    files = {
        "tests/system/test_kvm.py": "import pytest\n@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_a(n):\n    pytest.skip('no KVM here')\n",
        "tests/unit/test_one.py": "import pytest\ndef test_a(): pass\ndef test_b():\n    pytest.skip('no KVM here')\n",
    }
    for name, text in files.items():
        path = pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "tests")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(
        [
            "*skipped, and why*",
            "   3  no KVM here  (tests/system/test_kvm.py, tests/unit/test_one.py)",
            "NOT TESTED AT ALL: tests/system/test_kvm.py (2 skipped): no KVM here",
            "1 passed, 3 skipped in *",
        ]
    )


def test_order_is_gate_unit_system(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.read_text())
    for folder in ("system", "gate", "unit", "other"):
        path = pytester.path / "tests" / folder / f"test_{folder}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("def test_a(): pass\n")
    result = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider", "-p", "no:asyncio", "tests")
    assert "skipped, and why" not in result.stdout.str()
    ran = [line.split("/")[1] for line in result.outlines if "PASSED" in line]
    assert ran == ["gate", "unit", "system", "other"]
