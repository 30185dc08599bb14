"""A kind of image that a test adds is prepared, started and moved like any other: by its row and its module alone."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from limosa.guest.bare import Primes, Ready, parse
from limosa.lab import Lab
from tests import toy_image
from tests.limosa_command import Traces

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]

NAME = "toys"
LAB = f"""
name: {NAME}
hosts: {{host1: {{}}, host2: {{}}}}
guests:
  one: {{host: host1, image: toy, accel: tcg}}
"""
WITHIN_S = 60.0


def said(home: Path) -> str:
    """All that the guest has printed, in the order of its hosts."""
    logs = sorted((home / "limosa").rglob("one@*.console.log"))
    return "".join(log.read_text() for log in logs)


def wait_events(home: Path, more_than: int) -> int:
    """How many events the guest has counted, once that is more than so many."""
    end = time.monotonic() + WITHIN_S
    while True:
        counted = max((report.events for report in parse(said(home)) if isinstance(report, Primes)), default=0)
        if counted > more_than:
            return counted
        assert time.monotonic() < end, said(home)
        time.sleep(0.05)


async def test_a_guest_of_a_kind_that_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_image.added(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "limosa").mkdir()
    (tmp_path / "toys.yaml").write_text(LAB)
    traces = Traces(tmp_path)
    async with Lab.open(tmp_path / "toys.yaml") as lab:
        try:
            await lab.up()
            traces.look()
            record = json.loads((lab.directory.guest("one") / "record.json").read_bytes())
            assert record["image"] == {"name": "toy"} and record["cpu"] == toy_image.TOY.cpu
            before = wait_events(tmp_path, 0)
            (ready,) = [report for report in parse(said(tmp_path)) if isinstance(report, Ready)]
            assert (ready.mode, ready.limit, ready.report) == ("primes", 2000, 20)
            await lab.migrate("one", "host2")
            assert await lab.guests.where("one") == "host2"
            assert wait_events(tmp_path, before) > before
            assert await lab.stop("one")
        finally:
            await lab.down()
    traces.assert_gone(within_s=0)
