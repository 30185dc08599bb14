"""How the value of a migration option is written: read from text, checked, shown again, described in a schema.

Rule: a value is what QMP takes, a bool, an int or a word; text is what people write, with its unit. What is shown reads
back as the same value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from limosa.units import BYTES, NUMBER_PATTERN, format_bytes, parse_bytes, parse_bytes_per_s, parse_seconds

Value = bool | int | str
"""What QMP takes."""

ON, OFF = ("on", "true", "yes"), ("off", "false", "no")
MOST = 1 << 60
"""More than there is of anything; QMP takes 8 times that."""
MIB = BYTES["MiB"]


class ValueKind(msgspec.Struct, frozen=True):
    """How one kind of value is written."""

    def read(self, text: str) -> Value:
        """The value that *text* stands for. Raises ValueError."""
        raise NotImplementedError

    def fault(self, value: object) -> str:
        """Why *value* cannot be one; empty when it can."""
        raise NotImplementedError

    def shown(self, value: Value) -> str:
        """*value* as ``read`` takes it."""
        return str(value)

    @property
    def told(self) -> str:
        """What can stand there, for people."""
        raise NotImplementedError

    @property
    def words(self) -> tuple[str, ...]:
        """The words that can stand there, where they can be counted: for completion."""
        return ()

    @property
    def schema(self) -> dict[str, Any]:
        """Its JSON schema in a lab file."""
        raise NotImplementedError

    @property
    def why(self) -> str:
        """Why there is a least or a most."""
        return ""

    @property
    def bare(self) -> bool:
        """Whether a number may stand for it without a unit."""
        return True

    @property
    def example(self) -> str:
        """One that is right, as it is written."""
        return self.words[0]


class Flag(ValueKind, frozen=True):
    """On or off."""

    def read(self, text: str) -> bool:
        """``on`` is True."""
        word = text.strip().lower()
        if word in ON or word in OFF:
            return word in ON
        raise ValueError(f"{text!r} is neither on nor off")

    def fault(self, value: object) -> str:
        """Anything but a bool."""
        return "" if isinstance(value, bool) else f"{value!r} is neither on nor off"

    def shown(self, value: Value) -> str:
        """``on`` or ``off``."""
        return "on" if value else "off"

    @property
    def told(self) -> str:
        """What can stand there."""
        return "on or off"

    @property
    def words(self) -> tuple[str, ...]:
        """Both."""
        return ("on", "off")

    @property
    def schema(self) -> dict[str, Any]:
        """YAML's own booleans, too."""
        return {"enum": [True, False, *ON, *OFF]}


class Choice(ValueKind, frozen=True):
    """One of a closed set of words."""

    choices: tuple[str, ...]

    def read(self, text: str) -> str:
        """The word itself."""
        if fault := self.fault(text.strip()):
            raise ValueError(fault)
        return text.strip()

    def fault(self, value: object) -> str:
        """Any other word."""
        return "" if value in self.choices else f"{value!r} is none of {', '.join(self.choices)}"

    @property
    def told(self) -> str:
        """What can stand there."""
        return ", ".join(self.choices)

    @property
    def words(self) -> tuple[str, ...]:
        """All of them."""
        return self.choices

    @property
    def schema(self) -> dict[str, Any]:
        """The words."""
        return {"enum": list(self.choices)}


class Number(ValueKind, frozen=True):
    """A whole number from ``least`` to ``most``, without a unit: how many, which level."""

    least: int = 0
    most: int = MOST
    because: str = ""
    """Why it cannot be less, or more."""
    words_for: Mapping[str, int] = {}
    """Words that stand for a number: ``unlimited``."""

    @property
    def why(self) -> str:
        """Why there is a least or a most."""
        return self.because

    def read(self, text: str) -> int:
        """The number, or that which a word stands for."""
        if text.strip() in self.words_for:
            return self.words_for[text.strip()]
        value = self._parse(text.strip())
        if fault := self._fault(value, repr(text.strip())):
            raise ValueError(fault)
        return value

    def _parse(self, text: str) -> int:
        if not text.isdecimal():
            raise ValueError(f"{text!r} is not a whole number")
        return int(text[:20])

    def fault(self, value: object) -> str:
        """Anything but a whole number in the range."""
        if isinstance(value, bool) or not isinstance(value, int):
            return f"{value!r} is not a whole number{self._of}"
        return self._fault(value, self.shown(value))

    def _fault(self, value: int, written: str) -> str:
        """What is wrong with a number, which somebody has *written* so."""
        if value in self.words_for.values() or self.least <= value <= self.most:
            return self._more_faults(value)
        return f"{written} is {self._beyond(value)}" + (f": {self.because}" if self.because else "")

    def _beyond(self, value: int) -> str:
        least = value < self.least
        return f"{'less' if least else 'more'} than {self.shown(self.least if least else self.most)}"

    @property
    def _of(self) -> str:
        """The unit in which values are counted."""
        return ""

    def _more_faults(self, value: int) -> str:
        return ""

    def shown(self, value: Value) -> str:
        """The word that stands for it, or the number with its unit."""
        word = next((word for word, number in self.words_for.items() if number == value), "")
        return word or self._format(int(value))

    def _format(self, value: int) -> str:
        return str(value)

    @property
    def example(self) -> str:
        """A number in the range, with its unit."""
        return self._format(max(self.least, min(self.most, 64)))

    @property
    def told(self) -> str:
        """The range."""
        least = self._format(self.least)
        plain = f"from {least}" if self.most == MOST else f"{least} to {self._format(self.most)}"
        return ", ".join([plain, *self.words_for])

    @property
    def words(self) -> tuple[str, ...]:
        """Those that stand for a number."""
        return tuple(self.words_for)

    @property
    def schema(self) -> dict[str, Any]:
        """A number, which YAML has by itself, or a word."""
        number = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return {"anyOf": [number, {"enum": list(self.words_for)}]} if self.words_for else number


