"""Examples and documents that hints name are there, wherever limosa is installed and whoever reads the hint."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import limosa
from limosa import paths

PACKAGE = Path(limosa.__file__).parent
BY_HAND = re.compile(r"(?<![/\w])examples/|(?<!limosa's )(?<![/\w])docs/[a-z-]+\.md")
"""A file that comes with limosa, by a path that is right in a clone alone. A page, which is read elsewhere, may say
"limosa's docs/bench.md"."""


def test_the_examples_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example, document = paths.example(), paths.document("hosts.md")
    assert example.is_file() and paths.told(example) == str(example)
    assert Path(document).is_absolute() and Path(document).is_file()
    monkeypatch.chdir(example.parents[1])
    assert paths.told(example) == f"{example.parent.name}/{example.name}"
    assert Path(paths.document("hosts.md")).is_file() and not Path(paths.document("hosts.md")).is_absolute()


def test_a_current_directory_that_is_gone_hinders_no_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    assert Path(paths.document("hosts.md")).is_file()


def test_every_document_and_example_that_is_named_is_there() -> None:
    named = [(call, word) for _, tree in _sources() for call, word in _calls(tree)]
    assert {call for call, _ in named} >= {"document"}
    for call, word in named:
        there = paths.document(word) if call == "document" else paths.example(word)
        assert Path(there).is_file(), f"{call}({word!r})"


def test_no_text_names_one_by_a_path_of_a_clone() -> None:
    found = [
        f"{path.name}:{node.lineno}: {node.value}"
        for path, tree in _sources()
        for node in _texts(tree)
        if BY_HAND.search(node.value)
    ]
    assert [line for line in found if "QEMU, docs/" not in line] == []
    assert BY_HAND.search("see docs/hosts.md") and BY_HAND.search("try examples/two-hosts.yaml")


def _sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def _calls(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="paths"), attr="document" | "example" as call),
                args=[ast.Constant(value=str(word))],
            ):
                yield call, word


def _texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """Every literal text that is no docstring."""
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node
