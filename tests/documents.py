"""The blocks of the documents: what a reader types, what is shown of the answer, and what a block needs to be run.

A block's language says what it is. Without one (or ``console``) it is typed into a shell in a clone: lines that begin
with ``$ `` are commands and the rest is what they print; where no line does, each is a command. ``python`` blocks of a
document are the cells of one notebook, ``yaml`` is (a part of) a lab file, ``json`` one document a line or a block, and
``text`` is shown and nothing else.

All of it runs in a test (``tests/system/test_documents.py``), in the order of the document. HTML comments right before
the block, which no reader sees, say otherwise::

    <!-- needs: network -->               it cannot run in a test: one of NEEDS
    <!-- needs: network: git clone -->    the commands in it that have these words cannot; the others run
    <!-- slow -->                         it runs with ``--slow``
    <!-- file: lab.yaml -->               it is written to this file, for the commands that follow
    <!-- lab: examples/two-hosts.yaml --> this lab is up when it is typed
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

NEEDS = {
    "network": "what lies on servers elsewhere",
    "an ISO": "an installer's medium",
    "an image": "an image of one's own in the library",
    "machines": "other machines to log in to",
    "a daemon": "Incus or LXD, and an image from the internet",
    "KVM": "KVM that runs an ordinary guest",
    "root": "to change the machine as root",
    "a person": "somebody who reads and decides",
    "a desktop": "a program with windows",
    "the suite": "the tests themselves",
}
"""What a block may need so that no test runs it."""

LANGUAGES = ("", "console", "python", "yaml", "json", "text")
MARKS = ("needs", "slow", "file", "lab")
SHOWN_WORDS = 3
"""As many words of a line of output have to be what is printed; figures may differ."""

_MARK = re.compile(r"<!-- *([a-z]+)(?:: *(.*?))? *-->")
_FENCE = re.compile(r"(`{3,}|~{3,})(.*)")
_PROGRAM = re.compile(r"# +((?:\./)?limosa|lxc|incus|qemu-[a-z0-9_-]+|apt-get|dpkg-deb|git|\.venv/bin/python) ")


class Wrong(ValueError):
    """A block that cannot be read: where it is and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One comment before a block."""

    name: str
    value: str = ""

    @property
    def need(self) -> str:
        """Of ``needs``: what."""
        return self.value.partition(":")[0].strip()

    @property
    def words(self) -> str:
        """Of ``needs``: which commands; empty: all."""
        return self.value.partition(":")[2].strip()


@dataclass(frozen=True)
class Shown:
    """A command and what is shown of its output."""

    command: str
    output: tuple[str, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether an error is shown."""
        return any(line.startswith("limosa: ") for line in self.output)


@dataclass(frozen=True)
class Block:
    """One block of a document; ``line`` is that of its first line of text."""

    document: str
    line: int
    language: str
    text: str
    marks: tuple[Mark, ...] = ()

    @property
    def where(self) -> str:
        """For people."""
        return f"{self.document}:{self.line}"

    @property
    def slow(self) -> bool:
        """Whether it runs with ``--slow`` only."""
        return any(mark.name == "slow" for mark in self.marks)

    def value(self, name: str) -> str:
        """The value of the mark *name*; empty where there is none."""
        return next((mark.value for mark in self.marks if mark.name == name), "")

    @property
    def is_cell(self) -> bool:
        """Whether it is a cell of the document's notebook."""
        return self.language == "python" and not self.value("file") and self.runs()

    @property
    def needs(self) -> list[Mark]:
        """What keeps it, or some of its commands, from being run."""
        return [mark for mark in self.marks if mark.name == "needs"]

    def runs(self, words: str = "") -> bool:
        """Whether nothing keeps it (or its command *words*) from being run."""
        return not any(not mark.words or (words and mark.words in words) for mark in self.needs)

    @cached_property
    def typed(self) -> list[Shown]:
        """What is typed into a shell. Raises Wrong where output comes before the first command."""
        if self.language not in ("", "console"):
            return []
        lines = self.text.splitlines()
        if not any(line.startswith("$ ") for line in lines):
            joined = re.sub(r"\\\n\s*", "", self.text).splitlines()
            return [Shown(line) for line in joined if line.strip() and not line.startswith("#")]
        typed = list[tuple[str, list[str]]]()
        continued = False
        for line in lines:
            if continued:
                typed[-1] = (typed[-1][0].removesuffix("\\") + line.strip(), [])
            elif line.startswith("$ "):
                typed.append((line[2:], []))
            elif not typed:
                raise Wrong(f"{self.where}: output before the first command: {line}")
            else:
                typed[-1][1].append(line)
            continued = typed[-1][0].endswith("\\") and not typed[-1][1]
        return [Shown(command, tuple(output)) for command, output in typed]


