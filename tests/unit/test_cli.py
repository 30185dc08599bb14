"""The command line as it is put together: every verb speaks JSON and describes itself, names are completed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from limosa import spec
from limosa.cli.app import assemble
from limosa.cli.face import face, show_error
from limosa.cli.printable import print_sentence, printable
from limosa.cli.usage import call
from limosa.errors import SpecError
from limosa.lab.record import LabDirectory


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
    for name, child in (children or {}).items():
        yield from verbs(child, (*path, name))


VERBS = dict(verbs(typer.main.get_command(assemble())))


def test_the_verbs_are_all_here() -> None:
    names = {" ".join(path) for path in VERBS}
    assert names >= {
        "demo", "up", "down", "status", "start", "stop", "migrate", "console", "ssh", "exec", "logs", "doctor",
        "report", "explain", "calibrate", "schema", "host power-off", "host cut", "host restore",
    }  # fmt: skip


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_verb_accepts_json_and_describes_itself(path: tuple[str, ...]) -> None:
    command = VERBS[path]
    options = {name for parameter in command.params for name in parameter.opts}
    assert "--json" in options
    assert command.help
    assert all(parameter.help for parameter in command.params)


@pytest.mark.parametrize(("words", "message", "hint"), [
    (["statsu"], "there is no verb statsu", "did you mean limosa status?"),
    (["host", "cutt"], "there is no verb cutt", "did you mean limosa host cut?"),
    (["status", "--jsn"], "limosa status has no option --jsn", "did you mean --json?"),
    (["migrate"], "missing argument 'guest'", "usage: limosa migrate [OPTIONS]"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else None)  # fmt: skip
def test_wrong_usage_is_an_error_of_ours(
    words: list[str], message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["limosa", *words])
    with pytest.raises(SpecError) as caught:
        call(assemble())
    assert caught.value.message == message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_progress_that_nobody_reads_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        with face(False) as events, events.stage("one"):
            events.note("two")
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            gone.write("x" * 10_000)
            gone.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), gone.fileno())


def complete(home: Path, *words: str) -> list[str]:
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(home),
        "_LIMOSA_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["limosa", *words]),
        "COMP_CWORD": str(len(words)),
        "PYTHONPATH": str(Path(spec.__file__).parents[2]),
    }
    argv = [sys.executable, "-m", "limosa"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_verbs_guests_hosts_and_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "shop.yaml").write_text(
        "hosts: {alpha: {}, beta: {}}\nguests: {web: {host: alpha}, db: {host: beta}}\n"
    )
    LabDirectory.named("shop").create(spec.load(tmp_path / "shop.yaml"))
    assert complete(tmp_path, "mig") == ["migrate"]
    assert complete(tmp_path, "migrate", "w") == ["web"]
    assert complete(tmp_path, "migrate", "web", "b") == ["beta"]
    assert complete(tmp_path, "status", "--lab", "s") == ["shop"]


def test_version_and_help_of_completion() -> None:
    argv = [sys.executable, "-m", "limosa"]
    said = subprocess.run([*argv, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("limosa ") and said[7].isdigit()
    assert (
        "--install-completion" in subprocess.run([*argv, "--help"], capture_output=True, text=True, check=True).stdout
    )


def test_what_a_guest_wrote_does_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    wrote = "root@guest1:~# \x1b[6n\x1b]0;title\x07a\tb\r\n\x1b[31mred\x1b[0m \x9b5n\x1bP1$r\x1b\\\x07end\x1b["
    assert printable(wrote) == "root@guest1:~# a\tb\nred 5nend"
    assert printable("größer → 3 µs") == "größer → 3 µs"
    show_error(SpecError("its console ends: \x1b[6nlogin:", hint="\x1b[2Jlimosa logs"), as_json=False)
    assert capsys.readouterr().err == "limosa: its console ends: login:\n  hint: limosa logs\n"


def test_sentences_are_broken_between_words_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "The guest ran under emulation, where times are far from those under KVM."
    print_sentence("note", text)
    assert capsys.readouterr().out == f"note: {text}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_sentence("note", text)
    assert capsys.readouterr().out == (
        "note: The guest ran under emulation,\n  where times are far from those under\n  KVM.\n"
    )
