"""What is handed on to a root of another distribution, and what is said of a suite that ran there."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import distributions, elsewhere, machine_settings, other_root, permitted_skips
from tests.distributions import DISTRIBUTIONS


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [
        (["--on", "trixie"], []),
        (["--on=trixie", "-k", "rescue"], ["-k", "rescue"]),
        (["-x", "--on", "trixie", "tests/unit"], ["-x", "tests/unit"]),
    ],
)
def test_the_other_arguments_are_handed_on(given: list[str], handed_on: list[str]) -> None:
    assert elsewhere.passed_on(given) == handed_on


def test_the_last_lines_begin_where_pytest_sums_up() -> None:
    end = ["== skipped, and why ==", "   1  only root", "== short test summary info ==", "FAILED a", "1 failed in 2s"]
    assert elsewhere.summary(["....", *end]) == end
    assert elsewhere.summary(["....", "2 passed in 1s"]) == ["2 passed in 1s"]


def test_what_runs_there_ends_with_the_command() -> None:
    script = "; ".join((
        "import signal, sys",
        "from tests import elsewhere",
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))",
        "elsewhere.shown(['sh', '-c', 'echo $$; exec sleep 1000'])",
    ))  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{other_root.ROOT / 'src'}"}
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=other_root.ROOT, env=environment, stdout=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        running = int(command.stdout.readline())
        command.terminate()
        assert command.wait(60) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(running, 0)


def test_only_where_the_mirror_does_not_answer_may_be_skipped_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A mirror on the disk, which apt reads as any other: first nothing is there, then all that is asked for."""
    trixie, test = DISTRIBUTIONS["trixie"], "tests/system/test_other_distributions.py::test_x"
    monkeypatch.setattr(other_root, "mirror", lambda: f"file:{tmp_path}/")
    reason = other_root.unreachable(trixie)
    assert reason.startswith("the packages of Debian 13 cannot be fetched: ")
    assert permitted_skips.permitted(test, reason)
    (tmp_path / "dists/trixie").mkdir(parents=True)
    (tmp_path / "dists/trixie/InRelease").touch()
    apt = other_root.APT_HELPER.exists()
    assert (other_root.unreachable(trixie) == "") is apt
    assert permitted_skips.permitted(test, reason) is not apt


def test_what_pip_is_told_of_on_this_disk_is_shown_there(tmp_path: Path) -> None:
    for name in ("wheels", "index/simple", "index/files"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "limits.txt").touch()
    settings = configparser.RawConfigParser()
    settings["global"] = {
        "find-links": f"{tmp_path}/wheels {tmp_path}/absent",
        "extra-index-url": f"file://{tmp_path}/index/simple https://packages.test/simple",
        "cert": "/etc/ssl/certs/ca-certificates.crt",
    }
    found = machine_settings.named_paths(settings, {"PIP_CONSTRAINT": f"{tmp_path}/limits.txt", "HOME": str(tmp_path)})
    assert found == [tmp_path / "index", tmp_path / "limits.txt", tmp_path / "wheels"], "an index with what lies beside"


def test_settings_are_written_as_programs_read_them(tmp_path: Path) -> None:
    machine_settings.hand_on(tmp_path)
    assert (tmp_path / "etc/pip.conf").exists()
    lines = (tmp_path / "etc/apt/apt.conf.d/99machine").read_text().splitlines()
    assert all(line.startswith("Acquire::") and line.endswith('";') for line in lines)


def test_readme_promises_what_is_tried_and_says_what_is_not() -> None:
    text = " ".join(Path(__file__).parents[2].joinpath("README.md").read_text().split())
    for row in distributions.DISTRIBUTIONS.values():
        assert row.title in text
        assert bool(row.untried) == (f"{row.title}, which has not been tried" in text), row.title