class Percent(Number, frozen=True):
    """A share in percent; the sign may be left out."""

    def _parse(self, text: str) -> int:
        return Number._parse(self, text.removesuffix("%").strip())

    def _format(self, value: int) -> str:
        return f"{value} %"

    @property
    def _of(self) -> str:
        return " of percent"

    @property
    def schema(self) -> dict[str, Any]:
        """A number, or text with the sign."""
        number = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return {"anyOf": [number, {"type": "string", "pattern": "^[0-9]{1,3} *%?$"}]}


class _WithUnit(Number, frozen=True):
    """A number that is never written without its unit; ``pattern`` has the units."""

    @property
    def _pattern(self) -> str:
        raise NotImplementedError

    @property
    def bare(self) -> bool:
        """A number alone can be read in several ways."""
        return False

    @property
    def schema(self) -> dict[str, Any]:
        """Text with a unit, or a word."""
        number = NUMBER_PATTERN.replace("(?:", "(")
        words = "".join(f"|{word}" for word in self.words_for)
        return {"type": "string", "pattern": f"^({number} *({self._pattern}){words})$"}


class Milliseconds(_WithUnit, frozen=True):
    """A time in whole ms: ``300 ms``, ``2 s``."""

    def _parse(self, text: str) -> int:
        value_ms = parse_seconds(text) * 1000
        if abs(value_ms - round(value_ms)) > 1e-6 * max(1.0, value_ms):
            raise ValueError(f"{text!r} is not a whole number of ms")
        return round(value_ms)

    def _format(self, value: int) -> str:
        return f"{value // 1000} s" if value and value % 1000 == 0 else f"{value} ms"

    @property
    def _of(self) -> str:
        return " of ms"

    @property
    def example(self) -> str:
        """A usual pause."""
        return self._format(max(self.least, min(self.most, 300)))

    @property
    def _pattern(self) -> str:
        return "ns|us|µs|ms|s|min|h"


class Size(_WithUnit, frozen=True):
    """A size in bytes: ``64 MiB``."""

    power_of_two: bool = False

    def _parse(self, text: str) -> int:
        return parse_bytes(text)

    @property
    def example(self) -> str:
        """A usual cache."""
        return self._format(64 * MIB)

    def _more_faults(self, value: int) -> str:
        if self.power_of_two and value & (value - 1):
            return f"{self._format(value)} is not a power of two, as {self._format(1 << value.bit_length() - 1)} is"
        return ""

    def _format(self, value: int) -> str:
        return exact_bytes(value)

    @property
    def _of(self) -> str:
        return " of bytes"

    @property
    def _pattern(self) -> str:
        return "|".join(sorted(BYTES, key=len, reverse=True))


class BytesPerSecond(_WithUnit, frozen=True):
    """A bandwidth in bytes/s, written in bytes or bits: ``20 MiB/s``, ``1 Gbit/s``."""

    def _parse(self, text: str) -> int:
        return parse_bytes_per_s(text)

    def _format(self, value: int) -> str:
        return f"{exact_bytes(value)}/s"

    @property
    def _of(self) -> str:
        return " of bytes/s"

    @property
    def example(self) -> str:
        """A fifth of a link of 1 Gbit/s."""
        return "20 MiB/s"

    @property
    def _pattern(self) -> str:
        return "[kKMGT]?i?(B|bit)/s"


class MebibytesPerSecond(BytesPerSecond, frozen=True):
    """A bandwidth that QEMU takes in whole MiB/s."""

    @property
    def example(self) -> str:
        """One processor's."""
        return self._format(20)

    def _parse(self, text: str) -> int:
        value = parse_bytes_per_s(text)
        if value % MIB:
            raise ValueError(f"{text!r} is not a whole number of MiB/s")
        return value // MIB

    def _format(self, value: int) -> str:
        return f"{value} MiB/s"

    @property
    def _of(self) -> str:
        return " of MiB/s"


def exact_bytes(size_bytes: int) -> str:
    """A size in a unit in which it is short, and reads back as the same."""
    with contextlib.suppress(ValueError):  # it may be no whole number of bytes
        if parse_bytes(short := format_bytes(size_bytes)) == size_bytes:
            return short
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % BYTES[unit] == 0:
            return f"{size_bytes // BYTES[unit]} {unit}"
    return f"{size_bytes} B"
