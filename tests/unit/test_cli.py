"""The command line as it is put together: every verb speaks JSON and describes itself, names are completed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, cast

import pytest

from limosa import spec
from limosa.cli.app import call
from limosa.cli.declared import Argument, Option, Parameter, parameters
from limosa.cli.face import face, show_error
from limosa.cli.printable import print_sentence, printable
from limosa.cli.values import FILE, NEW_NAME, NUMBER
from limosa.cli.verbs import VERBS
from limosa.cli.words import HelpAskedError, read, usage
from limosa.errors import SpecError
from limosa.lab.record import LabDirectory


def takes(path: str) -> list[Parameter]:
    return parameters(function(path))


def function(path: str) -> Callable[..., None]:
    module, name, _ = VERBS[path]
    return cast("Callable[..., None]", getattr(import_module(f"limosa.cli.{module}"), name))


def test_the_verbs_are_all_here() -> None:
    assert VERBS.keys() >= {
        "demo", "up", "down", "status", "start", "stop", "migrate", "console", "ssh", "exec", "logs", "doctor",
        "report", "explain", "calibrate", "schema", "host power-off", "host cut", "host restore",
    }  # fmt: skip


@pytest.mark.parametrize("path", VERBS)
def test_every_verb_accepts_json_and_describes_itself(path: str) -> None:
    assert any("--json" in parameter.names for parameter in takes(path))
    assert all(parameter.declared.help for parameter in takes(path))
    assert function(path).__doc__


@pytest.mark.parametrize("path", VERBS)
def test_the_table_of_verbs_says_what_they_say(path: str) -> None:
    paragraph = " ".join((function(path).__doc__ or "").split("\n\n")[0].split())
    about = VERBS[path][2]
    assert paragraph.startswith(about) and about.endswith(".")
    assert paragraph == about or paragraph[len(about)] == " "


@pytest.mark.parametrize(("words", "message", "hint"), [
    (["statsu"], "there is no verb statsu", "did you mean limosa status?"),
    (["host", "cutt"], "there is no verb cutt", "did you mean limosa host cut?"),
    (["status", "--jsn"], "limosa status has no option --jsn", "did you mean --json?"),
    (["migrate"], "missing argument GUEST", "usage: limosa migrate [OPTIONS] GUEST HOST; limosa migrate -h"),
    (["migrate", "a", "b", "c", "d"], "got unexpected extra argument: c d", "usage: limosa migrate"),
    (["status", "--lab"], "--lab needs a value", "usage: limosa status [OPTIONS]; limosa status -h explains it"),
    (["status", "--json=yes"], "--json takes no value", "usage: limosa status"),
    (["logs", "-n", "0"], "-n: 0 is less than 1", "usage: limosa logs"),
    (["bench", "cpu", "--threads=256"], "--threads: 256 is more than 255", "usage"),
    (["logs", "-nx"], "-n: 'x' is not a whole number", "usage"),
    (["migrate", "g", "h", "--timeout", "5"], "--timeout: '5' has no unit, write for instance 300 ms (units: ns, us, "
     "µs, ms, s, min, h)", "as in --timeout '30 s'"),
    (["migrate", "g", "h", "--timeout", "0 s"], "--timeout: '0 s' is less than 1 ms", "as in --timeout '30 s'"),
    (["bench", "cpu", "--time", "1.5 s"], "--time: '1.5 s' is not a whole number of seconds", "as in --time '30 s'"),
    (["bench", "cpu", "--guest", "micor"], "--guest: 'micor' is none of micro, bare; did you mean micro?", "usage:"),
    (["image", "build", "solaris"], "system: 'solaris' is none of debian", "usage: limosa image build"),
    (["image", "install", "alpine", "--step-limit=0s"], "--step-limit: '0s' is less than 1 s", "as in --step-limit"),
    (["image", "install", "alpine", "--size", "0 B"], "--size: '0 B' is less than 1 B", "as in --size"),
    (["exec", "host2", "ip", "-br"], "-br belongs to the command", "put -- before it: limosa exec host2 -- ip -br …"),
    (["ssh", "guest1", "ls", "--all"], "--all belongs to the command", "limosa ssh guest1 -- ls --all …"),
    (["exec", "host2", "-br"], "limosa exec has no option -b", "limosa exec -h lists the options"),
    (["--jsn"], "limosa has no option --jsn", "limosa -h lists the options"),
    (["--versoin"], "limosa has no option --versoin", "did you mean --version?"),
    (["host", "--version"], "limosa host has no option --version", "limosa host -h lists the options"),
    (["--show-completion", "csh"], "there is no completion for the shell csh", "bash, zsh or fish"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else None)  # fmt: skip
def test_wrong_usage_is_an_error_of_ours(words: list[str], message: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        call(words)
    assert caught.value.message == message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def verb(
    first: Annotated[str, Argument(kind=NEW_NAME, help="One.")],
    rest: Annotated[list[str] | None, Argument(kind=NEW_NAME, help="More.")] = None,
    size: Annotated[int, Option(kind=NUMBER, help="How much.")] = 5,
    tag: Annotated[list[str], Option("--tag", "-t", kind=NEW_NAME, help="May be repeated.")] = [],  # noqa: B006
    wait: Annotated[bool, Option(help="Wait.")] = True,
    force: Annotated[bool, Option("--force", "-f", help="Force.")] = False,
    file: Annotated[Path | None, Option(kind=FILE, help="A file.")] = None,
) -> None: ...


@pytest.mark.parametrize(("words", "read_as"), [
    ("a", {}),
    ("a b c", {"rest": ["b", "c"]}),
    ("--size 7 a", {"size": 7}),
    ("a --size=7 b", {"size": 7, "rest": ["b"]}),
    ("a --size 1 --size 2", {"size": 2}),
    ("a -t x --tag y -tz --tag=", {"tag": ["x", "y", "z", ""]}),
    ("a --tag --force", {"tag": ["--force"]}),
    ("a --no-wait -f", {"wait": False, "force": True}),
    ("a --no-wait --wait", {}),
    ("a --file x/y", {"file": Path("x/y")}),
    ("a -- --size -h --", {"rest": ["--size", "-h", "--"]}),
    ("a -", {"rest": ["-"]}),
])  # fmt: skip
def test_words_are_read_as_the_function_declares(words: str, read_as: dict[str, Any]) -> None:
    defaults = {"first": "a", "rest": None, "size": 5, "tag": [], "wait": True, "force": False, "file": None}
    assert read("limosa verb", parameters(verb), words.split()) == defaults | read_as


@pytest.mark.parametrize("words", ["-h", "a --help", "--size 3 -h", "--help --what"])
def test_help_is_asked_for_anywhere_before_two_dashes(words: str) -> None:
    with pytest.raises(HelpAskedError):
        read("limosa verb", parameters(verb), words.split())


def test_usage_shows_what_may_be_left_out() -> None:
    assert usage("limosa verb", parameters(verb)) == "limosa verb [OPTIONS] NAME [NAME...]"


def test_pages_of_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert call(["status", "--help"]) == 0
    assert capsys.readouterr().out == (
        "Usage: limosa status [OPTIONS]\n\n  Say which hosts are on and what each guest does where.\n\nOptions:\n"
        "  --lab LAB   The lab: its file or its name. Without it:\n"
        "              $LIMOSA_LAB, ./limosa.yaml, or the only lab\n              that is up.\n"
        "  --json      Print the result as one JSON document.\n  -h, --help  Show this page.\n"
    )
    for words, code in (["host", "-h"], 0), (["host"], 2), ([], 2), (["-h"], 0):
        assert call(words) == code
        shown = capsys.readouterr()
        text = shown.err if code else shown.out
        assert text.startswith(f"Usage: limosa {'host ' if words[:1] == ['host'] else ''}VERB ...\n")
        assert max(map(len, text.splitlines())) <= 60
        assert ("power-off" in text) == (words[:1] == ["host"])


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


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a lab, and limosa on the path."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "shop.yaml").write_text("hosts: {alpha: {}, beta: {}}\nguests: {web: {host: alpha}}\n")
    LabDirectory.named("shop").create(spec.load(tmp_path / "shop.yaml"))
    program = tmp_path / "bin/limosa"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m limosa "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(spec.__file__).parents[2]))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


ASKS = {
    "bash": """source ~/.bashrc; COMP_WORDS=(limosa {}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
compopt() {{ echo "$@"; }}; _limosa_completion limosa; printf '%s\n' "${{COMPREPLY[@]}}" """,
    "fish": "complete -C 'limosa {}'",
    "zsh": """fpath+=~/.zfunc; compdef() {{ :; }}; _describe() {{ print -l -- $found; }}
_files() {{ print files "$@"; }}
words=(limosa {}); CURRENT=${{#words}}; source ~/.zfunc/_limosa; _limosa_completion""",
}
"""How each shell is brought to say what it would complete."""

FILES_OF: dict[str, tuple[list[str], list[str]]] = {
    "bash": (["-o default"], ["-o dirnames"]),
    "zsh": (["files"], ["files -/"]),
    "fish": ([], []),
}
"""How each is told to complete files, and directories; fish does both by itself, and there are none here."""


@pytest.mark.parametrize("shell", ASKS)
def test_real_shells_complete(shop: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    for _ in range(2):
        assert (
            shell
            in subprocess.run(
                ["limosa", "--install-completion", shell], capture_output=True, text=True, check=True
            ).stdout
        )
    if shell != "fish":
        settings = (shop / f".{shell}rc").read_text()
        assert len(settings.splitlines()) == 1

    def asked(words: str) -> list[str]:
        argv = [shell, "-c", ASKS[shell].format(words)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.stderr == ""
        return [line.replace(":", "\t").split("\t")[0] for line in done.stdout.splitlines()]

    assert asked("mig") == ["migrate"]
    assert asked("host c") == ["cut"]
    assert asked("migrate web b") == ["beta"]
    assert asked("status --lab s") == ["shop"]
    assert asked("status --l") == ["--lab"]
    assert asked("runs p") == ["prune"]
    files, directories = FILES_OF[shell]
    assert [word for word in asked("demo --lab zzz") if word] == files
    assert [word for word in asked("report --output zzz") if word] == directories
    assert [word for word in asked("migrate web beta --timeout 5") if word] == []


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


def test_explanations_are_indented_on_a_terminal_and_commands_stay_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, purpose = "-sandbox on,obsolete=deny,elevateprivileges=deny", "Lets the kernel refuse what is not needed."
    monkeypatch.setattr("limosa.cli.explain._of_guest", lambda *_: [(command, purpose)])
    call(["explain", "guest1"])
    assert capsys.readouterr().out == f"{command}\n    {purpose}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "36")
    call(["explain", "guest1"])
    assert capsys.readouterr().out == (f"{command}\n    Lets the kernel refuse what is\n    not needed.\n")
