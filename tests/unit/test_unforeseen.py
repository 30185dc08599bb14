"""Whatever reaches the end of a command: one sentence, a hint, an exit code, and never a traceback."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from limosa import __main__ as command
from limosa import paths, spec
from limosa.cli import app
from limosa.cli.printable import UnprintedError
from limosa.errors import MachineError, SpecError

FULL = OSError(errno.ENOSPC, "No space left on device", "/srv/labs/run.json")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("LIMOSA_TRACE", raising=False)


@pytest.mark.parametrize(
    ("error", "exit_code", "sentence"),
    [
        (FULL, 3, "no space left for /srv/labs/run.json"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 3, "no space left"),
        (UnprintedError(errno.ENOSPC, "No space left on device"), 1, "no space left for what is printed"),
        (UnprintedError(errno.EFBIG, "File too large"), 1, "what is printed cannot be written: File too large"),
        (OSError(errno.EMFILE, "Too many open files"), 3, "files open here, and needs more"),
        (PermissionError(errno.EACCES, "Permission denied", "/srv"), 3, "/srv: Permission denied"),
        (ExceptionGroup("of tasks", [ValueError("odd"), KeyError("x")]), 1, "a fault of limosa: ValueError: odd"),
        (ExceptionGroup("of tasks", [ExceptionGroup("inner", [FULL])]), 3, "no space left for /srv/labs/run.json"),
        (ExceptionGroup("of tasks", [ValueError("a"), SpecError("wrong", hint="change it")]), 2, "limosa: wrong"),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed"), 1, "a fault of limosa: UnicodeEncodeError"),
        (RecursionError("too deep"), 1, "a fault of limosa: RecursionError: too deep"),
    ],
)  # fmt: skip
def test_a_sentence_and_a_hint(
    error: BaseException, exit_code: int, sentence: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fails(_words: list[str]) -> int:
        raise error

    monkeypatch.setattr(app, "call", fails)
    assert command._run(["up"]) == exit_code
    said = capsys.readouterr().err
    assert sentence in said and "  hint: " in said and "Traceback" not in said
    assert command._run(["up", "--json"]) == exit_code
    assert json.loads(capsys.readouterr().out)["exit_code"] == exit_code


def test_a_fault_keeps_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def at_fault(_words: list[str]) -> int:
        raise ValueError("of nobody's making")

    monkeypatch.setattr(app, "call", at_fault)
    command._run(["up"])
    kept = tmp_path / "limosa/last-fault.txt"
    assert str(kept) in capsys.readouterr().err
    assert "at_fault" in kept.read_text() and "Traceback" in kept.read_text()
    monkeypatch.setenv("LIMOSA_TRACE", "1")
    command._run(["up"])
    assert "Traceback" in capsys.readouterr().err


def test_places_whose_names_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "x\udcff"
    folder.mkdir()
    (folder / "lab.yaml").write_text("hosts: {host1: {}}\n")
    with pytest.raises(SpecError, match="UTF-8"):
        spec.load(folder / "lab.yaml")
    monkeypatch.chdir(folder)
    with pytest.raises(SpecError, match="UTF-8"):
        spec.load("lab.yaml")
    for variable, place in (("XDG_STATE_HOME", paths.state), ("XDG_CACHE_HOME", paths.cache)):
        monkeypatch.setenv(variable, str(folder))
        with pytest.raises(MachineError, match="no name in UTF-8") as refused:
            place()
        assert variable in refused.value.hint


def test_few_files_are_enough() -> None:
    """A caller's file above the limit, as shells have theirs, is no hindrance to what is started and goes on."""
    script = (
        "import os, resource, sys; from limosa import process\n"
        "os.dup2(0, 200); os.set_inheritable(200, True)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))\n"
        "pid = process.detach(['true'], log=os.devnull)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_caller_closed_leads_nowhere(closed: str) -> None:
    look = "import os, sys; from limosa.__main__ import main; sys.argv[1:] = ['ls']\ntry: main()\nfinally:"
    look += " found = [os.fstat(number) for number in range(3)]; sys.exit(0 if len(found) == 3 else 9)"
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, look], check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_trace_is_its_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def at_fault(_words: list[str]) -> int:
        raise ValueError("of nobody's making")

    monkeypatch.setattr(app, "call", at_fault)
    assert command._run(["up"]) == 1
    assert (tmp_path / "limosa" / "last-fault.txt").stat().st_mode & 0o077 == 0
