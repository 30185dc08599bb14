"""What a command loads before it does anything: that, and no time, is what these tests count."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from limosa import spec

NEVER = {"typer", "click", "pydantic", "numpy", "asyncssh", "httpx", "websockets", "rich", "yaml", "dataclasses"}
"""What neither ``status`` nor ``migrate`` nor any page of help has a use for."""
SELDOM = {"shutil", "difflib", "secrets", "random", "hashlib", "tempfile"}
"""Of the standard library, what costs more than it is used there."""


def loaded(home: Path, *words: str) -> set[str]:
    """The modules that a command imports, in a home without labs."""
    environment = os.environ | {"XDG_STATE_HOME": str(home), "PYTHONPATH": str(Path(spec.__file__).parents[2])}
    argv = [sys.executable, "-P", "-X", "importtime", "-m", "limosa", *words]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    return set(re.findall(r"^import time: [^|]*\|[^|]*\| *(\S+)$", done.stderr, re.MULTILINE))


def parts(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("words", ["", "--help", "-h", "host --help", "--version"])
def test_help_loads_no_verb_and_hardly_a_library(tmp_path: Path, words: str) -> None:
    found = loaded(tmp_path, *words.split())
    assert {name for name in found if name.startswith("limosa")} <= {
        "limosa", "limosa.errors", "limosa.cli", "limosa.cli.app", "limosa.cli.verbs", "limosa.cli.help_text",
    }  # fmt: skip
    assert not parts(found) & (NEVER | SELDOM | {"asyncio", "msgspec", "typing", "re", "inspect"})


@pytest.mark.parametrize("words", ["migrate --help", "status -h", "statsu", "status --jsn"])
def test_help_of_a_verb_loads_nothing_that_acts(tmp_path: Path, words: str) -> None:
    found = loaded(tmp_path, *words.split())
    assert not parts(found) & (NEVER | {"qemu"})
    assert not {name for name in found if name.startswith(("limosa.lab", "limosa.hosts", "limosa.qemu"))}


@pytest.mark.parametrize("words", ["status", "status --json", "migrate guest1 host2"])
def test_daily_verbs_load_what_they_use(tmp_path: Path, words: str) -> None:
    found = loaded(tmp_path, *words.split())
    assert "limosa.lab.lab" in found
    assert not parts(found) & (NEVER | SELDOM)
    unrelated = ("guest.", "results", "report", "bench", "probes", "experiment", "homework", "hosts.ssh", "accel")
    unrelated += ("lab.start", "lab.stop", "lab.construction") + (
        ("lab.move", "migration.driver") if "status" in words else ()
    )
    assert not {name for name in found if name.startswith(tuple(f"limosa.{part}" for part in unrelated))}


def test_msgspec_is_loaded_without_typing_extensions_which_others_may_still_load() -> None:
    code = """
import sys
from limosa.cli.app import _load_msgspec
_load_msgspec()
assert "msgspec" in sys.modules and "typing_extensions" not in sys.modules
import typing_extensions
_load_msgspec()
assert sys.modules["typing_extensions"] is typing_extensions
"""
    environment = os.environ | {"PYTHONPATH": str(Path(spec.__file__).parents[2])}
    subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=True)
