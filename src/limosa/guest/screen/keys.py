"""What a terminal sends for a key, as the keys of a US keyboard, by the names that QEMU's QKeyCode gives them."""

from __future__ import annotations

Chord = tuple[str, ...]
"""Keys that are held down together, modifiers first."""

_PLAIN = {
    " ": "spc", "-": "minus", "=": "equal", "[": "bracket_left", "]": "bracket_right", ";": "semicolon",
    "'": "apostrophe", "`": "grave_accent", "\\": "backslash", ",": "comma", ".": "dot", "/": "slash",
    "\r": "ret", "\n": "ret", "\t": "tab", "\x08": "backspace", "\x7f": "backspace", "\x1b": "esc",
    **{digit: digit for digit in "0123456789"},
    **{letter: letter for letter in "abcdefghijklmnopqrstuvwxyz"},
}  # fmt: skip
_SHIFTED = {
    "_": "minus", "+": "equal", "{": "bracket_left", "}": "bracket_right", ":": "semicolon", '"': "apostrophe",
    "~": "grave_accent", "|": "backslash", "<": "comma", ">": "dot", "?": "slash",
    **dict(zip(")!@#$%^&*(", "0123456789", strict=True)),
    **{letter.upper(): letter for letter in "abcdefghijklmnopqrstuvwxyz"},
}  # fmt: skip
_CONTROL = {
    "\x00": "spc", "\x1c": "backslash", "\x1e": "6", "\x1f": "minus",
    **{chr(code): chr(code + 96) for code in range(1, 27) if chr(code) not in _PLAIN},
}  # fmt: skip

_FINAL = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"}
_FINAL |= {"P": "f1", "Q": "f2", "R": "f3", "S": "f4"}
_NUMBERED = {
    1: "home", 2: "insert", 3: "delete", 4: "end", 5: "pgup", 6: "pgdn", 7: "home", 8: "end",
    11: "f1", 12: "f2", 13: "f3", 14: "f4", 15: "f5", 17: "f6", 18: "f7", 19: "f8", 20: "f9", 21: "f10",
    23: "f11", 24: "f12",
}  # fmt: skip
"""The number before the tilde in what xterm and the Linux console send (xterm's ctlseqs.txt, PC-style keys)."""

_MODIFIERS = ((1, "shift"), (2, "alt"), (4, "ctrl"))
"""xterm sends 1 + the sum of these."""

_LONGEST = 12
"""No sequence that is known here is longer; what begins like one and goes on is noise."""


def character(letter: str) -> Chord | None:
    """The chord that types one character on a US keyboard; None where there is none."""
    if letter in _PLAIN:
        return (_PLAIN[letter],)
    if letter in _SHIFTED:
        return ("shift", _SHIFTED[letter])
    if letter in _CONTROL:
        return ("ctrl", _CONTROL[letter])
    return None


def chords(data: bytes) -> list[Chord]:
    """The keys in what a terminal sent at once. What no US keyboard has is left out.

    An escape sequence always comes at once, so a lone escape is the key of that name, and one before a character is
    Alt.
    """
    text, found = data.decode(errors="ignore"), list[Chord]()
    while text:
        chord, length = _first(text)
        text = text[length:]
        if chord:
            found.append(chord)
    return found


def _first(text: str) -> tuple[Chord | None, int]:
    """The chord at the beginning of *text*, and how many characters of it that takes."""
    if text[0] != "\x1b" or len(text) == 1:
        return character(text[0]), 1
    if text[1] in "[O" and len(text) > 2:
        return _sequence(text)
    if text[1] == "\x1b":
        return ("esc",), 1
    chord = character(text[1])
    return (("alt", *chord) if chord else None), 2


def _sequence(text: str) -> tuple[Chord | None, int]:
    """A control sequence: parameters, then a final character."""
    if text.startswith("\x1b[[") and len(text) > 3:  # the Linux console's F1 to F5
        return ((f"f{ord(text[3]) - 64}",) if text[3] in "ABCDE" else None), 4
    end = 2
    while end < min(len(text), _LONGEST) and not "\x40" <= text[end] <= "\x7e":
        end += 1
    if end >= len(text):
        return None, len(text)
    numbers = [int(number) if number.isdigit() else 1 for number in text[2:end].split(";")]
    final, modifier = text[end], (numbers[1] if len(numbers) > 1 else 1) - 1
    key = _NUMBERED.get(numbers[0]) if final == "~" else _FINAL.get(final)
    held = tuple(name for bit, name in _MODIFIERS if modifier & bit)
    if final == "Z":
        return ("shift", "tab"), end + 1
    return ((*held, key) if key else None), end + 1
