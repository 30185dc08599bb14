"""A guest that is asked for more than it can do, and never converges: what is said of it is what was seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from limosa import Lab, Settings, Workload, reported, spec, watch
from limosa.events import Event, Events, MigrationProgressed, Note, StageFinished
from limosa.results import store

pytestmark = pytest.mark.system
MIB = 1 << 20
EXAMPLE = Path(__file__).parents[2] / "examples" / "two-hosts.yaml"
ASKED = 100_000 * MIB
"""No machine writes so much."""


async def test_what_was_asked_for_is_not_told_as_what_came(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    heard: list[Event] = []
    described = msgspec.structs.replace(spec.load(EXAMPLE), name="asked")
    workload = Workload(working_set_bytes=32 * MIB, write_rate_bytes_per_s=ASKED, pattern="sequential")
    async with Lab.open(described, events=Events(heard.append), ephemeral=True) as lab:
        await lab.up()
        async with watch(lab, "guest1", workload=workload) as watched:
            await asyncio.sleep(2)
            # QEMU may stop the guest for what is sent in a millisecond; all 32 MiB are written anew in every pass.
            slow = Settings(options={"max-bandwidth": 24 * MIB, "downtime-limit": 1}, timeout_s=16)
            failed = await watched.migrate("host2", slow)
            done = await watched.migrate("host2", Settings(options={"downtime-limit": 20_000}))
            await asyncio.sleep(2)
        summary = reported(watched.run).summary
    _check_failure(failed.failure, heard)
    assert done.failure is None, done.failure
    memory = next(rate for rate in summary.rates if rate.name == "memory writes")
    assert memory.requested == ASKED and memory.at_rest is not None and 0 < memory.at_rest < 0.9 * ASKED
    assert len(memory.moving) == 2 and None not in memory.moving
    said = [event.text for event in heard if isinstance(event, Note) and event.level == "warning"]
    assert any("97.7 GiB/s asked for" in text for text in said), said
    assert summary.rest is not None and summary.rest.longest_wait_ms is not None
    moved = summary.migrations[1]
    assert moved.clocks.guest_lost_ms is not None
    assert moved.clock_behind_ms == pytest.approx(moved.clocks.guest_lost_ms, abs=5)
    for migration in watched.run.read(store.MIGRATIONS):
        assert migration.capabilities_in_force == ["events"]
    assert migration.parameters_in_force is not None and migration.parameters_in_force["downtime-limit"] == 20_000


def _check_failure(failure: Exception | None, heard: list[Event]) -> None:
    assert failure is not None and "it did not complete within 16 s" in str(failure)
    stages = [event for event in heard if isinstance(event, StageFinished) and event.stage.startswith("migrate")]
    assert [stage.ok for stage in stages] == [False, True]
    looks = [event for event in heard if isinstance(event, MigrationProgressed)]
    assert all(look.dirty_rate_bytes_per_s is None for look in looks if look.iteration in (None, 1))
    assert all(look.remaining_bytes is None for look in looks if look.status == "setup")
    later = [look for look in looks if (look.iteration or 0) >= 4 and look.status == "active"]
    seen = [(look.iteration, look.remaining_bytes, look.converges) for look in looks]
    assert later and all(look.converges is False and look.expected_end_s is None for look in later), seen
    assert "a pass found no less to send than the one before" in getattr(failure, "hint", "")
