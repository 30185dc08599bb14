"""Probes as a registry: a new one is one file, and everything else finds it there."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_probe_client import Here, fake_guest

from limosa import bundle
from limosa.deadline import Deadline
from limosa.probes import client_probe, registry
from limosa.probes.client_probe import ClientProbe
from limosa.report import data, page, timeline
from limosa.report.theme import PRINT
from limosa.results import raw, store
from limosa.results.store import RunDirectory
from tests import dial_probe, run_sample

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ``registry.py`` had one line more."""
    monkeypatch.setattr(registry, "PROBES", (*registry.PROBES, dial_probe.PROBE))


async def test_a_new_probe_is_one_file(dialled: None, tmp_path: Path) -> None:
    """It measures in the prober, and is in the run directory, in the reader, in the timeline and under the pointer."""
    run = RunDirectory.open(run_sample.demo(tmp_path / "run"))
    async with fake_guest() as (_, port):
        config = dial_probe.DialConfig("127.0.0.1", port, interval_ms=2)
        async with ClientProbe.open(Here(), [config], run.samples) as probe:
            await probe.start()
            async for _ in Deadline.after(10).ticks(0.02):
                if (await probe.status()).probes["dial"].answered >= 5:
                    break
            report = await probe.stop()
    run.write(store.CLIENT, report)

    head, *lines = (run.samples / "dial.csv").read_text().splitlines()
    assert head == "dialled_ns,connected_ns" and len(lines) == report.probes["dial"].sent >= 5

    dials = dial_probe.Dials(*raw.Reader(run).table("dial").values())
    assert dials.connected_ns.dtype == np.int64 and (dials.connected_ns >= dials.dialled_ns).sum() >= 5
    counts = run.read(store.CLIENT).of("dial")
    assert counts is not None and counts.answered >= 5

    found = data.load(run.path)
    spec, missing = timeline.spec(found, PRINT)
    assert spec is not None and missing == []
    assert [pane["name"] for pane in spec["vconcat"]] == [
        "phases", "remaining", "rates", "ticks", "trips", "cpu", "dials",
    ]  # fmt: skip
    assert len(spec["datasets"]["dial"]) >= 5
    assert ["dial", "middle", "new connection", "ms"] in spec["usermeta"]["readings"]
    assert "New connections" in page.page(found)


def test_a_run_without_the_new_probe_says_so(dialled: None, tmp_path: Path) -> None:
    found = data.load(run_sample.demo(tmp_path / "run"))
    spec, missing = timeline.spec(found, PRINT)
    assert missing == ["New connections: none was made in this run."]
    assert spec is not None and "dials" not in [pane["name"] for pane in spec["vconcat"]]


def test_what_draws_the_timeline_knows_no_probe() -> None:
    """Neither its module nor its file, its columns, its titles and names."""
    for name in ("timeline.py", "series.py", "page.js"):
        text = (ROOT / "src/limosa/report" / name).read_text()
        for probe in registry.PROBES:
            module = type(probe).__module__.rpartition(".")[2]
            columns = [column for column in probe.columns if "_" in column]
            drawn = [each for series in probe.series for each in (series.reading, series.label) if each]
            titles = [series.pane.title for series in probe.series if series.pane is not None]
            assert [
                word for word in (f"probes import {module}", f"probes.{module}", probe.subject) if word in text
            ] == []
            quoted = [*columns, *drawn, *titles, probe.absent]
            assert [word for word in quoted if f'"{word}"' in text] == []
            assert f'["{probe.name}"]' not in text


@pytest.mark.parametrize("probe", [p for p in registry.PROBES if p.sampler is not None], ids=lambda p: p.name)
def test_what_is_sent_needs_the_standard_library_alone(probe: registry.Probe[object], tmp_path: Path) -> None:
    """With neither site packages nor limosa to fall back on, and with this one probe alone."""
    sent = client_probe.program([type(probe).__module__])
    argv = bundle.command(sys.executable, json.dumps({"directory": str(tmp_path), "probes": {}}))
    done = subprocess.run(argv, input=sent, capture_output=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [json.loads(line)["did"] for line in done.stdout.splitlines()] == ["ready", "stop"]


def test_every_probe_is_listed() -> None:
    """A file with a ``PROBE`` that nobody lists would measure nothing."""
    listed = {type(probe).__module__.rpartition(".")[2] for probe in registry.PROBES}
    folder = ROOT / "src/limosa/probes"
    assert listed == {path.stem for path in folder.glob("*.py") if "PROBE" in _names(path)}
    assert len({probe.name for probe in registry.PROBES}) == len(registry.PROBES)


def _names(path: Path) -> set[str]:
    assigned = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    return {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}
