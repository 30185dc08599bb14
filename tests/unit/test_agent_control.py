from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from agent_process import RunningAgent, program, running

from limosa.deadline import Deadline
from limosa.errors import BusyError, LimosaError, StateError
from limosa.guest.agent import AgentClient, source_digest


@pytest.fixture
def binary() -> Any:
    return program()


@pytest.fixture
async def agent(binary: Any) -> AsyncIterator[RunningAgent]:
    async with running(binary) as started:
        yield started


def ask(connected: socket.socket, raw: bytes) -> dict[str, Any]:
    """Send *raw* and read one line."""
    connected.sendall(raw)
    line = b""
    while not line.endswith(b"\n"):
        received = connected.recv(65536)
        assert received, "the agent closed the connection"
        line += received
    answer = json.loads(line)
    assert isinstance(answer, dict)
    return answer


async def test_hello_tells_who_is_there(agent: RunningAgent) -> None:
    hello = await (await agent.client()).hello()
    assert hello.pid == agent.process.pid
    assert hello.page_bytes == os.sysconf("SC_PAGESIZE")
    assert hello.cpus == os.sysconf("SC_NPROCESSORS_ONLN")
    assert hello.digest == source_digest()
    assert abs(hello.realtime_ns - time.time_ns()) < 1e9


