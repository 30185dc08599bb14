"""What others wrote commands no terminal, whichever way it is printed."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from limosa.cli import face, printable
from limosa.cli.columns import print_table
from limosa.cli.live import LiveFace
from limosa.errors import LimosaError
from limosa.events import Note, StageFinished, StageStarted

EVIL = (
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x1b]52;c;cm0gLXJmIC8=\x1b\\",
    "\x1bP+q\x1b\\",
    "\x1bc",
    "\x1b",
    "\x9b2J",
    "\x9d0;x\x9c",
    "\r",
    "\x08\x08",
    "\x07",
    "\0",
    "\x7f",
    "\u202e",
    "\u2066",
    "\u2028",
    "\udcff",
)
TEXT = "one " + " two ".join(EVIL) + " three\n\tfour ✓ é"


def commands(text: str) -> list[str]:
    """The characters of *text* that a terminal would obey, or that cannot be written."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t"]


def test_nothing_is_left_to_obey_and_no_word_is_lost() -> None:
    shown = printable.printable(TEXT)
    assert commands(shown) == [] and shown.startswith("one ") and shown.endswith(" three\n\tfour ✓ é")
    assert shown.count("two") >= len(EVIL) - 2, "but for the one that stands in a sequence"
    for evil in EVIL:
        assert commands(printable.printable(evil + evil)) == []


def guarded(monkeypatch: pytest.MonkeyPatch) -> tuple[io.StringIO, io.StringIO]:
    """What is printed from now on."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    printable.guard()
    printable.guard()
    return out, err


def test_whatever_is_printed_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = guarded(monkeypatch)
    print(TEXT)
    sys.stdout.writelines([TEXT, "\x1b", "[2J"])
    face.show_error(LimosaError(TEXT, hint=TEXT), as_json=False)
    shown = face.PlainFace()
    shown(Note(text=TEXT, level="warning"))
    shown(StageFinished(stage=TEXT, duration_s=1, ok=True))
    print_table(["a"], [[TEXT]])
    for stream in streams:
        assert "three" in stream.getvalue() and commands(stream.getvalue()) == []
    assert printable.raw(sys.stdout) is streams[0]


def test_json_keeps_every_character(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = guarded(monkeypatch)
    plain = TEXT.replace("\udcff", "")
    face.show_result({"text": plain})
    face.show_result({"text": TEXT})
    documents = streams[0].getvalue().split("\n}\n")
    assert [json.loads(d + "}")["text"] for d in documents[:2]] == [plain, TEXT]
    assert commands(streams[0].getvalue()) == []


def test_the_live_display_draws_and_notes_command_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("FORCE_COLOR", "1")
    printable.guard()
    with LiveFace() as live:
        live(StageStarted(stage=TEXT))
        live(Note(text=TEXT, level="warning"))
        live(StageFinished(stage=TEXT, duration_s=1, ok=True))
    drawn = err.getvalue()
    assert "three" in drawn
    for evil in ("\x1b[2J", "\x1b]", "\x1bP", "\x1bc", "\x9b", "\x07", "\u202e", "\0"):
        assert evil not in drawn


def test_the_command_line_is_guarded_on_a_terminal(tmp_path: Path) -> None:
    """A lab's name from the shell, on a real terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path), "LIMOSA_LAB": ""}
    argv = [sys.executable, "-m", "limosa", "logs", "\x1b[2J\x9bguest", "--lab", "no\u202esuch"]
    child = subprocess.Popen(argv, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 4096):
            said += chunk
    except OSError:  # the terminal's other side is closed: that is its end
        pass
    os.close(ours)
    assert child.wait() == 2
    assert b"cannot be the name of a lab" in said and b"\x1b" not in said and "\u202e".encode() not in said
