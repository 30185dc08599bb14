"""Pages in a real browser, from wide to narrow, light and dark, and the handout on paper: nothing is lost at an edge,
no label lies upon another, no plot and no argument is torn."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from limosa import report
from limosa.bench.benches import told
from limosa.homework import Homework, PartResult, handout, pdf
from limosa.results.store import RunDirectory
from tests import bench_sample, during_sample, run_sample
from tests.chromium import Browser, opened

pytestmark = pytest.mark.system

ARGUMENTS = (
    "-machine pc-q35-7.2,memory-backend=pc.ram,hpet=off,smm=off,sata=off,smbus=off,vmport=off",
    "-chardev socket,id=console,path=/run/limosa/guests/guest1/serial.sock,server=on,wait=off,"
    "logfile=/run/limosa/log/guest1@host1.console.log,logappend=on",
    '-object \'{"qom-type":"memory-backend-ram","id":"pc.ram","size":536870912,"merge":false,"dump":false}\'',
    "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    "-blockdev {'driver':'file','filename':'" + "/a-folder-with-a-long-name" * 8 + "'}",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every page that there is, by name."""
    folder = tmp_path_factory.mktemp("pages")
    made = {kind: report.build(run_sample.KINDS[kind](folder / kind)) for kind in ("demo", "calibrate", "cancelled")}
    made["during"] = report.build(run_sample.demo(folder / "during"), during_sample.account())
    cpu = bench_sample.cpu(folder / "runs")
    made["cpu"] = report.build(cpu.path)
    made["handout"] = _handout(folder, cpu, folder / "during")
    return made


def _handout(folder: Path, cpu: RunDirectory, during: Path) -> Path:
    """The model answer with a bench of each sort; what the second tells is taken from the sample."""
    parts = [
        PartResult(name="lab", title="Two hosts, a guest, and its live migration", run=str(folder / "demo")),
        PartResult(name="cpu", title="CPU with and without KVM", command=["bench", "cpu"], run=str(cpu.path)),
        PartResult(name="during", title="CPU and network", command=["bench", "during-migration"], run=str(during)),
    ]
    explained = [(argument, "What it is for. " * 9) for argument in ARGUMENTS]
    written = Homework(quick=True, explained=explained, parts=parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handout, "told", lambda run: during_sample.account() if run.path.name == "during" else told(run))
        text = handout.page(RunDirectory.open(folder / "demo"), written)
    page = folder / "homework.html"
    page.write_text(text)
    return page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 800, 400])
@pytest.mark.parametrize("name", ["demo", "calibrate", "cancelled", "during", "cpu", "handout"])
def test_a_page_fits(browser: Browser, pages: dict[str, Path], name: str, width: int, dark: bool) -> None:
    browser.show(pages[name], width=width, dark=dark)
    assert browser.outside(whole=width >= 1200) == []
    assert browser.overlaps() == []


def test_the_measure_sees_what_is_wrong(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show(pages["during"], width=1200)
    browser.evaluate("document.querySelector('.scroll table').style.minWidth = '1300px'")
    browser.evaluate("document.querySelector('h1').style.cssText = 'width: 2000px; max-width: none'")
    browser.evaluate(
        "for (const each of document.querySelectorAll('figure svg')[0].querySelectorAll('text'))"
        " each.setAttribute('transform', 'translate(50,50)')"
    )
    said = browser.outside(whole=True)
    assert any(line.startswith("a table:") for line in said) and any(line.startswith("H1") for line in said)
    assert browser.overlaps() != []


@pytest.mark.parametrize("name", ["demo", "during", "cpu", "handout"])
def test_axes_are_labelled_as_a_person_would(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.show(pages[name], width=1200)
    said = browser.texts("figure svg text") + browser.texts("td, dd")
    assert len(said) > 20
    assert [text for text in said if re.search(r"\d[kMG] ?$|\d[kM]\b(?!i?B)|\de[+-]?\d", text)] == []


Sheets = list[list[tuple[str, float, float, float]]]
"""Of each word on each sheet of paper its text, and its left, right and bottom as shares of the sheet."""


@pytest.fixture(scope="module")
def paper(pages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Sheets:
    """The handout as Chromium prints it."""
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext: apt-get install poppler-utils")
    import asyncio

    printed = asyncio.run(pdf.printed(pages["handout"], tmp_path_factory.mktemp("paper") / "homework.pdf"))
    text = subprocess.run(["pdftotext", "-bbox", printed, "-"], capture_output=True, text=True, check=True).stdout
    sheets = []
    for head, body in re.findall(r"<page ([^>]*)>(.*?)</page>", text, re.DOTALL):
        wide, high = (float(re.search(rf'{side}="([\d.]+)"', head)[1]) for side in ("width", "height"))  # type: ignore[index]
        words = re.findall(r'<word xMin="([\d.]+)" yMin="[\d.]+" xMax="([\d.]+)" yMax="([\d.]+)">(.*?)</word>', body)
        sheets.append([(unescape(word), float(a) / wide, float(b) / wide, float(c) / high) for a, b, c, word in words])
    return sheets


def test_nothing_is_lost_at_the_edge_of_the_paper(paper: Sheets) -> None:
    assert len(paper) >= 5
    assert [word for sheet in paper for word, left, right, _ in sheet if left < 0.05 or right > 0.95] == []


def test_arguments_are_broken_behind_commas(paper: Sheets) -> None:
    """Each piece stands whole on a line; what is longer than its column is still there, in parts."""
    words = [word for sheet in paper for word, *_ in sheet]
    pieces = [piece for argument in ARGUMENTS[:4] for piece in re.findall(r"[^\s,]+,?", argument)]
    assert [piece for piece in pieces if not any(piece in word for word in words)] == []
    together = "".join(words).replace("-\n", "")
    assert "/a-folder-with-a-long-name" * 3 in together


def test_headings_and_plots_stay_together(paper: Sheets) -> None:
    """No sheet ends with a heading; each plot's title and its axis are on one sheet."""
    texts = [" ".join(word for word, *_ in sheet) for sheet in paper]
    headings = ("What follows", "To be read with care", "Clocks", "Timeline", "Migrations", "Questions", "Environment")
    assert [text[-60:] for text in texts if text.endswith(headings)] == []
    for _, _, label, *_ in during_sample.MEASURES:
        title = f"{label} (precopy)"
        sheet = next(text for text in texts if f"{title} " in text.split("What follows")[0] or f"{title} start" in text)
        assert "seconds since the migration began" in sheet[sheet.index(title) :]
