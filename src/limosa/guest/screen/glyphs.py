"""Text recognised in a picture of a screen, by the font of the guest's own VGA BIOS.

A text mode cannot be read from video memory alone: where the visible part begins is in a register that only the
guest may ask for. A picture shows what a person would see, Linux's framebuffer console included, whose font is
almost the same. A picture in which most cells are no letters is no text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GLYPH_ROWS = 16
GLYPH_COUNT = 256

LETTER_A = bytes.fromhex("000010386cc6c6fec6c6c6c600000000")
LETTER_B = bytes.fromhex("0000fc6666667c66666666fc00000000")
"""Two neighbours in the 8x16 font that every VGA BIOS has, by which the font is found in its memory."""

CELL_SIZES = ((9, 16), (8, 16))
"""Width and height of a character in the text modes and on framebuffer consoles; text modes repeat or clear a
ninth column."""

MOST_WRONG_BITS = 6
"""How many of a glyph's 128 dots may differ: fonts of the same family do, in a few letters."""

CURSOR_ROWS = 4
"""A cursor covers at most so many whole rows of its cell; a block inverts it, which is recognised as such."""

LEAST_SHARE = 0.8
"""The share of the cells that are not blank which has to be letters; a boot logo may stand above the text."""

_LOW = "\0☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
CHARACTERS = " " + _LOW[1:] + bytes(range(0x20, 0x7F)).decode("ascii") + "⌂" + bytes(range(0x80, 0xFF)).decode("cp437")
CHARACTERS += " "
"""What the 256 places of IBM's code page 437 show."""

UNKNOWN = "\ufffd"

Pixels = npt.NDArray[np.uint8]
Colours = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class TextScreen:
    """A screen of characters. Colours are 0xRRGGBB, one a cell; the cursor is a row and a column from 0."""

    lines: tuple[str, ...]
    foreground: Colours
    background: Colours
    cursor: tuple[int, int] | None

    @property
    def text(self) -> str:
        """The lines without the blanks at their ends, and without empty lines at the end."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


class Font:
    """The glyphs, and what was found for patterns that are not quite one of them."""

    def __init__(self, bitmaps: bytes) -> None:
        self._known: dict[bytes, tuple[str, bool]] = {}
        # ASCII last, as some signs look the same.
        order = [*range(0x7F, 0x100), *range(0x01, 0x20), *range(0x20, 0x7F)]
        glyphs = {code: bitmaps[code * GLYPH_ROWS : (code + 1) * GLYPH_ROWS] for code in order}
        for code in order:
            self._known[glyphs[code]] = (CHARACTERS[code], False)
        self._known[bytes(GLYPH_ROWS)] = (" ", False)
        self._characters = "".join(CHARACTERS[code] for code in order)
        self._bits = _bits(b"".join(glyphs[code] for code in order))

    @classmethod
    def found_in(cls, memory: bytes) -> Font | None:
        """The font in the memory of a VGA BIOS; None when there is none."""
        at = memory.find(LETTER_A + LETTER_B) - ord("A") * GLYPH_ROWS
        bitmaps = memory[at : at + GLYPH_COUNT * GLYPH_ROWS] if at >= 0 else b""
        return cls(bitmaps) if len(bitmaps) == GLYPH_COUNT * GLYPH_ROWS else None

    def read(self, pattern: bytes) -> tuple[str, bool]:
        """The character of 16 rows of 8 dots, and whether the cursor stands on it; UNKNOWN for no character."""
        if pattern not in self._known:
            self._known[pattern] = self._nearest(pattern)
        return self._known[pattern]

    def _nearest(self, pattern: bytes) -> tuple[str, bool]:
        full = np.frombuffer(pattern, np.uint8) == 0xFF
        bits = _bits(pattern)
        if 0 < full.sum() <= CURSOR_ROWS:
            wrong = ((bits != self._bits) & ~np.repeat(full, 8)).sum(axis=1)
            # The first of equals would be a line of the frame signs: under a cursor a blank is far more likely.
            if not bits[0][~np.repeat(full, 8)].any():
                return " ", True
            if wrong.min() == 0:
                return self._characters[int(wrong.argmin())], True
        wrong = (bits != self._bits).sum(axis=1)
        best = int(wrong.argmin())
        return (self._characters[best], False) if wrong[best] <= MOST_WRONG_BITS else (UNKNOWN, False)


def _bits(rows: bytes) -> npt.NDArray[np.bool_]:
    """One line of 128 dots for each 16 bytes."""
    return np.unpackbits(np.frombuffer(rows, np.uint8)).reshape(-1, GLYPH_ROWS * 8).astype(bool)


def recognise(pixels: Pixels, font: Font) -> TextScreen | None:
    """The text in a picture (height x width x 3); None when it shows something else."""
    height, width = pixels.shape[:2]
    for columns, rows in CELL_SIZES:
        if width % columns == 0 and height >= rows and (found := _read(pixels, font, columns, rows)) is not None:
            return found
    return None


def _read(pixels: Pixels, font: Font, cell_width: int, cell_height: int) -> TextScreen | None:
    height, width = pixels.shape[0] // cell_height, pixels.shape[1] // cell_width
    whole = pixels[: height * cell_height, : width * cell_width].astype(np.uint32)
    packed = (whole[..., 0] << 16) | (whole[..., 1] << 8) | whole[..., 2]
    cells = packed.reshape(height, cell_height, width, cell_width).transpose(0, 2, 1, 3)[..., :8]
    corner = cells[:, :, 0, 0].copy()
    low, high = cells.min(axis=(2, 3)), cells.max(axis=(2, 3))
    # The first dot of a letter is nearly always background.
    other = np.where(corner == low, high, low)
    two = ((cells == corner[..., None, None]) | (cells == other[..., None, None])).all(axis=(2, 3))
    patterns = np.packbits(cells != corner[..., None, None], axis=3)[..., 0]
    seen = _Cells(font, patterns, two & (low != high))
    written = int((low != high).sum())
    if written and seen.letters < LEAST_SHARE * written:
        return None
    inverted = seen.inverted
    lines = tuple("".join(row) for row in seen.characters)
    return TextScreen(lines, np.where(inverted, corner, other), np.where(inverted, other, corner), seen.cursor)


class _Cells:
    """Each cell's character, and which are drawn with the colours the other way round."""

    def __init__(self, font: Font, patterns: Pixels, drawn: npt.NDArray[np.bool_]) -> None:
        height, width = drawn.shape
        self.characters = [[" "] * width for _ in range(height)]
        self.inverted = np.zeros((height, width), bool)
        self.cursor: tuple[int, int] | None = None
        self.letters = 0
        for row, column in np.argwhere(drawn):
            pattern = patterns[row, column].tobytes()
            character, cursor = font.read(pattern)
            if character == UNKNOWN:
                character, cursor = font.read(bytes(byte ^ 0xFF for byte in pattern))
                self.inverted[row, column] = character != UNKNOWN
            self.letters += character != UNKNOWN
            self.characters[row][column] = character
            if cursor:
                self.cursor = (int(row), int(column))
