"""The monitor against a QMP server that is late, rude or gone: what real QEMU does not do on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from limosa.deadline import Deadline
from limosa.errors import LimosaError, QmpError, StateError
from limosa.events import Event, Events, QmpExchanged
from limosa.qemu import monitor
from limosa.qemu.monitor import Monitor
from tests.fake_qmp import GREETING, HANG_UP, Error, FakeQmp, Late, Raw
from tests.local_host import LocalHost

RUNNING = {"status": "running", "running": True, "singlestep": False}


@pytest_asyncio.fixture
async def qmp(tmp_path: Path) -> AsyncIterator[FakeQmp]:
    async with FakeQmp(tmp_path / "control.qmp", {"query-status": RUNNING}).serving() as server:
        yield server


async def connect(qmp: FakeQmp, events: Events | None = None) -> Monitor:
    return await Monitor.open(LocalHost("host1"), str(qmp.path), "web", events or Events(), "control")


async def test_answers_and_what_is_told(qmp: FakeQmp) -> None:
    heard: list[Event] = []
    control = await connect(qmp, Events(heard.append))
    assert await control.status() == "running"
    await control.set_parameters({"downtime-limit": 300})
    assert qmp.said[-1] == ("migrate-set-parameters", {"downtime-limit": 300})
    told = [(e.command, e.error) for e in heard if isinstance(e, QmpExchanged)]
    assert told == [("query-status", ""), ("migrate-set-parameters", "")]
    await control.close()
    await control.close()
    assert not control.connected


async def test_refusal(qmp: FakeQmp) -> None:
    qmp.script["migrate"] = Error("There's a migration process in progress")
    control = await connect(qmp)
    with pytest.raises(QmpError, match="QEMU on host1 refused migrate: There's a migration process") as caught:
        await control.migrate("tcp:10.77.1.12:4444")
    assert caught.value.error_class == "GenericError"
    assert await control.status() == "running"  # a refusal ends nothing
    await control.close()


async def test_late_answer(qmp: FakeQmp, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too late is given up, and when it comes it is not taken for the answer to another question."""
    monkeypatch.setattr(monitor, "ANSWER_S", 0.05)
    qmp.script["query-status"] = [Late(0.1, {"status": "inmigrate"}), RUNNING]
    control = await connect(qmp)
    with pytest.raises(QmpError, match=r"did not answer query-status within 0\.05 s") as caught:
        await control.status()
    assert caught.value.error_class == "Silent" and control.connected
    await asyncio.sleep(0.08)
    assert await control.status() == "running"
    await control.close()


async def test_events_while_a_command_is_pending(qmp: FakeQmp) -> None:
    qmp.script["query-migrate"] = Late(0.05, {"status": "active"})
    control = await connect(qmp)
    asked = asyncio.ensure_future(control.migrate_info())
    await asyncio.sleep(0.01)
    qmp.event("STOP", at_ns=1_700_000_000_123_456_000)
    qmp.event("MIGRATION", status="completed")
    event = await control.next_event()
    assert (event.name, event.time_ns) == ("STOP", 1_700_000_000_123_456_000)
    assert (await asked).status == "active"
    assert [(e.name, e.data) for e in control.pending_events()] == [("MIGRATION", {"status": "completed"})]
    await control.close()


async def test_moment_is_known_whoever_reads(qmp: FakeQmp) -> None:
    """A reader that is cancelled with an event in its hands must not lose the moment of RESUME."""
    control = await connect(qmp)
    qmp.event("RESUME", at_ns=1_000_000_000)
    await control.wait_event("RESUME", Deadline.after(1))
    seen = control.event_count
    assert control.moment("RESUME") == 1_000_000_000 and control.moment("RESUME", seen) is None
    reader = asyncio.ensure_future(control.next_event())
    await asyncio.sleep(0)
    qmp.event("RESUME", at_ns=2_000_000_000)
    async for _ in Deadline.after(1).ticks(0):
        if control.event_count > seen:
            break
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    assert control.moment("RESUME", seen) == 2_000_000_000 and control.moment("STOP") is None
    await control.close()


