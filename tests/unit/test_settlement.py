"""Settling with a source that stands still, with journals that know too little, and with time that has run."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_driver import Pair, pair
from test_stream import let_be_taken

from limosa.errors import DecisionError, LimosaError, MigrationError, StateError
from limosa.events import MigrationPhaseChanged
from limosa.migration import settlement, transfer
from limosa.migration.driver import Driver
from limosa.migration.methods import pre_copy
from limosa.migration.phases import Phase
from limosa.migration.rescue.fate import Verdict
from limosa.migration.settlement import Settlement
from limosa.qemu import guest_process
from limosa.qemu.guest_process import QemuProcess
from limosa.qemu.launches import Running
from limosa.qemu.sockets import started
from limosa.qemu.stream import Stream
from tests.fake_qmp import SILENCE, Error, Late
from tests.local_host import LocalHost

__all__ = ["let_be_taken"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, seconds in (
        (guest_process, "EXIT_S", 0.05), (settlement, "CANCEL_S", 0.1), (settlement, "LOOK_S", 0.03),
        (settlement, "HANG_S", 0.03), (transfer, "LATE_S", 0.01),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, seconds)


@dataclass(slots=True)
class FakeStream:
    """Counts how often it is looked at and cut."""

    then: Callable[[], None]
    moves: Callable[[int], bool | None] = lambda _: False
    looks: int = 0
    cuts: int = 0

    async def moved(self) -> bool | None:
        self.looks += 1
        return self.moves(self.looks)

    async def cut(self) -> bool:
        self.cuts += 1
        self.then()
        return True


@dataclass
class Frozen:
    """A source whose main loop waits in ``send`` until its connection is cut, by itself or by the kernel."""

    both: Pair
    stream: FakeStream
    yanks: int = 0

    def free(self) -> None:
        """As QEMU does then: the migration has failed, and the guest goes on."""
        side = self.both.source
        side.state, side.info = "running", {"status": "failed"}

    def settle(self, target: QemuProcess | None, **more: Any) -> Settlement:
        given: dict[str, Any] = {
            "guest": "web", "source_host": "host1", "target_host": "host2", "source": self.both.source.qemu,
            "target": target, "end_target": self.both.transfer.port.end, "sent": True, "watched": False,
            "hand_over_s": 0.05, "stream": self.stream,
        }  # fmt: skip
        return Settlement(**{**given, **more})


@asynccontextmanager
async def frozen(folder: Path, *, yank: Any = None) -> AsyncIterator[Frozen]:
    async with pair(folder) as both:
        source = both.source
        source.state = "finish-migrate"
        made = Frozen(both, FakeStream(lambda: made.free()))

        def pull(_: Mapping[str, Any]) -> Any:
            made.yanks += 1
            if yank is None:
                made.free()
            return yank or {}

        def silent(answer: Any) -> Any:
            return lambda _: SILENCE if source.state == "finish-migrate" else answer()

        script = {
            **source.control.script,
            "query-status": silent(lambda: {"status": source.state}),
            "query-migrate": silent(lambda: source.info),
            "yank": pull,
        }
        source.control.script = source.observe.script = script
        yield made


async def test_target_waits(tmp_path: Path) -> None:
    """The target is ended before its source is let go: should the rest arrive after all, the guest would run twice."""
    async with frozen(tmp_path) as made:
        ended_first = []
        made.both.source.control.script["yank"] = lambda _: (ended_first.append(not target.host.alive), made.free())[1]
        target = made.both.target
        assert await made.settle(target.qemu).settle() is Verdict.KEEP_SOURCE
        assert ended_first == [True] and made.both.source.state == "running" and made.stream.cuts == 0


async def test_qemu_without_yank(tmp_path: Path) -> None:
    async with frozen(tmp_path, yank=Error("The command yank has not been found", "CommandNotFound")) as made:
        assert await made.settle(made.both.target.qemu).settle() is Verdict.KEEP_SOURCE
        assert (made.yanks, made.stream.cuts) == (1, 1) and not made.both.target.host.alive


@pytest.mark.parametrize("state", ["running", "paused"])
async def test_target_that_has_everything(tmp_path: Path, state: str) -> None:
    """Then the source is not let go: it would run beside it."""
    async with frozen(tmp_path) as made:
        made.both.target.state = state
        found = made.settle(made.both.target.qemu, source=None, unknown=frozenset({"host1"}))
        with pytest.raises(DecisionError):
            await found.settle()
        assert (made.yanks, made.stream.cuts) == (0, 0) and made.both.target.host.alive


async def test_target_that_nobody_can_ask(tmp_path: Path) -> None:
    """What the kernel has not sent yet must not reach it when the link comes back, so the kernel drops it."""
    async with frozen(tmp_path) as made:
        found = made.settle(None, unknown=frozenset({"host2"}))
        assert await found.settle() is Verdict.KEEP_SOURCE
        assert (made.yanks, made.stream.cuts) == (0, 1)


async def test_source_that_is_found_again(tmp_path: Path) -> None:
    """As a later command does it, which has no monitor that QEMU would answer on."""
    async with frozen(tmp_path) as made:
        source = made.both.source

        async def find() -> QemuProcess | None:
            if source.state == "finish-migrate":
                raise StateError("QEMU of guest web on host1 does not answer")
            return source.qemu

        found = made.settle(made.both.target.qemu, source=None, unknown=frozenset({"host1"}), find_source=find)
        assert await found.settle() is Verdict.KEEP_SOURCE
        assert made.stream.cuts == 1 and not made.both.target.host.alive and found.source is source.qemu


async def test_cancelled_while_it_connects(tmp_path: Path) -> None:
    """A connection that is being made to a host that is cut off hangs on, and QEMU refuses the next move meanwhile."""
    async with pair(tmp_path) as both:
        held = [{"type": "migration"}]
        both.source.info = {"status": "setup"}
        both.source.control.script["migrate_cancel"] = lambda _: both.source.info.update(status="cancelled") or {}
        both.source.observe.script["query-yank"] = lambda _: list(held)
        stream = FakeStream(held.clear)
        made = Frozen(both, stream).settle(both.target.qemu)
        assert await made.settle() is Verdict.KEEP_SOURCE
        assert stream.cuts == 1 and not held


@pytest.mark.parametrize("phase", [Phase.STARTING_TARGET, Phase.PREPARING])
async def test_postmigrate_is_proof(tmp_path: Path, phase: Phase) -> None:
    """A journal that says that nothing was sent does not resume a source that has sent everything."""
    async with pair(tmp_path) as both:
        both.source.state, both.source.info = "postmigrate", {"status": "completed"}
        made = Frozen(both, FakeStream(lambda: None)).settle(None, sent=phase is Phase.MOVING, stream=None)
        with pytest.raises(DecisionError, match="web is postmigrate on host1 and gone on host2"):
            await made.settle()
        assert both.source.told("cont") == 0


async def test_the_hand_over_is_waited_for_once(tmp_path: Path) -> None:
    """A target that never starts is ended when its time is over, not when it is over twice."""
    async with pair(tmp_path, hand_over_s=0.05) as both:
        asked: list[Phase] = []

        def status(_: Mapping[str, Any]) -> Any:
            asked.append(both.last_phase)
            return {"status": both.target.state}

        both.target.observe.script = {**both.target.observe.script, "query-status": status}
        both.runs = lambda: None  # type: ignore[method-assign]
        with pytest.raises(MigrationError, match="did not start on host2"):
            await Driver(both.transfer).run()
        assert asked.count(Phase.SWITCHED) >= 1 and asked.count(Phase.RESCUING) == 1
        assert Phase.RESCUING in [e.phase for e in both.heard if isinstance(e, MigrationPhaseChanged)]


@asynccontextmanager
async def silent_source(folder: Path, stream: FakeStream | Stream, late: Any) -> AsyncIterator[Pair]:
    """A source that does not answer query-migrate at first, and then has sent everything."""
    async with pair(folder, stall_s=0.03) as both:
        completed = {"status": "completed", "total-time": 1}
        both.source.observe.script = {**both.source.observe.script, "query-migrate": [late, completed]}
        both.transfer.target = both.target.qemu
        yield both


async def test_late_answer_while_the_stream_moves(tmp_path: Path) -> None:
    """A large guest's rest takes long, and QEMU does not answer while it sends it; the kernel knows that it moves."""
    stream = FakeStream(lambda: None, moves=lambda look: True)
    async with silent_source(tmp_path, stream, Late(0.12, {"status": "active"})) as both:
        await pre_copy.watch(both.transfer, stream)  # type: ignore[arg-type]
        assert stream.looks >= 1 and both.transfer.last_info.status == "completed"


