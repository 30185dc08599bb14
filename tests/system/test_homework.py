"""The recipe, with all benches but one left to their own tests, drawn by a real browser where there is one."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from limosa.bench.benches import chapters
from limosa.events import Events, Note
from limosa.experiment.lab_bed import LabBeds
from limosa.homework import HOMEWORK, pdf, recipe
from limosa.results.store import RunDirectory
from tests import daemons
from tests.limosa_command import Command, fresh

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
    assert homework.lab == "" and homework.notes == []
    if any(shutil.which(name) for name in pdf.BROWSERS):
        assert handout.files[1].read_bytes().startswith(b"%PDF")
        assert handout.files[1].stat().st_size > 50_000


OWN = """
name: mine
networks: {study: {subnet: 10.91.7.0/24}}
hosts: {left: {}, right: {}}
guests: {web: {host: right, network: study, address: 10.91.7.77, memory: 192 MiB}}
"""


@pytest.mark.slow
async def test_on_a_lab_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in it is called as in the example, and the guest has less memory than the bench would fill."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(OWN)
    during = chapters()["during"]
    short = ("--load", "latency", "--before", "2 s", "--after", "2 s")
    monkeypatch.setattr(recipe, "chapters", lambda: {"during": replace(during, quick=short)})
    notes: list[str] = []
    events = Events(lambda event: notes.append(event.text) if isinstance(event, Note) else None)
    made = await recipe.do(quick=True, events=events, file=tmp_path / "mine.yaml", folder=tmp_path / "out")
    assert [(part.name, part.reason) for part in made.parts] == [("lab", ""), ("during", "")]
    assert made.parts[1].command[-4:] == ["--lab", str(tmp_path / "mine.yaml"), "--memory", "80 MiB"]
    assert re.match(r"this takes some \d+ to \d+ minutes", notes[0])
    html = made.files[0].read_text()
    for wanted in ("The lab is that of mine.yaml.", "web moved right → left → right", "10.91.7.", "during-plot-1-spec"):
        assert wanted in html
    assert "guest1" not in html and "host1:" not in html


def test_what_cannot_be_is_refused_before_anything_begins(tmp_path: Path) -> None:
    command = fresh(tmp_path)
    (tmp_path / "one.yaml").write_text("hosts: {only: {}}\nguests: {web: {host: only}}\n")
    for words, said in (
        (("--lab", "one.yaml"), "the homework needs two hosts and a guest"),
        (("--lab", "nowhere.yaml"), "nowhere.yaml"),
        (("--lab", "one.yaml", "--again", "latest"), "--again makes the pages of a run"),
    ):
        done = command.run("homework", *words)
        done.refused(2, said)
        assert "this takes" not in done.errors
    assert command.labs == [] and command.runs == []


CONTAINERS = """
name: course
networks: {{lan: {{subnet: 10.83.0.0/24, bridge: {bridge}, client: 10.83.0.1}}}}
storage: {{nfs: {{kind: volume, mount: /mnt/nfs}}}}
hosts:
  a: {{kind: {kind}, image: tiny, addresses: {{lan: 10.83.0.11}}}}
  b: {{kind: {kind}, image: tiny, addresses: {{lan: 10.83.0.12}}}}
guests: {{vm: {{host: a, network: lan, address: 10.83.0.100, memory: 256 MiB}}}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("flavour", daemons.PARAMETERS)
async def test_in_containers(flavour: str, tmp_path: Path) -> None:
    """As the course has it: two containers, a volume that both see, and the whole recipe."""
    for image in ("micro", "micro-generic"):  # there is no network where the daemon lives
        await LabBeds(Events()).image(image)
    with daemons.running(flavour) as daemon, tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as home:
        command = Command(Path(home), tuple(daemon.enter([])), environment=daemon.variables)
        file = command.home / "course.yaml"
        file.write_text(CONTAINERS.format(kind=daemon.flavour.name, bridge=daemon.flavour.bridge))
        done = command.run("homework", "--quick", "--lab", str(file), "--output", str(tmp_path), timeout_s=1500)
        assert "this takes some" in done.errors
        assert re.search(r"^Two hosts, a guest, and its live migration: done$", done.text, re.MULTILINE), done
        assert re.search(r"^CPU and network during a live migration: done$", done.text, re.MULTILINE), done
        html = re.sub("<[^>]+>", "", (tmp_path / "homework.html").read_text())
        assert f"{daemon.flavour.name}: launch tiny NAME" in html and "vm moved a → b → a" in html
        assert daemon.client("list", "--format", "csv").strip() == "", "the lab ends with it"