async def test_end_while_a_command_is_pending(qmp: FakeQmp) -> None:
    qmp.script["query-status"] = HANG_UP
    control = await connect(qmp)
    with pytest.raises(QmpError, match="QEMU of guest web on host1 went away") as caught:
        await control.status()
    assert caught.value.error_class == "Gone"
    assert await control.wait_ended(Deadline.after(1))
    with pytest.raises(QmpError, match="went away"):
        await control.status()
    await control.quit()  # what is gone has been ended
    await control.close()


async def test_end_while_an_event_is_awaited(qmp: FakeQmp) -> None:
    """What QEMU said before its end is read first."""
    control = await connect(qmp)
    qmp.event("RESUME")
    qmp.hang_up()
    assert (await control.next_event()).name == "RESUME"
    with pytest.raises(QmpError, match="went away"):
        await control.next_event()
    assert control.moment("RESUME") is not None
    await control.close()


async def test_two_readers_share_what_comes(qmp: FakeQmp) -> None:
    """Neither takes it for an end that the other one was quicker."""
    control = await connect(qmp)
    readers = [asyncio.ensure_future(control.next_event()) for _ in range(2)]
    await asyncio.sleep(0)
    qmp.event("STOP")
    done, waiting = await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    assert [each.result().name for each in done] == ["STOP"] and len(waiting) == 1 and control.connected
    qmp.event("RESUME")
    assert (await asyncio.wait_for(waiting.pop(), 5)).name == "RESUME"
    await control.close()


@pytest.mark.parametrize("garbage", [b"not json\r\n", b'"text"\r\n', b'{"neither": 1}\r\n{"return": {}}\r\n\xff\r\n'])
async def test_garbage(qmp: FakeQmp, garbage: bytes) -> None:
    qmp.script["query-status"] = Raw(garbage)
    control = await connect(qmp)
    with pytest.raises(QmpError):
        await control.status()
    await control.close()


async def test_answer_cut_short(qmp: FakeQmp) -> None:
    control = await connect(qmp)
    asked = asyncio.ensure_future(control.migrate_info())
    qmp.script["query-migrate"] = Raw(b'{"return": {"status": "comp')
    await asyncio.sleep(0.02)
    qmp.hang_up()
    with pytest.raises(QmpError):
        await asked
    await control.close()


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH\r\n", b'{"QMP": 1}\r\n'])
async def test_greeting_of_somebody_else(tmp_path: Path, greeting: bytes) -> None:
    server = FakeQmp(tmp_path / "control.qmp", greeting=greeting)
    async with server.serving():
        with pytest.raises(StateError, match="QEMU of guest web on host1 does not answer"):
            await connect(server)


async def test_greeting_in_pieces(tmp_path: Path) -> None:
    server = FakeQmp(tmp_path / "control.qmp", {"query-status": RUNNING}, greeting=json.dumps(GREETING)[:20].encode())
    async with server.serving():
        opening = asyncio.ensure_future(connect(server))
        await server.wait_client()
        await asyncio.sleep(0.02)
        server.write(json.dumps(GREETING)[20:].encode() + b"\r\n")
        control = await opening
        assert await control.status() == "running"
        await control.close()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(StateError):
        await Monitor.open(LocalHost(), str(tmp_path / "none.qmp"), "web", Events(), "control")


async def test_event_that_does_not_come(qmp: FakeQmp) -> None:
    control = await connect(qmp)
    qmp.event("STOP")
    with pytest.raises(LimosaError, match="did not report RESUME in time"):
        await control.wait_event("RESUME", Deadline.after(0.03))
    await control.close()


async def test_capabilities_of_an_earlier_migration_are_turned_off(qmp: FakeQmp) -> None:
    qmp.script["query-migrate-capabilities"] = [
        {"capability": "multifd", "state": True},
        {"capability": "xbzrle", "state": False},
        {"capability": "events", "state": True},
    ]
    control = await connect(qmp)
    await control.set_capabilities(("events", "auto-converge"))
    assert qmp.said[-1][1]["capabilities"] == [
        {"capability": "events", "state": True},
        {"capability": "auto-converge", "state": True},
        {"capability": "multifd", "state": False},
    ]
    await control.close()
