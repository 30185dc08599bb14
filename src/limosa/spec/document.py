"""A YAML file as plain values, with the line of each: the first step from text to a lab.

Rule: YAML 1.2 scalars (its core schema), whatever PyYAML's own 1.1 rules say. ``no`` is a name, not false;
``1:30`` is text, not 90; dates stay text. A leading zero means octal or not by the version, so it is refused.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from limosa import paths, untrusted
from limosa.errors import SpecError
from limosa.spec.problems import Location, Problem, raise_all
from limosa.units import format_bytes

MAX_FILE_BYTES = 1024 * 1024
"""A lab of several hundred hosts takes some tens of KiB; more is a disk image named by mistake."""

MAX_VALUES = 20_000
"""Aliases of aliases grow without end ("billion laughs"); no lab has that many values."""

LONGEST_NUMBER = 80
"""Digits of an integer, 64 bits in any notation and more: Python refuses to read some thousand."""

_TAG = "tag:yaml.org,2002:"
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")


class _Loader(yaml.SafeLoader):
    """SafeLoader with the core schema of YAML 1.2, chapter 10.3.2, in place of YAML 1.1's implicit types."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own attribute, copied on write)
    composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As PyYAML's, which is slow: of a file that has far too much in it only the beginning is read."""
        self.composed += 1
        if self.composed > 2 * MAX_VALUES:  # keys are nodes too
            raise _TooMuch(self.get_mark().line + 1)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


