"""The report draws a bench by what it tells, and knows none; terminal and handout too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import limosa
from limosa import report
from limosa.bench import benches
from limosa.bench.bed import Beds
from limosa.bench.entry import Chapter, Entry, Lasting
from limosa.cli import bench as bench_verb
from limosa.cli.bench_account import run_bench
from limosa.errors import StateError
from limosa.events import Events
from limosa.experiment.lab_bed import LabBeds
from limosa.homework import Homework, PartResult, handout
from limosa.results.account import (
    Account,
    Course,
    Dots,
    Finding,
    Findings,
    Middle,
    Pairs,
    Plot,
    Section,
    Sentences,
    Text,
    Verdict,
)
from limosa.results.kept_run import kept
from limosa.results.store import RunDirectory
from limosa.results.summary_tables import Table
from tests import run_sample

FALLS = Dots(
    title="height of the jump",
    unit="m",
    subjects=["flea", "frog"],
    points=[("flea", 0.2), ("frog", 1.5)],
    middles=[Middle("frog", 1.5, 1.4, 1.6, "1.5 m")],
)
FLIGHT = Course(
    title="height over time", unit="m", colour="green", logarithmic=False, pointed=True, begin_s=-1.0, finish_s=2.0,
    samples=[(-0.5, 0.0), (0.5, 1.5)], end_s=1.0, blackout_s=(0.2, 0.3), level=1.4,
)  # fmt: skip


def toy(run: RunDirectory, panes: list[Dots] | list[Course]) -> Account:
    """A bench of <jumping>, told from a file of its own."""
    table = Table("Jumps", ("", "height"), (("frog", (run.path / "jumps.txt").read_text()),))
    plot = Plot(name="jumps", label="All jumps", legend="A point is a jump.", panes=panes)
    finding = Finding(rule="windy", severity="caution", text="There was wind.")
    blocks = [table, plot, Text("By the way.", "small"), Sentences(["It jumps."]), Findings([finding])]
    return Account(
        verdict=Verdict(tone="good", mark="Jumped", sentence="The <frog> jumps highest.", details=[], facts=[]),
        table=table,
        reasons=["flea: skipped, because it slept"],
        explanations=["Long legs jump high."],
        findings=[finding],
        sources=["a book"],
        plot=plot,
        sections=[
            Section(title="Heights", identity="heights", blocks=[*blocks, Pairs([("Where", "a pond")], "pairs")])
        ],
        figures={"heights": [1.5]},
        whole=True,
    )


async def jump(height: str, beds: Beds, events: Events) -> RunDirectory:
    """Measures without any lab."""
    run = RunDirectory.create(kind="bench-jumps", lab="pond", guest="")
    async with kept(run, events, list):
        (run.path / "jumps.txt").write_text(height)
    return run


@pytest.fixture(params=[[FALLS], [FLIGHT]])
def entry(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry[str]:
    """The row of a bench that nobody has heard of."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = Entry(
        name="jumps", purpose="who jumps highest", kind="bench-jumps", file="jumps.txt", defaults="1.5 m",
        measure=jump, account=lambda run: toy(run, request.param),
        chapters=(Chapter(name="jumps", title="Jumps", words=("bench", "jumps"), quick=(), document="The book: 2 m.",
                          lasts=Lasting(whole_s=2, quick_s=1, guests=0)),),
    )  # fmt: skip
    monkeypatch.setitem(benches.BENCHES, made.name, made)
    return made


@pytest.fixture
async def jumps(entry: Entry[str]) -> RunDirectory:
    """A run of it."""
    events = Events()
    return await entry.measure(entry.defaults, LabBeds(events), events)


def test_the_report_draws_a_bench_it_never_heard_of(jumps: RunDirectory, tmp_path: Path) -> None:
    page = report.build(jumps.path).read_text()
    for wanted in ("The &lt;frog&gt; jumps highest.", "1.5 m", 'data-plot="jumps-1"', "There was wind.", "a pond"):
        assert wanted in page
    drawn = {path.name: path for path in report.png(jumps.path, tmp_path / "pictures")}
    assert drawn["jumps.png"].stat().st_size > 2_000


def test_so_does_the_handout(jumps: RunDirectory, tmp_path: Path) -> None:
    run = RunDirectory.open(run_sample.demo(tmp_path / "demo"))
    lab = PartResult(name="lab", title="Two hosts", run="x")
    part = PartResult(name="jumps", title="Jumps", command=["bench", "jumps"], run=str(jumps.path))
    page = handout.page(run, Homework(quick=True, parts=[lab, part]))
    for wanted in (
        "Long legs jump high.",
        'id="jumps-plot-1-spec"',
        "The book: 2 m.",
        "because it slept",
        "who jumps highest",
    ):
        assert wanted in page


def test_and_the_terminal(entry: Entry[str], capsys: pytest.CaptureFixture[str]) -> None:
    run_bench(entry, "1.5 m", as_json=False)
    printed = capsys.readouterr().out
    for wanted in ("1.5 m", "because it slept", "Long legs", "caution: There was wind.", "reference: a book"):
        assert wanted in printed


def test_another_run_is_no_bench(tmp_path: Path) -> None:
    run = RunDirectory.create(kind="demo", lab="x", guest="g", base=tmp_path)
    assert benches.account(run) is None
    with pytest.raises(StateError, match="is no bench"):
        benches.told(run)


@pytest.mark.parametrize("name", ["cpu", "network", "disk"])
def test_the_command_asks_for_what_the_row_has(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(bench_verb, "run_bench", lambda entry, settings, as_json: asked.extend((entry, settings)))
    getattr(bench_verb, name)()
    assert asked == [benches.BENCHES[name], benches.BENCHES[name].defaults]
    assert benches.BENCHES[name].purpose in (getattr(bench_verb, name).__doc__ or "").lower().replace("kvm", "KVM")


SHARED = {"limosa.bench", "limosa.bench.benches", "limosa.bench.entry"}


def modules(part: str) -> Iterator[tuple[str, ast.Module]]:
    for path in (Path(limosa.__file__).parent / part).rglob("*.py"):
        yield path.name, ast.parse(path.read_text())


@pytest.mark.parametrize("part", ["report", "homework"])
def test_nobody_who_draws_names_a_bench(part: str) -> None:
    entries = benches.BENCHES.values()
    names = {entry.name for entry in entries} | {chapter.name for entry in entries for chapter in entry.chapters}
    names |= {entry.kind for entry in entries} | {entry.file for entry in entries}
    for module, tree in modules(part):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("limosa.bench"):
                of = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "limosa.bench" else []
                assert set(of or [node.module]) <= SHARED, f"{module} imports a bench"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{module}:{node.lineno} names the bench {node.value}"
