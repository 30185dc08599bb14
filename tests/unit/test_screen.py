"""What limosa screen is made of: text read in pictures, terminal output, keys. Pure functions, no QEMU."""

from __future__ import annotations

import numpy as np
import pytest

from limosa.errors import LimosaError
from limosa.guest.screen import glyphs, terminal_lines
from limosa.guest.screen.camera import portable_pixmap
from limosa.guest.screen.keyboard import Keyboard
from limosa.guest.screen.keys import character, chords

GREY, BLUE, BLACK = (0xAA, 0xAA, 0xAA), (0, 0, 0xAA), (0, 0, 0)


def bitmaps() -> bytes:
    """A font in which every place has a pattern of its own, A and B those by which a font is found."""
    rng = np.random.default_rng(7)
    made = bytearray(rng.integers(0, 255, glyphs.GLYPH_COUNT * glyphs.GLYPH_ROWS, np.uint8).tobytes())
    for code in range(glyphs.GLYPH_COUNT):
        made[code * 16] &= 0x7F  # the first dot is background, as in real fonts
    made[0:16] = made[32 * 16 : 33 * 16] = made[255 * 16 :] = bytes(16)
    made[65 * 16 : 67 * 16] = glyphs.LETTER_A + glyphs.LETTER_B
    return bytes(made)


@pytest.fixture(scope="module")
def memory() -> bytes:
    return b"\x55\xaa" + bytes(1000) + bitmaps() + bytes(100)


@pytest.fixture
def font(memory: bytes) -> glyphs.Font:
    found = glyphs.Font.found_in(memory)
    assert found is not None
    return found


def picture(
    lines: list[str],
    memory: bytes,
    *,
    cell_width: int = 9,
    foreground: tuple[int, int, int] = GREY,
    background: tuple[int, int, int] = BLACK,
    cursor: tuple[int, int] | None = None,
) -> glyphs.Pixels:
    shapes = np.unpackbits(np.frombuffer(memory[1002 : 1002 + 4096], np.uint8)).reshape(256, 16, 8)
    width, height = max(map(len, lines)), len(lines)
    mask = np.zeros((height * 16, width * cell_width), bool)
    for row, line in enumerate(lines):
        for column, letter in enumerate(line):
            code = glyphs.CHARACTERS.index(letter) if letter != " " else 32
            mask[row * 16 : row * 16 + 16, column * cell_width : column * cell_width + 8] = shapes[code]
    if cursor:
        top, left = cursor[0] * 16, cursor[1] * cell_width
        mask[top + 14 : top + 16, left : left + 8] = True
    return np.where(mask[..., None], np.array(foreground, np.uint8), np.array(background, np.uint8))


@pytest.mark.parametrize("cell_width", [8, 9])
def test_text_is_read(cell_width: int, font: glyphs.Font, memory: bytes) -> None:
    lines = ["login: root".ljust(40), " " * 40, "│ Größe ░▒▓ │".ljust(40)]
    seen = glyphs.recognise(picture(lines, memory, cell_width=cell_width), font)
    assert seen is not None
    assert seen.lines == tuple(lines)
    assert seen.text == "login: root\n\n│ Größe ░▒▓ │"
    assert seen.foreground[0, 0] == 0xAAAAAA
    assert seen.background[0, 0] == 0


@pytest.mark.parametrize(("where", "under"), [((0, 2), "c"), ((0, 10), " ")])
def test_cursor_hides_no_letter(where: tuple[int, int], under: str, font: glyphs.Font, memory: bytes) -> None:
    seen = glyphs.recognise(picture(["abcdef".ljust(16)], memory, cursor=where), font)
    assert seen is not None
    assert seen.cursor == where
    assert seen.lines[0] == "abcdef".ljust(16)
    assert seen.lines[0][where[1]] == under


def test_fonts_of_the_same_family_are_read(font: glyphs.Font, memory: bytes) -> None:
    other = bytearray(memory)
    for code in range(ord("a"), ord("z") + 1):
        other[1002 + code * 16 + 5] ^= 0x18
    seen = glyphs.recognise(picture(["almost the same"], bytes(other), cell_width=8), font)
    assert seen is not None
    assert seen.text == "almost the same"


def test_a_photograph_is_no_text(font: glyphs.Font) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    assert glyphs.recognise(noise, font) is None


def test_no_font_in_memory_without_a_bios() -> None:
    assert glyphs.Font.found_in(bytes(65536)) is None
    assert glyphs.Font.found_in(glyphs.LETTER_A + glyphs.LETTER_B) is None


