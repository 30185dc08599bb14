"""A QEMU that answers what no QEMU answers: one of our errors tells, and never a traceback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError, QmpError
from limosa.events import Events
from limosa.process import Completed
from limosa.qemu import monitor
from limosa.qemu.features import probe
from limosa.qemu.monitor import Monitor
from limosa.untrusted import decode
from tests.fake_qmp import FakeQmp, Raw
from tests.local_host import LocalHost

WRONG: list[Any] = [
    None, True, 7, -1.5, "text", [], [[]], {}, {"status": 7}, {"status": None}, {"status": "active", "ram": []},
    {"status": "active", "ram": {"total": "much"}}, {"status": "active", "ram": {"total": 1 << 80}},
    {"status": "active", "socket-address": {}}, {"status": "active", "socket-address": [{"port": "1,x"}]},
    {"status": "active", "downtime": []}, [{}], [{"capability": 7, "state": True}], [{"capability": "x"}],
]  # fmt: skip

ASKED: dict[str, Callable[[Monitor], Awaitable[object]]] = {
    "query-status": lambda control: control.status(),
    "query-migrate": lambda control: control.migrate_info(),
    "query-migrate-capabilities": lambda control: control.set_capabilities(("events",)),
    "query-migrate-parameters": lambda control: control.parameters(),
    "query-yank": lambda control: control.migration_over(),
}


@pytest_asyncio.fixture
async def qmp(tmp_path: Path) -> AsyncIterator[FakeQmp]:
    async with FakeQmp(tmp_path / "control.qmp").serving() as server:
        yield server


async def connect(qmp: FakeQmp) -> Monitor:
    return await Monitor.open(LocalHost("host1"), str(qmp.path), "web", Events(), "control")


@pytest.mark.parametrize("command", ASKED)
async def test_answers_of_another_shape(qmp: FakeQmp, command: str) -> None:
    control = await connect(qmp)
    for wrong in WRONG:
        qmp.script[command] = lambda _, answer=wrong: answer
        try:
            await ASKED[command](control)
        except QmpError as error:
            assert error.error_class == "Shape" and "web on host1" in error.message
        assert control.connected
    await control.close()


async def test_what_lacks_its_status_is_refused(qmp: FakeQmp) -> None:
    qmp.script["query-status"] = {"running": True}
    control = await connect(qmp)
    with pytest.raises(QmpError, match="gave an answer to query-status that is none"):
        await control.status()
    await control.close()


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\r\n",
        b"[" * 100_000 + b"\r\n",
        b'{"return": ' + b"9" * 5000 + b"}\r\n",
        b"7\r\n",
        b"[]\r\n",
        b'{"return": {"status": "\xc3\x28"}}\r\n',
        b"x" * (1 << 20) + b"\r\n",
    ],
    ids=lambda line: repr(line[:14]),
)
async def test_lines_that_are_no_qmp(qmp: FakeQmp, line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "ANSWER_S", 0.1)
    qmp.script["query-status"] = Raw(line)
    control = await connect(qmp)
    with pytest.raises(LimosaError):
        await control.status()
    await control.close()


@pytest.mark.parametrize("greeting", [b"\xff\r\n", b"7\r\n", b"{}\r\n", b'{"QMP": 5}\r\n', b"[" * 100_000 + b"\r\n"])
async def test_a_greeting_that_is_none(tmp_path: Path, greeting: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "GREETING_S", 0.1)
    async with FakeQmp(tmp_path / "control.qmp", greeting=greeting).serving() as server:
        with pytest.raises(LimosaError, match="does not answer"):
            await connect(server)


async def test_events_of_another_shape(qmp: FakeQmp) -> None:
    control = await connect(qmp)
    for event in (b'"data": 7', b'"data": []', b'"timestamp": 5', b'"timestamp": {"seconds": "x"}'):
        qmp.write(b'{"event": "STOP", ' + event + b"}\r\n")
        seen = await control.wait_event("STOP", Deadline.after(5))
        assert seen.data == {} and seen.time_ns == 0
        assert control.moment("STOP") == 0
    await control.close()


class Lying(LocalHost):
    """Its QEMU answers every question with one and the same thing."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("host2")
        self.answer = answer

    async def run(self, argv: Any, *, stdin: bytes = b"", **_: Any) -> Any:
        ids = [decode(line)["id"] for line in stdin.splitlines()]
        lines = [b'{"id": "%s", "return": %s}' % (number.encode(), self.answer) for number in ids]
        return Completed(tuple(argv), 0, b"\n".join([b"7", b"[]", *lines]), b"", 0.0)


@pytest.mark.parametrize("answer", [b"null", b"7", b"[]", b"{}", b'"x"', b"[7]", b"[{}]", b"\xff", b"9" * 5000])
async def test_what_a_qemu_offers_in_another_shape(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(MachineError, match="host2"):
        await probe(Lying(answer), "qemu", identity="x", cache=tmp_path)
    assert not list(tmp_path.iterdir())
