"""The recipe, with all benches but one left to their own tests, drawn by a real browser where there is one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from limosa.bench.benches import chapters
from limosa.events import Events
from limosa.homework import HOMEWORK, pdf, recipe
from limosa.results.store import RunDirectory

pytestmark = pytest.mark.system


async def test_the_recipe_runs_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    short = ("--load", "latency", "--before", "2 s", "--after", "2 s", "--memory", "32 MiB")
    wrong = ("--load", "nonsense")
    during = chapters()["during"]
    benches = {"during": replace(during, quick=short), "wrong": replace(during, name="wrong", quick=wrong)}
    monkeypatch.setattr(recipe, "chapters", lambda: benches)
    handout = await recipe.do(quick=True, events=Events(), folder=tmp_path / "out")
    assert [(part.name, part.status) for part in handout.parts] == [
        ("lab", "done"), ("during", "done"), ("wrong", "failed"),
    ]  # fmt: skip
    html = handout.files[0].read_text()
    for wanted in ("-nodefaults", "migrate-incoming", "info migrate", "tap0", "during-plot-1-spec", "COLO"):
        assert wanted in html
    homework = RunDirectory.open(handout.run).read(HOMEWORK)
    assert any(line == "ip -brief link" and "br0" in said for _, line, said in homework.shown)
    if any(shutil.which(name) for name in pdf.BROWSERS):
        assert handout.files[1].read_bytes().startswith(b"%PDF")
        assert handout.files[1].stat().st_size > 50_000