class _TooMuch(Exception):
    """More nodes than any lab file has; ``line`` is where reading stopped."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern})$"), _first)


@dataclass(frozen=True, slots=True)
class Document:
    """What a lab file says, before any of it is understood."""

    file: str
    values: dict[str, Any]
    lines: dict[Location, int]
    """The line, from 1, of each key or list item."""

    def line(self, location: Location) -> int:
        """The line of *location*, or of the nearest thing around it that the file has."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def read(path: Path) -> str:
    """The text of a lab file. Raises SpecError for whatever may be in its place."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise SpecError("no such file", file=str(path), hint=_neighbours(path)) from error
    except IsADirectoryError as error:
        hint = _neighbours(path / "*") or "name the lab file in it"
        raise SpecError("is a directory, not a lab file", file=str(path), hint=hint) from error
    except PermissionError as error:
        raise SpecError("may not be read by this user", file=str(path), hint="let this user read it") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SpecError(f"cannot be read: {reason}", file=str(path)) from error
    if len(data) > MAX_FILE_BYTES:
        message = f"is larger than {format_bytes(MAX_FILE_BYTES)}, which no lab file is"
        raise SpecError(message, file=str(path), hint=f"name a YAML file, such as {paths.told(paths.example())}")
    return _decode(data, str(path))


def parse(text: str, file: str) -> Document:
    """Read YAML *text*. Raises SpecError for bad syntax, doubled keys, tags, several documents."""
    if found := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        message = f"the character U+{ord(found.group()):04X} does not belong in a text file"
        raise SpecError(message, file=file, line=line, hint="a lab file is YAML text in UTF-8")
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is None or node.tag == f"{_TAG}null":
            raise SpecError("is empty", file=file, hint="the shortest lab is: hosts: {host1: {}}")
        return _Reading(file).document(node)
    except _TooMuch as error:
        raise SpecError(f"has more than {MAX_VALUES} values", file=file, line=error.line) from error
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from error
    except RecursionError as error:
        raise SpecError("is nested too deeply to be a lab file", file=file) from error


def _neighbours(path: Path) -> str:
    """The YAML files that stand where the missing one was looked for."""
    try:
        found = sorted(entry for entry in path.parent.iterdir() if entry.suffix in {".yaml", ".yml"})
    except FileNotFoundError:
        there = f"there is no folder {path.parent}"
        if os.path.isfile(brought := paths.example(path.name)):  # noqa: PTH113 (a name too long for a file is none)
            return f"{there}; the example of that name is {paths.told(brought)}"
        return f"{there}; limosa init writes a lab file here"
    except OSError:
        return f"the folder {path.parent} cannot be read"
    there = f"YAML files there: {', '.join(entry.name for entry in found[:5])}"
    return there if found else "limosa init writes one to begin with"


def _decode(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in data[:1024] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise SpecError("is a binary file, not a lab file", file=file) from error
        line = data.count(b"\n", 0, error.start) + 1
        utf_16 = " (it looks like UTF-16)" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
        message = f"byte 0x{data[error.start]:02X} is not UTF-8{utf_16}"
        raise SpecError(message, file=file, line=line, hint="save the lab file as UTF-8") from error


_ADVICE = (
    ("mapping values are not allowed", "check the indentation, and quote text that contains ': '"),
    ("could not find expected ':'", "every key is followed by ': ' and its value"),
    ("expected ',' or", "a bracket opened with { or [ is not closed, or a comma is missing"),
    ("expected <block end>", "entries of one mapping begin in the same column"),
    ("found undefined alias", "an alias (*name) must follow its anchor (&name)"),
    ("found unexpected end of stream", "a quote or bracket is not closed"),
)


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> SpecError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    problem = (error.problem or "cannot be read").strip()
    if "'\\t'" in problem:
        message, hint = "a tab stands where YAML wants spaces", "indent with spaces"
    elif "another document" in problem:
        message, hint = "a second YAML document begins here", "a lab file holds one: remove the '---' between"
    else:
        context = f" {error.context}" if error.context else ""
        message = f"not valid YAML: {problem}{context}"
        advice = (advice for begin, advice in _ADVICE if begin in problem)
        hint = next(advice, "check quotes, brackets and indentation")
    last_line = text.count("\n") + 1
    return SpecError(message, file=file, line=min(line, last_line), hint=hint)


class _Reading(msgspec.Struct):
    """One pass over the node tree."""

    file: str
    lines: dict[Location, int] = {}
    problems: list[Problem] = []
    count: int = 0
    open_nodes: set[int] = set()
    """Nodes being read; one met again inside itself is an alias that never ends."""

    def document(self, node: yaml.Node) -> Document:
        value = self._value(node, ())
        if self.problems:
            raise_all(self.problems, self.file)
        if not isinstance(value, dict):
            found = "a list" if isinstance(value, list) else "plain text"
            message = f"a lab file is a mapping of keys to values, this is {found}"
            hint = f"begin with `hosts:`; {paths.told(paths.example())} shows one"
            raise SpecError(message, file=self.file, line=_line(node), hint=hint)
        return Document(self.file, value, self.lines)

    def _problem(self, line: int, location: Location, message: str, hint: str = "") -> None:
        self.problems.append(Problem(line, location, message, hint))

    def _value(self, node: yaml.Node, location: Location) -> Any:
        self.lines.setdefault(location, _line(node))
        self.count += 1
        if self.count > MAX_VALUES:
            message = f"has more than {MAX_VALUES} values once its aliases are followed"
            raise SpecError(message, file=self.file, line=_line(node))
        if id(node) in self.open_nodes:
            self._problem(_line(node), location, "an alias may not stand inside its own anchor")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, location)
        self._check_tag(node, location, {"map", "seq"})
        self.open_nodes.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, location)
            return [self._value(item, (*location, i)) for i, item in enumerate(node.value)]
        finally:
            self.open_nodes.discard(id(node))

    def _check_tag(self, node: yaml.Node, location: Location, allowed: set[str]) -> None:
        if node.tag.removeprefix(_TAG) not in allowed:
            shown = node.tag.replace(_TAG, "!!")
            message = f"the YAML tag {shown} has no meaning in a lab file"
            self._problem(_line(node), location, message, "remove it")

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(line, location, "a key must be text, not a list or a mapping")
                continue
            key = key_node.value
            if key_node.tag == f"{_TAG}merge":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            if key in first_lines:
                message = f"this key stands twice, first in line {first_lines[key]}"
                self._problem(line, (*location, key), message, "remove one")
                continue
            first_lines[key] = self.lines[(*location, key)] = line
            values[key] = self._value(value_node, (*location, key))
        for source in merged:
            self._merge(source, location, values)
        return values

    def _merge(self, source: yaml.Node, location: Location, values: dict[str, Any]) -> None:
        """Take in what ``<<: *anchor`` brings; keys written out win."""
        if not isinstance(source, yaml.MappingNode) or id(source) in self.open_nodes:
            self._problem(_line(source), location, "<< takes the anchor of another mapping, as in <<: *name")
            return
        written, self.lines = self.lines, {}
        self.open_nodes.add(id(source))
        brought = self._mapping(source, location)
        self.open_nodes.discard(id(source))
        depth = len(location)
        written.update({place: line for place, line in self.lines.items() if place[depth] not in values})
        self.lines = written
        values.update({key: value for key, value in brought.items() if key not in values})

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> Any:
        self._check_tag(node, location, {"str", "null", "bool", "int", "float"})
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return self._integer(text, node, location)
            case "float":
                return self._number(text, node, location)
        return text

    def _integer(self, text: str, node: yaml.Node, location: Location) -> int | None:
        if _LEADING_ZERO.fullmatch(text):
            message = f"{text} is read as octal by some YAML readers and as decimal by others"
            plain = text.lstrip("-+0") or "0"
            sign = "-" if text.startswith("-") else ""
            self._problem(_line(node), location, message, f"write {sign}{plain}, or quote it if it is a name")
            return None
        with contextlib.suppress(ValueError):
            if len(text) <= LONGEST_NUMBER and (number := int(text, 0)).bit_length() <= untrusted.LONGEST_INTEGER_BITS:
                return number
        self._problem(_line(node), location, f"{text[:40]!r} is not a number that can be read")
        return None

    def _number(self, text: str, node: yaml.Node, location: Location) -> float | None:
        # .inf and .nan, or a tag !!float before something else; of too many digits comes infinity.
        with contextlib.suppress(ValueError):
            if math.isfinite(number := float(text)):
                return number
        self._problem(_line(node), location, f"{text[:40]!r} is not a number that a lab can use")
        return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
