"""The report in a real browser: every plot shows data, the console stays silent, screenshots are not blank."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from limosa import report
from tests import run_sample
from tests.chromium import opened

pytestmark = pytest.mark.system

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=8000",
)  # fmt: skip
PANES = {
    "demo": {"phases", "remaining", "rates", "ticks", "trips", "cpu"},
    "failed": {"phases", "remaining", "rates", "ticks", "trips", "cpu"},
    "calibrate": {"ticks", "trips", "cpu"},
    "missing": {"phases", "remaining", "rates", "trips"},
}


def browse(profile: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = next((name for name in BROWSERS if shutil.which(name)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on PATH")
    argv = [program, *QUIET, f"--user-data-dir={profile}", *arguments, url]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


def panes_with_data(page: str) -> set[str]:
    """The panes of the page's plot in which a shape with some extent is drawn."""
    # Lines and areas are data; rectangles are shades, but for the phases, which are bars.
    marks = r'class="mark-(?:line|area)[^"]*role-mark (\w+?)_layer_\d[^"]*"[^>]*>(.*?)</g>'
    bars = r'class="mark-rect[^"]*role-mark (phases)[^"]*"[^>]*>(.*?)</g>'
    drawn = re.findall(marks, page) + re.findall(bars, page)
    return {name for name, paths in drawn if re.search(r'<path[^>]* d="M[^"]{8,}"', paths)}


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip when the browser does not draw even an empty page here."""
    tried = browse(tmp_path_factory.mktemp("profile"), "about:blank", "--dump-dom")
    if "<html" not in tried.stdout:
        pytest.skip(f"the browser does not start: {tried.stderr.strip()[-200:]}")


@pytest.mark.parametrize("kind", list(PANES))
def test_every_plot_shows_data(works: None, tmp_path: Path, kind: str) -> None:
    page = report.build(run_sample.KINDS[kind](tmp_path / "run"))
    seen = browse(tmp_path / "profile", page.as_uri(), "--window-size=1400,3000", "--dump-dom")
    assert 'data-status="drawn"' in seen.stdout
    assert [line for line in seen.stderr.splitlines() if "CONSOLE" in line] == []
    assert PANES[kind] <= panes_with_data(seen.stdout)


@pytest.mark.parametrize(("size", "dark"), [("1400,3600", False), ("1400,3600", True), ("390,5000", False)])
def test_screenshots(works: None, tmp_path: Path, size: str, dark: bool) -> None:
    page = report.build(run_sample.demo(tmp_path / "run"))
    picture = tmp_path / "page.png"
    arguments = [f"--window-size={size}", f"--screenshot={picture}"]
    if dark:
        arguments.append("--blink-settings=preferredColorScheme=0")
    seen = browse(tmp_path / "profile", page.as_uri(), *arguments)
    assert [line for line in seen.stderr.splitlines() if "CONSOLE" in line] == []
    # A blank page of this size packs into some 20 kB.
    assert picture.stat().st_size > 120_000


def test_panes_use_the_width_of_a_narrow_window(works: None, tmp_path: Path) -> None:
    page = report.build(run_sample.demo(tmp_path / "run"))
    seen = browse(tmp_path / "profile", page.as_uri(), "--window-size=500,5000", "--dump-dom")
    timeline = seen.stdout[seen.stdout.index('data-plot="timeline"') :]
    # The first background is that of the first pane: as wide as its time axis.
    found = re.search(r'class="background"[^>]*d="M[\d.]+,[\d.]+h([\d.]+)v[1-9]', timeline)
    assert found is not None
    assert float(found[1]) > 300, "what a pane's name and key need is taken from the pane"


def test_a_narrow_window_leaves_no_empty_room_about_the_panes(works: None, tmp_path: Path) -> None:
    page = report.build(run_sample.demo(tmp_path / "run"))
    with opened() as browser:
        browser.show(page, width=400)
        shown, drawn = browser.evaluate("""
            (() => {
              const drawing = document.querySelector("[data-plot=timeline] svg"), box = drawing.viewBox.baseVal;
              const shown = drawing.getBoundingClientRect();
              return [shown.width / shown.height, box.width / box.height];
            })()
        """)
    assert shown == pytest.approx(drawn, rel=0.02), "it is made smaller in one direction alone"
