"""A guest may answer anything: each lie ends in one of our errors, or is passed over, and never in a traceback."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from limosa.errors import LimosaError
from limosa.guest.agent import AgentClient

Lie = Callable[[int], bytes]
"""The bytes that answer the request of that id."""

ANSWERS: dict[str, dict[str, Any]] = {
    "hello": {
        "version": 1, "digest": "", "pid": 1, "page_bytes": 4096, "memory_bytes": 1, "cpus": 1,
        "monotonic_ns": 1, "realtime_ns": 1,
    },
    "echo.start": {"port": 7},
    "cpu.start": {"loop_events": 5},
    "cpu.read": {"running": True, "last": 2, "lost": 0, "missed": 0, "samples": [[1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]},
    "memory.counters": {"counters": [1, 2]},
    "memory.verify": {"pages": 1, "corrupt": 0, "stale": 0, "first_bad_page": None},
    "disk.status": {
        "running": True, "acknowledged": 1, "written": 1, "errors": 0, "last_error": "", "slowest_ms": 1.0,
    },
}  # fmt: skip


@asynccontextmanager
async def guest(answer: Callable[[dict[str, Any]], bytes]) -> AsyncIterator[AgentClient]:
    """A client of a guest that answers each request with what *answer* makes of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    reader, writer = await asyncio.open_unix_connection(sock=theirs, limit=1 << 22)

    async def serve() -> None:
        while line := await reader.readline():
            if line.strip():
                writer.write(answer(json.loads(line)))
                await writer.drain()

    serving = asyncio.create_task(serve())
    client = await AgentClient.open(ours)
    try:
        yield client
    finally:
        await client.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        writer.close()


def honest(request: dict[str, Any]) -> bytes:
    return json.dumps({"id": request["id"], "ok": True} | ANSWERS[request["do"]]).encode() + b"\n"


@pytest.mark.parametrize(
    "noise",
    [
        b"\xff\xfe\n",
        b'{"id": "\xc3\x28"}\n',
        b"[" * 100_000 + b"\n",
        b'{"a":' * 50_000 + b"\n",
        b'{"id": ' + b"9" * 4301 + b"}\n",
        b"9" * 4300 + b"\n",
        b"x" * (1 << 21) + b"\n",
        b"\0\n",
        b'null\n[]\n7\n"text"\n',
        b'{"id": null}\n{"id": [1]}\n{"id": {}}\n',
    ],
    ids=lambda noise: repr(noise[:12]),
)
async def test_noise_before_the_answer_is_passed_over(noise: bytes) -> None:
    async with guest(lambda request: noise + honest(request)) as client:
        assert (await client.hello()).version == 1


VERBS: dict[str, Callable[[AgentClient], Awaitable[object]]] = {
    "hello": lambda client: client.hello(),
    "echo.start": lambda client: client.echo_start(),
    "cpu.start": lambda client: client.cpu_start(),
    "cpu.read": lambda client: client.cpu_read(),
    "memory.counters": lambda client: client.memory_counters(),
    "memory.verify": lambda client: client.memory_verify(limit_s=1),
    "disk.status": lambda client: client.disk_status(),
}

WRONG: list[Any] = [None, True, "text", -1.5, [], {}, [[]], [[1]], 1 << 70, -(1 << 80), "9" * 5000, {"a": {"b": [1]}}]


@pytest.mark.parametrize("verb", VERBS)
async def test_every_field_wrong_in_turn_ends_in_a_sentence(verb: str) -> None:
    """Each field of each answer: missing, of another type, too large. Numbers of no meaning may pass as numbers."""
    wrong: dict[str, Any] = {}

    def answer(request: dict[str, Any]) -> bytes:
        return json.dumps({"ok": True} | wrong | {"id": request["id"]}).encode() + b"\n"

    async with guest(answer) as client:
        client_call = VERBS[verb]
        for name in ANSWERS[verb]:
            wrong = {key: value for key, value in ANSWERS[verb].items() if key != name}
            with pytest.raises(LimosaError, match="is not understood"):
                await client_call(client)
            for value in WRONG:
                wrong = ANSWERS[verb] | {name: value}
                if isinstance(value, int) and not isinstance(value, bool):
                    continue  # such a line is no answer at all: the next test
                try:
                    await client_call(client)
                except LimosaError as error:
                    assert len(error.message) < 1000


async def test_an_answer_with_a_number_of_no_machine_is_none() -> None:
    async with guest(lambda request: honest(request).replace(b'"pid": 1', b'"pid": ' + b"9" * 60)) as client:
        with pytest.raises(LimosaError, match="did not answer hello"):
            await client.hello(limit_s=0.05)


async def test_a_refusal_of_any_shape_is_one_short_sentence() -> None:
    for kind in (None, [], {}, 7, "busy", "nonsense"):
        for why in (None, [], 5, "x" * 100_000):
            refusal = {"ok": False, "kind": kind, "error": why}
            async with guest(lambda r, said=refusal: json.dumps({"id": r["id"]} | said).encode() + b"\n") as client:
                with pytest.raises(LimosaError, match="refused hello") as raised:
                    await client.hello()
                assert len(raised.value.message) < 600


async def test_samples_that_never_end_are_refused() -> None:
    for rows in ([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]], [[5, 0, 0, 0, 0]], [[9, 0, 0, 0, 0], [8, 0, 0, 0, 0]]):
        said = ANSWERS["cpu.read"] | {"last": 1 << 60, "samples": rows}
        async with guest(
            lambda r, said=said: json.dumps({"id": r["id"], "ok": True} | said).encode() + b"\n"
        ) as client:
            with pytest.raises(LimosaError, match="out of order"):
                await client.cpu_read(7)


@pytest.mark.parametrize("seed", range(8))
async def test_bytes_changed_at_random(seed: int) -> None:
    chance = random.Random(seed)

    def answer(request: dict[str, Any]) -> bytes:
        line = bytearray(honest(request))
        for _ in range(chance.randrange(4)):
            line[chance.randrange(len(line) - 1)] = chance.randrange(256)
        return bytes(line) + honest(request)

    async with guest(answer) as client:
        for verb in list(VERBS) * 3:
            try:
                await VERBS[verb](client)
            except LimosaError:
                continue
