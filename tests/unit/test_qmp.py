"""One QMP connection against a server that says what a test tells it to, byte by byte."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from limosa.deadline import Deadline
from limosa.qemu import qmp
from limosa.qemu.qmp import Ended, Qmp, Refused
from tests.fake_qmp import GREETING, SILENCE, Error, FakeQmp, Late, Raw
from tests.local_host import LocalHost
from tests.qmp_socket import met

pytestmark = pytest.mark.filterwarnings("error")


def line(message: object) -> bytes:
    return json.dumps(message).encode() + b"\r\n"


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[FakeQmp]:
    async with FakeQmp(tmp_path / "control.qmp", {"query-name": {"name": "web"}}).serving() as serving:
        yield serving


@pytest.mark.parametrize(("offered", "taken"), [([], []), (["oob"], ["oob"]), (["new", "oob"], ["oob"])])
async def test_what_is_offered_and_known_is_taken(tmp_path: Path, offered: list[str], taken: list[str]) -> None:
    greeting = {"QMP": {**GREETING["QMP"], "capabilities": offered}}
    async with FakeQmp(tmp_path / "control.qmp", greeting=line(greeting)).serving() as server:
        connection = await met(server.path)
        assert server.said == [("qmp_capabilities", {"enable": taken})]
        await connection.execute("query-name")
        await connection.execute("yank", {"instances": []}, out_of_band=True)
        assert server.said[-1] == ("yank", {"instances": []}) and server.out_of_band == ["yank"]
        await connection.close()


async def test_answers_in_any_order_reach_who_asked(server: FakeQmp) -> None:
    server.script |= {"query-migrate": Late(0.05, {"status": "active"}), "stop": Error("not now", "Busy")}
    connection = await met(server.path)
    slow = asyncio.ensure_future(connection.execute("query-migrate"))
    assert await connection.execute("query-name") == {"name": "web"}
    with pytest.raises(Refused, match="not now") as refused:
        await connection.execute("stop")
    assert refused.value.error_class == "Busy"
    assert await slow == {"status": "active"}
    await connection.close()


async def test_answer_that_nobody_waits_for_any_more_is_dropped(server: FakeQmp) -> None:
    server.script |= {"query-migrate": Late(0.03), "stop": Late(0.03, Error("late"))}
    connection = await met(server.path)
    asked = [asyncio.ensure_future(connection.execute(command)) for command in ("query-migrate", "stop")]
    await asyncio.sleep(0)
    for each in asked:
        each.cancel()
    await asyncio.sleep(0.06)
    assert await connection.execute("query-name") == {"name": "web"} and not connection.end
    await connection.close()


@pytest.mark.parametrize(
    "said",
    [b"no JSON\r\n", b"[]\r\n", b'"text"\r\n', b"\xff\xfe\r\n", line({"return": {}}), line({"id": "1"}),
     line({"error": {"class": "GenericError", "desc": "which command?"}}), line({"error": 7, "id": "2"}),
     line({"event": 3}), line({"return": 1, "id": 2}), line(GREETING), b"[" * 100_000 + b"\r\n"],
)  # fmt: skip
async def test_what_is_no_qmp_ends_the_connection(server: FakeQmp, said: bytes) -> None:
    server.script["query-status"] = Raw(said)
    connection = await met(server.path)
    with pytest.raises(Ended, match="what it says is no QMP"):
        await connection.execute("query-status")
    with pytest.raises(Ended, match="what it says is no QMP"):
        await connection.execute("query-name")
    await connection.close()


async def test_nothing_is_taken_from_behind_what_is_no_qmp(server: FakeQmp) -> None:
    server.script["query-status"] = Raw(b"?\r\n" + line({"event": "STOP"}) + line({"return": {}, "id": "2"}))
    connection = await met(server.path)
    with pytest.raises(Ended, match="no QMP"):
        await connection.execute("query-status")
    assert connection.events == []
    await connection.close()


async def test_message_without_an_end(server: FakeQmp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "LONGEST_MESSAGE_BYTES", 100_000)
    server.script["query-status"] = Raw(b"{" + b" " * 200_000)
    connection = await met(server.path)
    with pytest.raises(Ended, match="more than 100000 bytes"):
        await connection.execute("query-status")
    await connection.close()


async def test_large_answer_in_many_pieces(server: FakeQmp) -> None:
    schema: Any = [{"name": f"command-{number}", "meta-type": "command"} for number in range(20_000)]
    server.script["query-qmp-schema"] = lambda _: schema
    connection = await met(server.path)
    assert await connection.execute("query-qmp-schema") == schema
    await connection.close()


async def test_messages_in_pieces_of_any_size(server: FakeQmp) -> None:
    connection = await met(server.path)
    said = b"".join(line({"event": name}) for name in ("STOP", "RESUME", "STOP")) + b"\r\n\n"
    for size in (1, 2, 3, 7, len(said)):
        for start in range(0, len(said), size):
            connection.data_received(said[start : start + size])
    assert [event["event"] for event in connection.events] == ["STOP", "RESUME", "STOP"] * 5 and not connection.end
    await connection.close()


async def paired() -> tuple[Qmp, socket.socket]:
    """A connection, and its other end to speak with by hand."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    opening = asyncio.ensure_future(Qmp.over(ours))
    theirs.sendall(line(GREETING))
    assert b"qmp_capabilities" in await asyncio.get_running_loop().sock_recv(theirs, 1 << 16)
    theirs.sendall(line({"return": {}, "id": "1"}))
    return await opening, theirs