async def test_the_clock_is_that_of_the_machine(agent: RunningAgent) -> None:
    client = await agent.client()
    before = time.monotonic_ns()
    clock = await client.clock()
    assert before < clock.monotonic_ns < time.monotonic_ns()


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\n",
        b"\x00\xff\xfe\n",
        b"{\n",
        b"[1]\n",
        b'{"id":1,"do":"hello"\n',
        b'{"id":1,"do":"hello"} {}\n',
        b'{"id":1,"do":{"nested":1}}\n',
        b'{"id":1,"do":"\\ud800"}\n',
        b'{"id":1.5,"do":"hello"}\n',
        b'{"id":-1,"do":"hello"}\n',
        b'{"id":0,"do":"hello"}\n',
        b'{"do":"hello"}\n',
        b'{"id":1,"do":"hello",}\n',
        b"{" + b'"a":1,' * 30 + b'"b":1}\n',
        b'{"id":1,"do":"' + b"x" * 70000 + b'"}\n',
    ],
)
def test_garbage_is_answered_without_an_id_and_does_no_harm(binary: Any, raw: bytes) -> None:
    done = subprocess.run([binary, "--stdio"], input=raw + b'{"id":7,"do":"clock"}\n', capture_output=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(answer["id"], answer["ok"]) for answer in answers] == [(None, False), (7, True)]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"do": "no.such"}, "no command no.such"),
        ({}, "the field do is missing"),
        ({"do": "ticks.start", "adress": "::1"}, "no argument adress"),
        ({"do": "ticks.start", "port": 1}, "address is missing"),
        ({"do": "ticks.start", "address": "localhost", "port": 9}, "in numbers"),
        ({"do": "ticks.start", "address": "127.0.0.1", "port": 99999}, "from 1 to 65535"),
        ({"do": "ticks.start", "address": 5, "port": 9}, "address has to be a text"),
        ({"do": "memory.start", "working_set_bytes": 1}, "from 4096"),
        (
            {"do": "memory.start", "working_set_bytes": 4096, "pattern": "zigzag"},
            "sequential, uniform or zipf",
        ),
        ({"do": "memory.start", "working_set_bytes": 4096, "compressibility": 1.5}, "from 0 to 1"),
        ({"do": "memory.start", "working_set_bytes": 1 << 42}, "memory to spare"),
        ({"do": "memory.verify"}, "no working set"),
        ({"do": "region.checksum", "region": "r"}, "no region r"),
        ({"do": "disk.start", "path": "/proc/no/such"}, "cannot be opened"),
        ({"do": "disk.start", "path": "/tmp/x", "size_blocks": 1}, "at least 2"),
        ({"do": "disk.verify", "path": "/no/such/file"}, "cannot be read"),
        ({"do": "disk.verify"}, "nothing has been written"),
    ],
)
def test_a_wrong_request_is_refused_with_a_reason(binary: Any, request_: dict[str, Any], words: str) -> None:
    raw = json.dumps({"id": 3, **request_}).encode() + b"\n"
    done = subprocess.run([binary, "--stdio"], input=raw, capture_output=True)
    (answer,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (answer["id"], answer["ok"]) == (3, False)
    assert words in answer["error"]


def test_texts_with_escapes_are_understood(binary: Any) -> None:
    raw = b'{"id" : 1 , "do":"disk.verify","path":"/no/such \\"\\u00e4\\\\\\n"}\n'
    done = subprocess.run([binary, "--stdio"], input=raw, capture_output=True)
    error = json.loads(done.stdout)["error"].encode("latin-1").decode()
    assert '/no/such "ä\\\n' in error


async def test_the_end_of_a_dead_clients_request_is_not_the_next_ones_beginning(agent: RunningAgent) -> None:
    with agent.connect() as first:
        first.sendall(b'{"id":5,"do":"clo')
    with agent.connect() as second:
        assert ask(second, b'{"id":6,"do":"clock"}\n')["id"] == 6


async def test_a_dead_clients_half_request_on_one_stream_is_ended_by_the_client(agent: RunningAgent) -> None:
    """As on a port whose host side changed unseen: the same stream goes on with another client."""
    connected = agent.connect()
    connected.sendall(b'{"id":5,"do":"clo')
    client = await AgentClient.open(connected)
    agent.clients.append(client)
    assert (await client.clock()).monotonic_ns > 0


async def test_a_flood_of_bytes_ends_at_the_next_line(agent: RunningAgent) -> None:
    connected = agent.connect()
    connected.sendall(b"x" * 300_000)
    client = await AgentClient.open(connected)
    agent.clients.append(client)
    assert (await client.clock()).monotonic_ns > 0


async def test_clients_in_a_row_find_the_agents_work_going_on(agent: RunningAgent) -> None:
    first = await agent.client()
    port = await first.echo_start(0)
    await first.close()
    second = await agent.client()
    assert (await second.echo_status()).running
    with pytest.raises(BusyError, match="running already"):
        await second.echo_start(port)


async def test_the_client_passes_over_what_is_not_its_answer() -> None:
    ours, theirs = socket.socketpair()
    client = await AgentClient.open(ours)
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()

    async def serve() -> None:
        await loop.sock_sendall(theirs, b'"pid":3}\n\xff\n[1]\n{"id":null,"ok":false,"error":"old"}\n')
        await loop.sock_sendall(theirs, b"y" * 3_000_000 + b"\n")
        lines = (await loop.sock_recv(theirs, 4096)).split(b"\n")
        assert lines[0] == b""
        request = json.loads(lines[1])
        foreign = {"id": request["id"] - 1, "ok": True, "monotonic_ns": 1, "realtime_ns": 1}
        answer = {"id": request["id"], "ok": True, "monotonic_ns": 2, "realtime_ns": 3}
        await loop.sock_sendall(theirs, f"{json.dumps(foreign)}\n{json.dumps(answer)}\n".encode())

    async with asyncio.TaskGroup() as group:
        group.create_task(serve())
        clock = await client.clock()
    assert (clock.monotonic_ns, clock.realtime_ns) == (2, 3)
    await client.close()
    theirs.close()


async def test_a_late_answer_does_not_go_to_the_next_question(agent: RunningAgent) -> None:
    client = await agent.client()
    await client.hello()
    agent.process.send_signal(signal.SIGSTOP)
    with pytest.raises(LimosaError, match=r"did not answer hello within 0\.05 s"):
        await client.hello(limit_s=0.05)
    agent.process.send_signal(signal.SIGCONT)
    assert "pid" not in await client.call("clock")


async def test_waiting_until_ready_outlasts_a_sleeping_agent(agent: RunningAgent) -> None:
    client = await agent.client()
    agent.process.send_signal(signal.SIGSTOP)
    asyncio.get_running_loop().call_later(0.1, agent.process.send_signal, signal.SIGCONT)
    assert (await client.wait_ready(Deadline.after(5))).pid == agent.process.pid


async def test_waiting_until_ready_has_an_end() -> None:
    ours, theirs = socket.socketpair()
    client = await AgentClient.open(ours)
    with theirs, pytest.raises(LimosaError, match="did not answer"):
        await client.wait_ready(Deadline.after(0.05))
    await client.close()


async def test_a_closed_connection_is_said(agent: RunningAgent) -> None:
    client = await agent.client()
    await client.hello()
    agent.process.kill()
    with pytest.raises(StateError, match="was closed"):
        await client.hello()


async def test_questions_of_several_tasks_get_their_own_answers(agent: RunningAgent) -> None:
    client = await agent.client()
    async with asyncio.TaskGroup() as group:
        hellos = [group.create_task(client.hello()) for _ in range(20)]
        clocks = [group.create_task(client.clock()) for _ in range(20)]
    assert {task.result().pid for task in hellos} == {agent.process.pid}
    assert len({task.result().monotonic_ns for task in clocks}) == 20


async def test_quit_ends_an_ordinary_process(agent: RunningAgent) -> None:
    await (await agent.client()).quit()
    assert await asyncio.wait_for(agent.process.wait(), 2) == 0
    assert not agent.path.exists()


def test_unknown_options_are_refused(binary: Any) -> None:
    done = subprocess.run([binary, "--help-me"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage" in done.stderr
