"""What the documents show can be read: languages and marks, lab files, JSON; and the comparison of what is printed."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from limosa import spec
from limosa.errors import SpecError
from limosa.migration.phases import Phase
from tests import documents
from tests.documents import Block, Mark, Shown, Wrong

BLOCKS = documents.every()


def of(language: str) -> list[object]:
    return [pytest.param(block, id=block.where) for block in BLOCKS if block.language == language]


def test_whatever_is_not_marked_runs() -> None:
    assert not list(documents.complaints(BLOCKS))
    languages = Counter(block.language for block in BLOCKS)
    assert {"", "python", "yaml", "json", "text"} <= set(languages)
    assert any(block.runs() for block in BLOCKS if block.typed)


@pytest.mark.parametrize("block", of("yaml"))
def test_lab_files_are_read(block: Block) -> None:
    written = yaml.safe_load(block.text)
    whole: dict[str, object] = {"name": "part", "hosts": {"host1": {}, "host2": {}}, "guests": {}}
    try:
        spec.loads(yaml.safe_dump(whole | written, sort_keys=False), block.where)
    except SpecError as error:  # of a reader's own files
        assert all("does not exist" in line for line in error.message.splitlines()), error


@pytest.mark.parametrize("block", of("json"))
def test_json_is_read(block: Block) -> None:
    try:
        json.loads(block.text)
    except ValueError:
        assert all(json.loads(line) for line in block.text.splitlines())


def test_commands_in_the_comments_of_examples_say_what_they_need() -> None:
    shown = list(documents.in_examples())
    assert any("lxc launch" in line for _, line, _ in shown)
    assert [where for where, _, need in shown if need not in documents.NEEDS] == []


def test_each_phase_of_a_migration_is_told_in_its_turn() -> None:
    text = (documents.ROOT / "docs/migration.md").read_text().partition("\n## Its phases\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    assert re.findall(r"`([a-z-]+)`", " ".join(rows)) == [phase.value for phase in Phase]


def test_the_modules_that_are_named_are_there() -> None:
    _, _, text = (documents.ROOT / "docs/migration.md").read_text().partition("\n## Where the code is\n")
    named = re.findall(r"`([a-z_]+)`", text)
    package = documents.ROOT / "src/limosa"
    assert (
        named
        and [n for n in named if not any(package.glob(f"migration/{n}*")) and not any(package.glob(f"lab/{n}.py"))]
        == []
    )


# -- the reading itself -----------------------------------------------------------------------------------------------


def read(folder: Path, text: str) -> list[Block]:
    path = folder / "README.md"
    path.write_text(text)
    return documents.read(path, folder)


def test_commands_and_what_they_print(tmp_path: Path) -> None:
    [block] = read(tmp_path, "a\n\n```\n$ one  # why\n1\n2\n$ two \\\n    three\n$ four\nlimosa: no\n```\n")
    assert block.where == "README.md:4"
    assert block.typed == [Shown("one  # why", ("1", "2")), Shown("two three"), Shown("four", ("limosa: no",))]
    assert [shown.fails for shown in block.typed] == [False, False, True]


def test_without_a_dollar_each_line_is_a_command(tmp_path: Path) -> None:
    [block] = read(tmp_path, "```\none   # why\n\ntwo \\\n   three\n```\n")
    assert block.typed == [Shown("one   # why"), Shown("two three")]


def test_marks_stand_right_before_their_block(tmp_path: Path) -> None:
    marked = "<!-- needs: network: git -->\n<!-- slow -->\n```\ngit clone\nls\n```\n"
    first, second = read(tmp_path, f"{marked}\n<!-- file: a -->\nwords\n```\nls\n```\n")
    assert first.marks == (Mark("needs", "network: git"), Mark("slow"))
    assert first.slow and not first.runs("git clone") and first.runs("ls") and first.runs()
    assert second.marks == () and second.runs("git clone")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```ruby\nx\n```\n", "a block in 'ruby'"),
        ("<!-- needs: luck -->\n```\nls\n```\n", "unknown need 'luck'"),
        ("<!-- wants: network -->\n```\nls\n```\n", "unknown mark wants"),
        ("<!-- needs: network: git -->\n```\nls\n```\n", "no command there has the words 'git'"),
        ("```text\n./limosa up\n```\n", "typed, and not run: ./limosa up"),
    ],
)
def test_what_is_complained_of(tmp_path: Path, text: str, complaint: str) -> None:
    [found] = documents.complaints(read(tmp_path, text))
    assert complaint in found


@pytest.mark.parametrize("text", ["```\nls\n", "words\n\n    ls\n"])
def test_what_cannot_be_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(Wrong):
        read(tmp_path, text)


def test_output_without_a_command_is_wrong(tmp_path: Path) -> None:
    [block] = read(tmp_path, "```\nprinted\n$ ls\n```\n")
    with pytest.raises(Wrong):
        _ = block.typed


def test_what_is_shown_and_not_printed() -> None:
    printed = "wait\nboot guest1: 12.3 s\nguest1  running  host1  10.1.1.1\n  a long line that was\n  wrapped here\n"
    shown = ("boot guest1: 6.9 s", "guest1  running  host1  …", "…", "that was wrapped")
    assert documents.missing(Shown("x", shown), printed) == []
    assert documents.missing(Shown("x", ("boot guest2 at: 1 s",)), printed) == ["boot guest2 at: 1 s"]
    assert documents.missing(Shown("x", ("guest1 running", "boot guest1: 1 s")), printed) == ["boot guest1: 1 s"]