def paths(root: Path = ROOT) -> list[Path]:
    """The documents whose blocks are read: README first. What was decided, and what changed, is history."""
    named = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")
    return [path for path in map(root.joinpath, named) if path.exists()] + sorted(root.glob("docs/*.md"))


def read(path: Path, root: Path = ROOT) -> list[Block]:
    """The blocks of one document, in order. Raises Wrong."""
    document, lines = str(path.relative_to(root)), path.read_text().splitlines()
    blocks, marks, number = list[Block](), list[Mark](), 0
    while number < len(lines):
        line = lines[number]
        if fence := _FENCE.fullmatch(line.strip()):
            end = next((n for n in range(number + 1, len(lines)) if lines[n].strip() == fence[1]), None)
            if end is None:
                raise Wrong(f"{document}:{number + 1}: a block that does not end")
            text = "\n".join(lines[number + 1 : end]) + "\n"
            blocks.append(Block(document, number + 2, fence[2].strip(), text, tuple(marks)))
            number = end
        elif line.startswith("    ") and number and not lines[number - 1].strip() and not _in_list(lines[:number]):
            raise Wrong(f"{document}:{number + 1}: an indented block says not what it is: write ```text")
        found = [Mark(mark[1], mark[2] or "") for mark in _MARK.finditer(line)]
        marks = [*marks, *(mark for mark in found if mark.name in MARKS or mark.value)] if found else []
        number += 1
    return blocks


def _in_list(before: list[str]) -> bool:
    """Whether the last paragraph before that began at the margin is an item of a list."""
    return any(re.match(r"[-*] |\d+\. ", line) for line in [line for line in before if line[:1].strip()][-1:])


def every(root: Path = ROOT) -> list[Block]:
    """The blocks of all documents."""
    return [block for path in paths(root) for block in read(path, root)]


def complaints(blocks: Iterable[Block]) -> Iterator[str]:
    """What is wrong with marks and languages: whatever is not said here runs, or fails."""
    for block in blocks:
        if block.language not in LANGUAGES:
            yield f"{block.where}: a block in {block.language!r}: is it one of {', '.join(filter(None, LANGUAGES))}?"
        for mark in block.marks:
            if mark.name not in MARKS:
                yield f"{block.where}: unknown mark {mark.name}"
            elif mark.name == "needs" and mark.need not in NEEDS:
                yield f"{block.where}: unknown need {mark.need!r}: is it one of {', '.join(NEEDS)}?"
            elif mark.name == "needs" and mark.words and not any(mark.words in shown.command for shown in block.typed):
                yield f"{block.where}: no command there has the words {mark.words!r}"
        if block.language == "text" and (typed := re.search(r"^(\$ .*|\./limosa .*)", block.text, re.MULTILINE)):
            yield f"{block.where}: typed, and not run: {typed[1]}"


def in_examples(root: Path = ROOT) -> Iterator[tuple[str, str, str]]:
    """The commands in the comments of examples: where, the line, and what the file's ``# needs:`` says they need."""
    for path in sorted([*root.glob("examples/*.yaml"), *root.glob("examples/*.py")]):
        text = path.read_text()
        need = re.search(r"^# needs: (.*)$", text, re.MULTILINE)
        for number, line in enumerate(text.splitlines(), 1):
            if _PROGRAM.search(line) and line.lstrip().startswith("#"):
                yield f"{path.relative_to(root)}:{number}", line.strip(" #"), need[1] if need else ""


# -- what is shown and what was printed -------------------------------------------------------------------------------


def missing(shown: Shown, printed: str) -> list[str]:
    """The lines shown that were not printed, in that order; figures may differ, and words after the first few."""
    words, at, lines = [_plain(word) for word in printed.split()], 0, []
    for line in shown.output:
        wanted = [_plain(word) for word in line.partition("…")[0].split()[:SHOWN_WORDS]]
        if not wanted:
            continue
        for start in range(at, len(words) - len(wanted) + 1):
            if words[start : start + len(wanted)] == wanted:
                at = start + len(wanted)
                break
        else:
            lines.append(line)
    return lines


def _plain(word: str) -> str:
    """A word without its figures; one that begins with a figure is a figure."""
    if re.match(r"[-+−]?\d", word):
        return "#"
    return re.sub(r"\d+", "#", word)