@pytest.mark.parametrize("moves", [False, None])
async def test_no_answer_while_nothing_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: bool | None
) -> None:
    """Where the kernel cannot be asked, the answer is waited for as any other."""
    monkeypatch.setattr(transfer, "ANSWER_S", 0.06)
    stream, began_s = FakeStream(lambda: None, moves=lambda look: moves), time.monotonic()
    async with silent_source(tmp_path, stream, SILENCE) as both:
        with pytest.raises(LimosaError, match="nothing went over the link to host2"):
            await pre_copy.watch(both.transfer, stream)  # type: ignore[arg-type]
        assert stream.looks >= 1
        assert moves is False or time.monotonic() - began_s >= transfer.ANSWER_S


async def test_counters_of_a_real_connection(tmp_path: Path) -> None:
    """The same with what the kernel tells of a connection through which bytes go, and then none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as sender, server.accept()[0] as receiver:
            ours = Running("", os.getpid(), started(os.getpid()))
            stream = Stream(LocalHost(), ours, f"tcp:127.0.0.1:{port}")
            async with silent_source(tmp_path, stream, SILENCE) as both:
                moved, judged, sent = stream.moved, list[bool | None](), 0

                async def look() -> bool | None:
                    nonlocal sent
                    if sent < 2:
                        sender.sendall(b"page")
                        receiver.recv(4)
                        sent += 1
                    judged.append(await moved())
                    return judged[-1]

                real = SimpleNamespace(moved=look)
                with pytest.raises(LimosaError, match="nothing went over the link"):
                    await pre_copy.watch(both.transfer, real)  # type: ignore[arg-type]
                assert judged == [True, True, False]
