"""The handout is made whatever became of its parts, and each says so in its place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from limosa import process, requirements
from limosa.bench.benches import chapters
from limosa.bench.entry import Chapter
from limosa.errors import LimosaError, StateError
from limosa.events import Events
from limosa.homework import HOMEWORK, Homework, PartResult, handout, pdf, recipe
from limosa.qemu.purpose import QMP
from limosa.results import archive
from limosa.results.store import RunDirectory
from tests import bench_sample, run_sample


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.open(run_sample.demo(tmp_path / "run"))


def homework(*parts: PartResult) -> Homework:
    lab = PartResult(name="lab", title="Two hosts", run="x")
    return Homework(quick=True, explained=[("-nodefaults", "Leaves out <everything>.")], parts=[lab, *parts])


def test_a_bench_that_failed_says_so_and_the_rest_is_there(run: RunDirectory, tmp_path: Path) -> None:
    failed = PartResult(
        name="network", title="Network", command=["bench", "network"], status="failed", reason="no <iperf3>"
    )
    made = bench_sample.cpu(tmp_path / "runs")
    done = PartResult(name="cpu", title="CPU", command=["bench", "cpu"], run=str(made.path))
    html = handout.page(run, homework(done, failed))
    assert "Not measured: no &lt;iperf3&gt;" in html and "<iperf3>" not in html
    assert "Leaves out &lt;everything&gt;." in html
    assert "Without KVM the guest did 1/4.0" in html
    assert "KVM runs no Linux here" in html
    for figure in ("18,678", "3,621", "12,378"):
        assert figure in html
    assert 'id="cpu-plot-1-spec"' in html and 'id="network-plot-1-spec"' not in html


def test_the_page_asks_nothing_of_a_network(run: RunDirectory) -> None:
    html = handout.page(run, homework())
    assert "default-src &#x27;none&#x27;" in html
    for asking in ('src="http', "@import", "url(http", "<link"):
        assert asking not in html
    assert "COLO" in html and "Why is live migration needed?" in html


def test_a_run_that_is_gone_is_said(run: RunDirectory, tmp_path: Path) -> None:
    gone = PartResult(name="cpu", title="CPU", command=["bench", "cpu"], run=str(tmp_path / "gone"))
    assert "is not a run" in handout.page(run, homework(gone))


def test_every_monitor_command_has_its_purpose() -> None:
    from limosa.homework import questions

    for _, qmp in questions.MONITOR:
        assert QMP[qmp]


@pytest.mark.parametrize(
    ("status", "out", "err", "reason"),
    [
        (0, b'{"run": "/r"}', b"", ""),
        (3, b'{"error": "no iperf3", "hint": ""}', b"", "no iperf3"),
        (2, b"", b"Usage\nError: no such command\n", "Error: no such command"),
        (1, b"not json", b"", "what the bench printed is no JSON document"),
    ],
)
async def test_how_a_bench_ended(
    monkeypatch: pytest.MonkeyPatch, status: int, out: bytes, err: bytes, reason: str
) -> None:
    async def run(argv: list[str], *, env: dict[str, str], **_: object) -> process.Completed:
        assert argv[1:5] == ["-m", "limosa", "bench", "cpu"]
        assert env["SSH_AUTH_SOCK"] == "/agent", "a lab's machines are found by the person's environment"
        return process.Completed(tuple(argv), status, out, err, 0.1)

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    part = await recipe._bench(chapters()["cpu"], True, False)
    assert (part.reason, part.status) == (reason, "failed" if reason else "done")
    assert part.command[-4:] == ["--time", "2 s", "--repeat", "2"]


async def test_nobody_removes_a_part_while_others_are_to_come(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = list[RunDirectory]()

    async def nothing(*_: object, **__: object) -> list[str]:
        return []

    async def lab(*_: object) -> tuple[RunDirectory, Homework, list[str]]:
        return run, homework(), []

    async def bench(chapter: Chapter, *_: object) -> PartResult:
        assert not any(archive.remove(archive.of(each)) for each in (run, *parts))
        parts.append(RunDirectory(run_sample.demo(tmp_path / chapter.name)))
        return PartResult(name=chapter.name, title=chapter.title, run=str(parts[-1].path))

    for name, fake in (("_lab", lab), ("_bench", bench), ("sweep", list)):
        monkeypatch.setattr(recipe, name, fake)
    for name, found in (("missing", nothing), ("install", nothing), ("find", lambda program: None)):
        monkeypatch.setattr(requirements, name, found)
    await recipe.do(quick=True, events=Events(), folder=tmp_path)
    assert len(parts) == len(chapters()) and all(archive.remove(archive.of(each)) for each in (run, *parts))


async def test_without_a_browser_there_is_no_pdf(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pdf.requirements, "find", lambda program: None)
    with pytest.raises(LimosaError, match="Chromium"):
        await pdf.printed(tmp_path / "a.html", tmp_path / "a.pdf")
    run.write(HOMEWORK, homework())
    made = await recipe.remake(str(run.path) + "/", events=Events())
    assert [file.name for file in made.files] == ["homework.html"]


def test_another_run_is_no_homework(run: RunDirectory) -> None:
    with pytest.raises(StateError, match="no homework"):
        asyncio.run(recipe.remake(str(run.path) + "/", events=Events()))
