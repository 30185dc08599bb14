"""The gate: what every commit keeps. Each rule is one test, and its failure lists every place."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import documents, library_docs
from tests.gate import classes, layers, names, rules

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "limosa"
LAUNCHERS_OWN = {"test"}
"""Verbs that the launcher answers itself."""


def tool(*argv: str) -> str:
    environment = os.environ | {"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", *argv], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"
    return done.stdout


def none(complaints: list[str]) -> None:
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize(
    "rule",
    [
        rules.long_functions, rules.long_modules, rules.unspeaking_names, rules.shells, rules.short_host_names,
        rules.unfinished, rules.private_paths, rules.broken_links, rules.unlocked, rules.undocumented_exit_codes,
        rules.unmapped_parts, rules.loose_tasks, rules.lost_places, rules.lost_rooms,
        names.repeated_names, names.paired_names,
        classes.acting_data, classes.loose_data, rules.spread_architecture,
    ],
    ids=lambda rule: rule.__name__.replace("_", "-"),
)  # fmt: skip
def test_rule(rule: Callable[[Path], list[str]]) -> None:
    none(rule(ROOT))


def test_no_import_points_upward() -> None:
    none(layers.upward(PACKAGE))


def test_no_modules_import_each_other() -> None:
    none(layers.circles(PACKAGE))


def test_ruff_check() -> None:
    tool("ruff", "check", "--quiet", "--output-format", "concise", ".")


def test_ruff_format() -> None:
    tool("ruff", "format", "--check", "--output-format", "concise", ".")


def test_mypy_strict() -> None:
    tool("mypy")


def test_mypy_strict_of_benchmarks() -> None:
    """Few tests run them, so what is moved or renamed would break them unseen. The tests that they import are not
    judged."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks").glob("*.py"))
    tool("mypy", "--explicit-package-bases", "--follow-imports=silent", *files)


def test_example_lab_files_load(tmp_path: Path) -> None:
    load = getattr(importlib.import_module("limosa.spec"), "load", None)
    if load is None:
        pytest.skip("limosa.spec has no load yet")
    files = sorted((ROOT / "examples").glob("*.yaml"))
    for number, (_, text) in enumerate(rules.examples(ROOT, "yaml")):
        if re.search(r"^guests:", text, re.MULTILINE) and re.search(r"^hosts:", text, re.MULTILINE):
            files.append(tmp_path / f"{number}.yaml")
            files[-1].write_text(text)
    assert files
    for file in files:
        load(file)


def test_documented_commands_exist() -> None:
    if not (PACKAGE / "__main__.py").exists():
        pytest.skip("limosa has no command line yet")
    verbs = set(re.findall(r"^[\s│|]*([a-z][a-z-]*) {2,}\S", tool("limosa", "--help"), re.MULTILINE)) | LAUNCHERS_OWN
    assert len(verbs) > 1
    none([f"{where}: there is no verb {verb}" for where, verb in rules.commands(ROOT) if verb not in verbs])


def test_each_block_of_the_documents_runs_or_says_why_not() -> None:
    none(list(documents.complaints(documents.every())))


def test_the_page_of_the_library_is_what_the_docstrings_say() -> None:
    text = library_docs.PAGE.read_text()
    assert text == library_docs.written(text), "python -m tests.library_docs writes it"
