"""The kinds of words that verbs take: how each is called in help, read, shown and completed.

Every option and argument but a switch names one of them: there is one way to write a duration, a size, a bandwidth, and
whoever declares a new option says what stands in it. What a kind needs to read a word is imported when it reads one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

from limosa.cli.known import guests, guests_and_hosts, hosts, images, labs_and_files, runs

FREE, KNOWN, FILES, DIRECTORIES = "free", "known", "files", "directories"
"""Which words may stand somewhere: any of its form; those that ``complete`` lists; a file's or a directory's path."""


class Kind:
    """What stands in one place of a command."""

    def __init__(
        self,
        metavar: str,
        *,
        type: type = str,
        read: Callable[[str], Any] | None = None,
        shown: Callable[[Any], str] = str,
        values: str = FREE,
        known: Callable[[], Iterable[str]] | None = None,
        example: str = "",
    ) -> None:
        """*type* is that of the value, *read* makes it of a word or raises ValueError, *shown* makes it a word again;
        *known* are the words to complete, *example* is one that is right."""
        self._metavar, self.type, self.shown = metavar, type, shown
        self.read = type if read is None else read
        self.values = KNOWN if known and values == FREE else values
        self.known = known
        self.example = example

    @property
    def metavar(self) -> str:
        """What stands for a value in help."""
        return self._metavar

    def complete(self, beginning: str) -> list[str]:
        """The words that begin so, of those that are known; none when they cannot be found out."""
        try:
            return [word for word in (self.known() if self.known else ()) if word.startswith(beginning)]
        except Exception:  # completion never complains
            return []


class Choice(Kind):
    """One of a closed set of words."""

    def __init__(self, words: Callable[[], Iterable[str]], also: Iterable[str] = (), metavar: str = "") -> None:
        """*also*: other names of some of them, which are taken and not told. *metavar*: what stands for them in help,
        where they are too many for it."""
        super().__init__(metavar, known=words, read=self._read)
        self._words, self._also = words, tuple(also)

    @property
    def metavar(self) -> str:
        """``auto|kvm|tcg``."""
        return self._metavar or "|".join(self._words())

    def _read(self, text: str) -> str:
        words = tuple(self._words())
        if text in words or text in self._also:
            return text
        import difflib

        near = difflib.get_close_matches(text, words, 1)
        raise ValueError(f"{text!r} is none of {', '.join(words)}" + (f"; did you mean {near[0]}?" if near else ""))


class OptionValue(Kind):
    """``NAME=VALUE`` for an option of a migration. The word is kept as it is; that it can be is what is checked."""

    def __init__(self) -> None:
        super().__init__("NAME=VALUE", read=self._read, values=KNOWN, example="multifd-channels=4")

    def complete(self, beginning: str) -> list[str]:
        """The names, and behind a name the words that can stand there."""
        from limosa.spec.migration_options import OPTIONS

        name, assigned, text = beginning.partition("=")
        if not assigned:
            return [f"{each}=" for each in OPTIONS if each.startswith(name)]
        words = (*OPTIONS[name].kind.words, "default") if name in OPTIONS else ()
        return [f"{name}={word}" for word in words if word.startswith(text)]

    def _read(self, text: str) -> str:
        from limosa.errors import SpecError
        from limosa.spec.migration_options import read

        name, assigned, value = text.partition("=")
        if not assigned:
            raise ValueError(f"{text!r} is not NAME=VALUE")
        try:
            read(name, value)
        except SpecError as error:
            raise ValueError(f"{error.message}; {error.hint}") from error
        return text


def of_option(metavar: str, name: str, example: str) -> Kind:
    """The value of the migration option *name*, a number in QEMU's unit."""

    def read(text: str) -> object:
        from limosa.spec.migration_options import OPTIONS

        return OPTIONS[name].kind.read(text)

    return Kind(metavar, type=int, read=read, example=example)


def choice(*words: str) -> Choice:
    """One of *words*."""
    return Choice(lambda: words)


def number(least: int | None = None, most: int | None = None) -> Kind:
    """A whole number: how often, how many."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is not a whole number") from error
        _within(text, value, least, most, str)
        return value

    return Kind("NUMBER", type=int, read=read)


def duration(least_s: float | None = None, most_s: float | None = None, *, why: str = "", whole: bool = False) -> Kind:
    """A time, in seconds; *why* it cannot be longer. *whole*: of whole seconds alone, as an int."""

    def read(text: str) -> float:
        from limosa.units import parse_seconds

        value_s = parse_seconds(text)
        if whole and value_s != int(value_s):
            raise ValueError(f"{text!r} is not a whole number of seconds")
        _within(repr(text), value_s, least_s, most_s, _seconds, why)
        return int(value_s) if whole else value_s

    return Kind("DURATION", type=int if whole else float, read=read, shown=_duration, example="30 s")


def factor() -> Kind:
    """What something is multiplied by: more than 0."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is not a number") from error
        if not 0 < value < float("inf"):
            raise ValueError(f"{text!r} is not more than 0")
        return value

    return Kind("FACTOR", type=float, read=read, example="0.05")