async def test_what_was_said_last_is_taken_when_a_command_meets_the_end() -> None:
    """A target that ran for a moment has said RESUME: whoever ends it then must not miss that."""
    connection, theirs = await paired()
    theirs.sendall(line({"event": "RESUME"}) + b'{"event": "cut sho')
    theirs.close()
    with pytest.raises(Ended, match="it hung up"):
        await connection.execute("quit")
    assert [event["event"] for event in connection.events] == ["RESUME"]
    await connection.close()


async def test_end_is_noticed_while_something_of_ours_is_unsent() -> None:
    connection, theirs = await paired()
    asked = asyncio.ensure_future(connection.execute("human-monitor-command", {"command-line": "x" * (8 << 20)}))
    await asyncio.sleep(0)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(Ended, match="it hung up"):
        await asyncio.wait_for(asked, 10)
    theirs.close()
    await connection.close()


async def test_command_that_is_no_json_is_forgotten() -> None:
    connection, theirs = await paired()
    with pytest.raises(TypeError):
        await connection.execute("query-name", {"not": object()})
    assert not connection._answers
    await connection.close()
    theirs.close()


async def test_a_socket_that_is_closed() -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.close()
    with pytest.raises(Ended, match="Bad file descriptor"):
        await Qmp.over(connection)


async def test_events_before_an_answer_are_there_with_it(server: FakeQmp) -> None:
    server.script["stop"] = Raw(line({"event": "STOP"}) + line({"event": "RESUME"}) + line({"return": {}, "id": "2"}))
    connection = await met(server.path)
    await connection.execute("stop")
    assert [event["event"] for event in connection.events] == ["STOP", "RESUME"]
    await connection.close()


async def test_all_who_wait_hear_of_news_and_of_the_end(server: FakeQmp) -> None:
    connection = await met(server.path)
    waiting = [asyncio.ensure_future(connection.more_events(seen)) for seen in (0, 0, 1, 2)]
    await asyncio.sleep(0)
    server.event("STOP")
    async for _ in Deadline.after(5).ticks(0.005):
        if all(each.done() for each in waiting[:2]):
            break
    assert [each.done() for each in waiting] == [True, True, False, False]
    server.event("RESUME")
    server.hang_up()
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert connection.end == "it hung up" and len(connection.events) == 2


@pytest.mark.parametrize("server_ends", [True, False])
async def test_end_reaches_all_who_wait(server: FakeQmp, server_ends: bool) -> None:
    server.script["query-status"] = SILENCE
    connection = await met(server.path)
    asked = [asyncio.ensure_future(connection.execute("query-status")) for _ in range(3)]
    await asyncio.sleep(0.01)
    if server_ends:
        server.hang_up()
    else:
        await connection.close()
    why = "it hung up" if server_ends else "it was closed"
    ends = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
    assert [str(end) for end in ends] == [why] * 3 and all(isinstance(end, Ended) for end in ends)
    await connection.close()
    await connection.close()


async def test_hung_up_means_that_the_next_may_connect(server: FakeQmp) -> None:
    """As QEMU, which serves one client at a time: the descriptor is closed when ``close`` is over."""
    connection = await LocalHost().connect(str(server.path))
    await (await Qmp.over(connection)).close()
    assert connection.fileno() == -1


@pytest.mark.parametrize(
    ("greeting", "why"),
    [(b"", "hung up"), (b"SSH-2.0-OpenSSH\r\n", "no QMP"), (line({"QMP": 1}), "no QMP"),
     (line({"QMP": {"capabilities": "oob"}}), "no QMP")],
)  # fmt: skip
async def test_greeting_of_somebody_else(tmp_path: Path, greeting: bytes, why: str) -> None:
    async with FakeQmp(tmp_path / "control.qmp", greeting=greeting).serving() as server:
        with pytest.raises(Ended, match=why):
            await met(server.path)


async def test_a_qemu_that_refuses_to_begin(server: FakeQmp) -> None:
    server.script["qmp_capabilities"] = Error("not for you")
    with pytest.raises(Ended, match="it refuses to begin: not for you"):
        await met(server.path)


async def test_giving_up_while_nothing_is_said_closes_the_socket(tmp_path: Path) -> None:
    async with FakeQmp(tmp_path / "control.qmp", greeting=b" ").serving() as server:
        connection = await LocalHost().connect(str(server.path))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await Qmp.over(connection)
        assert connection.fileno() == -1