def test_text_lines_follow_the_end_and_keep_colours(font: glyphs.Font, memory: bytes) -> None:
    lines = [f"line {number}".ljust(12) for number in range(25)]
    seen = glyphs.recognise(picture(lines, memory, background=BLUE), font)
    assert seen is not None
    drawn = terminal_lines.text_lines(seen, 80, 10)
    assert len(drawn) == 10
    assert "line 24" in drawn[-1]
    assert "\x1b[44m" in drawn[-1]
    assert terminal_lines.text_lines(seen, 4, 25)[3].count("line") == 1
    assert "line 3" not in terminal_lines.text_lines(seen, 4, 25)[3]


def test_pictures_fit_the_terminal_and_keep_their_mean() -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[:, 320:] = 200
    drawn = terminal_lines.picture_lines(pixels, 80, 24)
    assert len(drawn) <= 24
    assert drawn[0].count("▀") <= 80
    assert drawn[0].startswith("\x1b[38;2;0;0;0;48;2;0;0;0m")
    assert "\x1b[38;2;200;200;200;48;2;200;200;200m" in drawn[0]
    tiny = terminal_lines.picture_lines(np.full((4, 4, 3), 9, np.uint8), 80, 24)
    assert [line.count("▀") for line in tiny] == [4, 4]


def test_a_picture_is_read_and_a_torn_one_refused() -> None:
    dots = bytes(range(24))
    assert portable_pixmap(b"P6\n4 2\n255\n" + dots).tobytes() == dots
    assert portable_pixmap(b"P6\n2 1\n255\n" + b"\n\n 789").tobytes() == b"\n\n 789"
    for broken in (b"", b"P5\n4 2\n255\n" + dots, b"P6\n4 2\n255\n" + dots[1:]):
        with pytest.raises(LimosaError):
            portable_pixmap(broken)


def test_every_printable_sign_has_a_key_of_its_own() -> None:
    found = [character(chr(code)) for code in range(0x20, 0x7F)]
    assert None not in found
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b"aA1!", [("a",), ("shift", "a"), ("1",), ("shift", "1")]),
        (b"\r\n\t\x7f\x08", [("ret",), ("ret",), ("tab",), ("backspace",), ("backspace",)]),
        (b"\x03\x1a\x00", [("ctrl", "c"), ("ctrl", "z"), ("ctrl", "spc")]),
        (b"\x1b", [("esc",)]),
        (b"\x1b\x1b", [("esc",), ("esc",)]),
        (b"\x1bx", [("alt", "x")]),
        (b"\x1b[A\x1b[B\x1bOC\x1bOD", [("up",), ("down",), ("right",), ("left",)]),
        (b"\x1bOP\x1b[15~\x1b[24~\x1b[[A", [("f1",), ("f5",), ("f12",), ("f1",)]),
        (b"\x1b[1;5C\x1b[3;7~\x1b[Z", [("ctrl", "right"), ("alt", "ctrl", "delete"), ("shift", "tab")]),
        ("aäb€".encode(), [("a",), ("b",)]),
        (b"\x1b[?1;2c\x1b[99~z", [("z",)]),
        (b"\x1b[12", []),
    ],
)
def test_keys(typed: bytes, keys: list[tuple[str, ...]]) -> None:
    assert chords(typed) == keys


class Slow:
    """A monitor of a guest that reads a key when it was asked for that often; what it was asked for."""

    def __init__(self, reads_after: int) -> None:
        self.reads_after, self.asked, self.pressed = reads_after, 0, 0

    async def execute(self, command: str, arguments: dict[str, object]) -> object:
        if command == "send-key":
            self.asked, self.pressed = 0, self.pressed + 1
            return {}
        assert (command, arguments) == ("human-monitor-command", {"command-line": "i /b 0x64"})
        self.asked += 1
        return f"portb[0x0064] = 0x{0x1D if self.asked <= self.reads_after else 0x1C:02x}\r\n"


async def test_a_key_is_pressed_when_the_one_before_was_read() -> None:
    keyboard = Keyboard((monitor := Slow(reads_after=3)).execute, 10)
    for number in (1, 2):
        await keyboard.press(("a",))
        assert (monitor.pressed, monitor.asked) == (number, 4)


async def test_a_guest_that_reads_no_keys_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limosa.guest.screen.keyboard.UNREAD_S", 0.1)
    keyboard = Keyboard((monitor := Slow(reads_after=1000)).execute, 10)
    await keyboard.press(("a",))
    assert monitor.asked > 1
    await keyboard.press(("b",))
    assert monitor.asked == 1
    monitor.reads_after = 0
    await keyboard.press(("c",))
    monitor.reads_after = 2
    await keyboard.press(("d",))
    assert monitor.asked == 3, "it reads again, and is waited for again"
