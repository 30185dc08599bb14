"""Systems that limosa did not make, through the main job: they boot, let us in, get the agent, move and come back."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa.experiment.result import reported
from limosa.experiment.watch import watch
from limosa.experiment.workload import Workload
from limosa.lab import Lab
from limosa.results.summary_tables import tables
from tests import own_systems
from tests.limosa_command import Command, Traces

pytestmark = [pytest.mark.system, pytest.mark.slow]

LAB = """\
name: strange
networks: {{lan: {{subnet: 10.77.1.0/24}}}}
hosts: {{host1: {{}}, host2: {{}}}}
guests:
  guest1: {{host: host1, memory: 192 MiB, accel: tcg, address: 10.77.1.101, image: {image}, disk: {{overlay: true}}}}
"""


@pytest.fixture
def home() -> Iterator[Command]:
    folder = Path(tempfile.mkdtemp(prefix="limosa-own-"))
    traces = Traces(folder)
    yield Command(folder)
    traces.assert_gone(within_s=0)
    shutil.rmtree(folder)


async def measured(name: str, guest: str) -> None:
    """There and back under load, with all clocks; prints what it cost."""
    async with Lab.open(name) as lab:
        async with watch(lab, guest, workload=Workload()) as watched:
            for target in ("host2", "host1"):
                await asyncio.sleep(3)
                outcome = await watched.migrate(target)
                assert outcome.failure is None, outcome.failure
            await asyncio.sleep(3)
        result = reported(watched.run)
    for table in tables(result.summary):
        print(table.title, *table.rows, sep="\n  ")
    assert result.passed and [row.outcome for row in result.summary.migrations] == ["completed"] * 2


async def test_a_stranger_goes_through_the_main_job(home: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its SSH host key is unknown and believed once; the agent is put into its memory; all clocks work."""
    file = home.home / "strange.yaml"
    file.write_text(LAB.format(image=json.dumps(await own_systems.stranger(home.home))))
    home.ok("up", str(file), timeout_s=400)
    try:
        monkeypatch.setenv("XDG_STATE_HOME", str(home.home))
        await measured("strange", "guest1")
        assert home.ok("ssh", "guest1", "ls /usr/bin/limosa-agent 2>&1 || true").text.count("No such file") == 1
        home.ok("migrate", "guest1", "host2")
        assert home.ok("ssh", "guest1", "hostname").text.strip() == "stranger"
    finally:
        home.ok("down", "--lab", "strange")


async def test_a_guest_without_an_agent_has_a_demo_of_what_is_left(home: Command) -> None:
    """No login and no agent: QEMU's clocks, and whether it answers; the rest is said to be missing, not made up."""
    file = home.home / "strange.yaml"
    image = {**await own_systems.stranger(home.home), "ssh": False}
    image.pop("key")
    file.write_text(LAB.format(image=json.dumps(image)))
    done = home.ok("demo", "--lab", str(file), timeout_s=400)
    assert "no agent runs in guest1" in done.errors
    print(done.text)
    (run,) = home.runs
    summary = json.loads((run / "summary.json").read_bytes())
    rows = summary["migrations"]
    assert [row["outcome"] for row in rows] == ["completed", "completed"]
    for row in rows:
        read = {name for name, value in row["clocks"].items() if value is not None}
        assert read == {"qemu_downtime_ms", "stop_resume_ms"}, row["clocks"]
    assert [(check["name"], check["passed"]) for check in summary["checks"]] == [("guest-alive", True)]
    assert any("No client probed the guest" in remark for remark in summary["remarks"])
    assert "not measured" in (run / "report.html").read_text()


ALPINE = """\
name: alpine
hosts: {{host1: {{}}, host2: {{}}}}
guests: {{guest1: {{host: host1, memory: 512 MiB, accel: tcg, image: {image}, disk: {{overlay: true}}}}}}
"""


async def test_alpine_with_its_own_kernel_goes_through_the_main_job(
    home: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it but the login session: it runs no SSH server. Its address comes by the lab's DHCP."""
    try:
        image = await own_systems.alpine(home.home)
    except LookupError as error:
        pytest.skip(str(error))
    file = home.home / "alpine.yaml"
    file.write_text(ALPINE.format(image=json.dumps(image)))
    home.ok("up", str(file), timeout_s=1000)
    try:
        monkeypatch.setenv("XDG_STATE_HOME", str(home.home))
        await measured("alpine", "guest1")
        assert "this is guest1, kept as guest1" in home.ok("logs", "guest1", "--lines", "2000").text
    finally:
        home.ok("down", "--lab", "alpine")