def size(least_bytes: int | None = None) -> Kind:
    """A size, in bytes."""

    def read(text: str) -> int:
        from limosa.units import parse_bytes

        value_bytes = parse_bytes(text)
        _within(repr(text), value_bytes, least_bytes, None, _size)
        return value_bytes

    return Kind("SIZE", type=int, read=read, shown=_size, example="2 GiB")


def bandwidth(least_bytes_per_s: int | None = None, *, why: str = "") -> Kind:
    """A bandwidth, in bytes per second, written in bytes or bits; *why* it cannot be less."""

    def read(text: str) -> int:
        from limosa.units import format_bytes_per_s, parse_bytes_per_s

        value_bytes_per_s = parse_bytes_per_s(text)
        _within(repr(text), value_bytes_per_s, least_bytes_per_s, None, format_bytes_per_s, why)
        return value_bytes_per_s

    return Kind("BANDWIDTH", type=int, read=read, example="100 MiB/s")


def _host_kinds() -> Iterable[str]:
    from limosa.spec import host_kinds

    return host_kinds.KINDS


def _policies() -> Iterable[str]:
    from limosa.migration.policies import policy_table

    return policy_table.POLICIES


def _methods() -> Iterable[str]:
    from limosa.spec.resolved import Method

    return get_args(Method)


def _within(
    text: str, value: float, least: float | None, most: float | None, shown: Callable[[Any], str], why: str = ""
) -> None:
    reason = f": {why}" if why else ""
    if least is not None and value < least:
        raise ValueError(f"{text} is less than {shown(least)}{reason}")
    if most is not None and value > most:
        raise ValueError(f"{text} is more than {shown(most)}{reason}")


def _seconds(value_s: float) -> str:
    """A limit, in the unit in which it is known."""
    return f"{value_s:g} s" if value_s >= 1 else _duration(value_s)


def _duration(value_s: float) -> str:
    from limosa.units import format_duration

    return format_duration(value_s)


def _size(value_bytes: float) -> str:
    from limosa.units import format_bytes

    return format_bytes(value_bytes)


def _bits_per_s(text: str) -> int:
    from limosa.units import parse_bytes_per_s

    return 8 * parse_bytes_per_s(text)


def _rate(rate_bits_per_s: float) -> str:
    from limosa.units import format_rate

    return format_rate(rate_bits_per_s)


NUMBER = number()
COUNT = number(1)
DURATION = duration()
SIZE = size()
DISK_SIZE = size(1)
BANDWIDTH = bandwidth()
MIGRATION_BANDWIDTH = of_option("BANDWIDTH", "max-bandwidth", "100 MiB/s")
"""In bytes per second."""
DOWNTIME_LIMIT = of_option("DURATION", "downtime-limit", "300 ms")
"""In ms."""
OPTION_VALUE = OptionValue()
METHOD = Choice(_methods)
POLICY = Choice(_policies, metavar="POLICY")
POST_COPY_USE = choice("never", "last", "ok")
LAST_RESORT = choice("give-up", "exceed")
FACTOR = factor()
PERCENT = number(0, 99)
RATE = Kind("BANDWIDTH", type=int, read=_bits_per_s, shown=_rate, example="20 Mbit/s")
"""A bandwidth, in bits per second, as links are sold."""

FILE = Kind("FILE", type=Path, values=FILES)
DIRECTORY = Kind("DIRECTORY", type=Path, values=DIRECTORIES)
LAB_FILE = Kind("FILE", values=FILES)
LAB = Kind("LAB", values=FILES, known=labs_and_files)
"""A lab, by its name or by its file."""
GUEST = Kind("GUEST", known=guests)
HOST = Kind("HOST", known=hosts)
GUEST_OR_HOST = Kind("GUEST|HOST", known=guests_and_hosts)
TLS = choice("auto", "on", "off")
HOST_KIND = Choice(_host_kinds)
RUN = Kind("RUN", known=runs)
IMAGE = Kind("IMAGE", known=images)

COMMAND = Kind("COMMAND")
NEW_NAME = Kind("NAME")
"""A name for what is being made."""
VERSION = Kind("VERSION")
URL = Kind("URL")
CHECKSUM = Kind("CHECKSUM")
PACKAGE = Kind("PACKAGE")
