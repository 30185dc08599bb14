"""A probe that limosa does not have, in a real measurement of a guest that is moved."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from limosa import Lab, reported, requirements, spec, watch
from limosa.errors import MachineError
from limosa.probes import registry
from limosa.report import data, timeline
from limosa.report.theme import PRINT
from tests import dial_probe

pytestmark = pytest.mark.system

LAB = spec.loads("""
name: dials
hosts: {host1: {}, host2: {}}
guests: {guest1: {host: host1, memory: 512 MiB}}
""")


async def test_it_measures_with_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered, and nothing else: it is configured, runs beside the others, and is recorded, read and drawn."""
    if missing := await requirements.missing():
        pytest.skip(f"not installed: {', '.join(r.program for r in missing)}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(registry, "PROBES", (*registry.PROBES, dial_probe.PROBE))
    async with Lab.open(LAB, ephemeral=True) as lab:
        try:
            await lab.up()
        except MachineError as error:
            pytest.skip(str(error))
        async with watch(lab, "guest1") as watched:
            await asyncio.sleep(2)
            await watched.migrate("host2")
            await asyncio.sleep(2)
        result = reported(watched.run)

    run = watched.run.path
    assert json.loads((run / "environment.json").read_text())["probes"]["dials per s"] == 50.0
    counts = json.loads((run / "samples/client.json").read_text())["probes"]
    assert counts.keys() == {"ticks", "echo", "service", "dial"} and counts["dial"]["answered"] > 20
    assert len((run / "samples/dial.csv").read_text().splitlines()) == counts["dial"]["sent"] + 1
    drawn, _ = timeline.spec(data.load(run), PRINT)
    assert drawn is not None and [pane["name"] for pane in drawn["vconcat"]][-2:] == ["cpu", "dials"]
    [migration] = result.summary.migrations
    assert migration.clocks.tick_gap_ms is not None and migration.clocks.service_stall_ms is not None
