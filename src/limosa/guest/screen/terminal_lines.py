"""Lines for a terminal, from recognised text or from dots: pure functions, colours as SGR sequences (ECMA-48)."""

from __future__ import annotations

import numpy as np

from limosa.guest.screen.glyphs import Pixels, TextScreen

RESET = "\x1b[0m"

PALETTE = {
    0x000000: 0, 0xAA0000: 1, 0x00AA00: 2, 0xAA5500: 3, 0x0000AA: 4, 0xAA00AA: 5, 0x00AAAA: 6, 0xAAAAAA: 7,
    0x555555: 60, 0xFF5555: 61, 0x55FF55: 62, 0xFFFF55: 63, 0x5555FF: 64, 0xFF55FF: 65, 0x55FFFF: 66, 0xFFFFFF: 67,
    # QEMU widens the card's 6 bits a colour to 8 by a shift alone.
    0xA80000: 1, 0x00A800: 2, 0xA85400: 3, 0x0000A8: 4, 0xA800A8: 5, 0x00A8A8: 6, 0xA8A8A8: 7,
    0x545454: 60, 0xFC5454: 61, 0x54FC54: 62, 0xFCFC54: 63, 0x5454FC: 64, 0xFC54FC: 65, 0x54FCFC: 66, 0xFCFCFC: 67,
}  # fmt: skip
"""The sixteen colours of text modes, by which a terminal's own palette can be kept; any other is given as it is."""


def text_lines(screen: TextScreen, width: int, height: int) -> list[str]:
    """The screen, cut to the terminal: where it is higher, down to its last line that is used."""
    used = max((row + 1 for row, line in enumerate(screen.lines) if line.strip()), default=0)
    if screen.cursor is not None:
        used = max(used, screen.cursor[0] + 1)
    first = max(0, min(used, len(screen.lines)) - height)
    return [_text_line(screen, row, width) for row in range(first, min(len(screen.lines), first + height))]


def _text_line(screen: TextScreen, row: int, width: int) -> str:
    parts, before = list[str](), (-1, -1, False)
    for column, character in enumerate(screen.lines[row][:width]):
        here = screen.cursor == (row, column)
        style = (int(screen.foreground[row, column]), int(screen.background[row, column]), here)
        if character == " " and not here:
            style = (before[0], style[1], False)  # a blank has no foreground to change
        if style != before:
            parts.append(RESET + _sgr(style[0], 38) + _sgr(style[1], 48) + ("\x1b[7m" if here else ""))
            before = style
        parts.append(character)
    return "".join(parts) + RESET


def _sgr(colour: int, kind: int) -> str:
    """Select a colour as foreground (38) or background (48). Black behind and light grey before are the defaults."""
    if colour < 0 or (kind, PALETTE.get(colour)) in ((38, 7), (48, 0)):
        return ""
    if colour in PALETTE:
        return f"\x1b[{kind - 8 + PALETTE[colour]}m"
    return f"\x1b[{kind};2;{colour >> 16};{colour >> 8 & 255};{colour & 255}m"


def picture_lines(pixels: Pixels, width: int, height: int) -> list[str]:
    """The picture in upper half blocks, two dots a character, as large as the terminal lets it be."""
    scaled = _scaled(pixels, width, height * 2)
    lines = list[str]()
    for upper, lower in zip(scaled[::2], scaled[1::2], strict=True):
        parts, before = list[str](), b""
        for above, below in zip(upper, lower, strict=True):
            style = above.tobytes() + below.tobytes()
            if style != before:
                parts.append("\x1b[38;2;{};{};{};48;2;{};{};{}m".format(*style))
                before = style
            parts.append("▀")
        lines.append("".join(parts) + RESET)
    return lines


def _scaled(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture made to fit by averaging, never enlarged, with an even number of lines."""
    size = pixels.shape[:2]
    factor = min(1.0, width / size[1], height / size[0])
    lines, columns = max(2, int(size[0] * factor) // 2 * 2), max(1, int(size[1] * factor))
    if (lines, columns) == size:
        return pixels
    total = pixels.astype(np.float64)
    for axis, count in ((0, lines), (1, columns)):
        edges = np.arange(count) * size[axis] // count
        widths = np.diff(np.append(edges, size[axis])).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        total = np.add.reduceat(total, edges, axis=axis) / np.maximum(1, widths)
    return total.round().astype(np.uint8)
