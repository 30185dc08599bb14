"""Watching guests of a lab that goes on: any number of times, and whatever became of the watch before."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from limosa import Lab, Settings, Workload, process, reported, watch
from limosa.errors import BusyError, MigrationError, StateError
from limosa.experiment.workload import DISK_FILE, REGION
from limosa.results import store
from tests.limosa_command import Command, Traces

pytestmark = pytest.mark.system

LAB = """\
name: watched
hosts: {host1: {}, host2: {}}
guests:
  guest1: {host: host1, memory: 256 MiB}
  guest2: {host: host2, memory: 256 MiB}
"""
MIB = 1 << 20
WORK = Workload(region_bytes=4 * MIB, working_set_bytes=4 * MIB, write_rate_bytes_per_s=MIB)

WATCHER = """
import asyncio, sys
from limosa import Lab, Workload, watch

async def main():
    async with Lab.open("watched") as lab, watch(lab, "guest1", workload=Workload()) as watched:
        print(watched.run.path.name, flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="limosa-watched-"))
    command, traces = Command(home), Traces(home)
    (home / "watched.yaml").write_text(LAB)
    command.ok("up", "watched.yaml", timeout_s=240)
    traces.look()
    yield home
    command.ok("down", "--lab", "watched")
    traces.assert_gone(within_s=0)
    shutil.rmtree(home)


@pytest.fixture
async def lab(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    async with Lab.open("watched") as lab:
        yield lab


@asynccontextmanager
async def another(home: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A watch of guest1, with a workload, by another program; it has begun."""
    child = await process.start([sys.executable, "-c", WATCHER], env=Command(home).env())
    try:
        assert child.stdout is not None
        assert await asyncio.wait_for(child.stdout.readline(), 120), "it says where it writes when it has begun"
        yield child
    finally:
        await process.stop(child)


async def at_work(lab: Lab, guest: str) -> list[str]:
    """What goes on in the guest that a measurement begins, or lies there."""
    async with lab.guests.agent(guest) as agent:
        found = {
            "ticks": (await agent.ticks_status()).running,
            "echo": (await agent.echo_status()).running,
            "memory": (await agent.memory_status()).pages > 0,
            "disk": (await agent.disk_status()).running,
            "cpu": (await agent.cpu_read()).running,
        }
        try:
            await agent.region_checksum(REGION)
        except StateError:
            found["region"] = False
        else:
            found["region"] = True
    listed = await process.run(lab.guests.ssh(guest, ["ls", DISK_FILE]), check=False)
    found["file"] = listed.returncode == 0
    return [name for name, there in found.items() if there]


async def watched(lab: Lab, guest: str, target: str = "") -> None:
    """One whole watch with a workload, in which all went well."""
    async with watch(lab, guest, workload=WORK) as measurement:
        assert {"region", "memory", "disk", "ticks", "echo", "cpu", "file"} == set(await at_work(lab, guest))
        if target:
            assert (await measurement.migrate(target)).failure is None
    checks = {check.name: check.passed for check in measurement.run.read(store.CHECKS)}
    assert len(checks) == 6 and all(checks.values()), checks
    assert len(measurement.run.read_or(store.MIGRATIONS, [])) == bool(target)


async def test_twice_and_with_moves_and_nothing_goes_on_in_the_guest(lab: Lab) -> None:
    for target in ("", "host2", "host1", ""):
        await watched(lab, "guest1", target)
        assert await at_work(lab, "guest1") == []


async def test_two_guests_at_once_each_in_its_own_run(lab: Lab) -> None:
    async with watch(lab, "guest1", workload=WORK) as first, watch(lab, "guest2", workload=WORK) as second:
        await asyncio.sleep(1)
        assert (await first.migrate("host2")).failure is None
        await asyncio.sleep(1)
    for run, migrations in ((first.run, 1), (second.run, 0)):
        assert all(check.passed for check in run.read(store.CHECKS)), run.read(store.CHECKS)
        progress = (run.samples / "progress.csv").read_text().splitlines()
        assert (len(progress) > 1) == bool(migrations), "who did not move has no progress"
        ticks = json.loads((run.samples / "client.json").read_text())["probes"]["ticks"]
        assert ticks["count"] > 100 and ticks["foreign"] == 0, ticks
    assert [len(reported(run).summary.migrations) for run in (first.run,)] == [1]
    assert await at_work(lab, "guest1") == await at_work(lab, "guest2") == []
    await lab.migrate("guest1", "host1")


async def test_after_a_cancelled_migration_and_a_cancelled_watch(lab: Lab) -> None:
    begun = asyncio.Event()

    async def interrupted() -> None:
        async with watch(lab, "guest1", workload=WORK) as measurement:
            # It cannot end: 1 ms is never enough for what is written meanwhile.
            slow = Settings(options={"max-bandwidth": 2 * MIB, "downtime-limit": 1}, timeout_s=2)
            assert isinstance((await measurement.migrate("host2", slow)).failure, MigrationError)
            begun.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(interrupted())
    waits = asyncio.create_task(begun.wait())
    await asyncio.wait({task, waits}, return_when=asyncio.FIRST_COMPLETED)
    assert not task.done(), task.exception()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await at_work(lab, "guest1") == []
    await watched(lab, "guest1")


async def test_after_a_watch_that_was_killed(lab: Lab, home: Path) -> None:
    async with another(home) as child:
        os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
        assert "disk" in await at_work(lab, "guest1"), "who is killed ends nothing"
    async with watch(lab, "guest1"):
        assert await at_work(lab, "guest1") == ["ticks", "echo", "cpu"], "whose work it was is gone"
    await watched(lab, "guest1")


async def test_one_watch_of_a_guest_at_a_time(lab: Lab, home: Path) -> None:
    async with another(home) as child:
        runs = len(Command(home).runs)
        with pytest.raises(BusyError, match="guest guest1 is being measured by another command"):
            async with watch(lab, "guest1"):
                pass
        assert len(Command(home).runs) == runs, "no run is made of what cannot be measured"
        for words in (("down", "--lab", "watched"), ("down", "--all", "--yes")):
            Command(home).run(*words).refused(5, "guest guest1 is busy: the measurement")
        assert "disk" in await at_work(lab, "guest1"), "the first goes on"
        child.send_signal(signal.SIGINT)
        await child.wait()
    assert await at_work(lab, "guest1") == [], "Ctrl-C ends the work in the guest too"
    await watched(lab, "guest1")


async def test_writers_that_no_watch_began_go_on(lab: Lab) -> None:
    async with lab.guests.agent("guest2") as agent:
        await agent.memory_start(MIB, rate_bytes_per_s=MIB)
    async with watch(lab, "guest2"):
        pass
    assert await at_work(lab, "guest2") == ["memory"]
    async with lab.guests.agent("guest2") as agent:
        await agent.memory_stop(release=True)
