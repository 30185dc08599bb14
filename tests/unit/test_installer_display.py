"""A screen as a console: what is new on it, and what becomes of keys, with a display of our own behind it."""

from __future__ import annotations

import asyncio
import itertools
import socket
from pathlib import Path

import pyte
import pytest

from limosa.errors import MachineError
from limosa.events import Events
from limosa.guest.installer import Console, Prompt, Script, Secret, Step, Surprise, Transcript, display, play
from limosa.guest.installer.display import Teletype, news, trimmed
from limosa.guest.screen.keys import Chord, character

WIDTH, HEIGHT = 20, 6


def terminal() -> tuple[pyte.Screen, pyte.Stream]:
    screen = pyte.Screen(WIDTH, HEIGHT)
    return screen, pyte.Stream(screen)


def test_what_is_new_makes_one_screen_of_the_other() -> None:
    """Whatever a program prints, and however much of it between two looks, the copy shows the same."""
    shown, stream = terminal()
    copy, copier = terminal()
    printed = ["login: ", "root\r\n", "a\r\nb\r\nc\r\n", "x" * 45 + "\r\n", "50%", "\r70%", "\r100%\r\ndone\r\n# "]
    printed += ["\x1b[2J\x1b[Hmenu\r\n one\r\n two", "\x1b[2;1H>", "\x1b[3;1H>"]
    printed += ["\x1b[H\x1b[2J", "".join(f"{n}\r\n" for n in range(40)), "end? "]
    before: tuple[str, ...] = ()
    for piece in printed:
        stream.feed(piece)
        now = trimmed(shown.display)
        copier.feed(news(before, now, WIDTH))
        # An empty last line cannot be seen, so the copy may not have scrolled for it yet.
        assert trimmed(copy.display)[-len(now) :] == now, piece
        before = now


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ((), ("login:",), "\x1b[2J\x1b[Hlogin:"),
        (("login:",), ("login:",), ""),
        (("login:",), ("login: root", "Password:"), " root\r\nPassword:"),
        (("a", "b", "c"), ("b", "c", "d"), "\r\nd"),
        (("a", "50%"), ("a", "70%"), "\r\x1b[K70%"),
        (("a", "b", "50%"), ("b", "70%"), "\r\x1b[K70%"),
        (("key " + "x" * 16,), ("key " + "x" * 16, "xxx", "ok"), "xxx\r\nok"),
        (("a", "b"), ("x", "y"), "\x1b[2J\x1b[Hx\r\ny"),
    ],
)
def test_what_is_new(before: tuple[str, ...], now: tuple[str, ...], said: str) -> None:
    assert news(before, now, WIDTH) == said


class Machine:
    """A display with a program behind it that asks, as a shell would; it can lose keys, as a busy machine does."""

    width = WIDTH

    def __init__(self, losing: int = 0, *, echo: bool = True) -> None:
        self._screen, self._stream = terminal()
        self._stream.feed("localhost login: ")
        self._line, self._losing, self._echo = "", losing, echo
        self.entered: list[str] = []
        self.gone = False

    async def lines(self) -> tuple[str, ...]:
        if self.gone:
            raise MachineError("QEMU's monitor does not answer any more")
        return trimmed(self._screen.display)

    async def press(self, chord: Chord) -> None:
        if chord == ("ret",):
            self.entered.append(self._line)
            self._line = ""
            self._stream.feed("\r\n# ")
        elif chord == ("ctrl", "u"):
            self._stream.feed("\b \b" * len(self._line))
            self._line = ""
        else:
            sign = next(sign for sign in map(chr, range(32, 127)) if character(sign) == chord)
            if self._losing and sign == "o":
                self._losing -= 1
                return
            self._line += sign
            self._stream.feed(sign if self._echo else "")


async def answered(machine: Machine, folder: Path, answer: str | Secret) -> None:
    """Play one question and its answer on *machine*."""
    near, far = socket.socketpair()
    carrying = asyncio.ensure_future(Teletype(machine, far).carry())  # type: ignore[arg-type]
    transcript = Transcript(folder / "transcript", "test")
    steps = (
        Step("ask", (Prompt("login", "login:", answer, ends=True),), 20),
        Step("shell", (Prompt("shell", "# ?", ends=True),), 20),
    )
    try:
        async with Console.over(near, transcript) as console:
            await play(Script("screen", steps), console, Events())
    finally:
        await carrying
        transcript.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LOOK_S", 0.02), ("ECHO_S", 0.5), ("NO_ECHO_S", 0.2)):
        monkeypatch.setattr(display, name, value)


@pytest.mark.usefixtures("quick")
async def test_a_line_that_lost_keys_is_taken_back_and_typed_again(tmp_path: Path) -> None:
    machine = Machine(losing=2)
    await answered(machine, tmp_path, "some long answer over lines")
    assert machine.entered == ["some long answer over lines"]


@pytest.mark.usefixtures("quick")
async def test_what_is_not_shown_is_entered_all_the_same(tmp_path: Path) -> None:
    machine = Machine(echo=False)
    await answered(machine, tmp_path, Secret("Tz7-correct|horse"))
    assert machine.entered == ["Tz7-correct|horse"]


@pytest.mark.usefixtures("quick")
async def test_a_line_that_never_comes_whole_is_not_entered(tmp_path: Path) -> None:
    machine = Machine(losing=1000)
    with pytest.raises(Surprise, match="the machine ended"):
        await answered(machine, tmp_path, "root or no one")
    assert machine.entered == []


@pytest.mark.usefixtures("quick")
async def test_a_machine_that_is_gone_ends_the_console(tmp_path: Path) -> None:
    machine = Machine()
    machine.gone = True
    with pytest.raises(Surprise, match="the machine ended"):
        await answered(machine, tmp_path, "root")


def test_every_sign_that_is_typed_is_known() -> None:
    known = {display._SIGNS[chord] for sign in range(32, 127) if (chord := character(chr(sign))) is not None}
    assert known == set(map(chr, range(32, 127)))
    assert all(a != b for a, b in itertools.combinations(display._SIGNS, 2))
