"""The driver against two QEMUs that fail as real ones cannot be made to, and cancelled at every await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from limosa.errors import DecisionError, LimosaError, MigrationError
from limosa.events import Event, Events, Note
from limosa.migration import plan as plans
from limosa.migration import settlement
from limosa.migration.choice import Offer
from limosa.migration.driver import Driver
from limosa.migration.journal import Entry, Journal, unfinished
from limosa.migration.phases import Phase
from limosa.migration.preflight.facts import Clocks
from limosa.migration.settings import Settings
from limosa.migration.transfer import TargetPort, Transfer
from limosa.process import Completed
from limosa.qemu import guest_process
from limosa.qemu.guest_process import QemuProcess
from limosa.qemu.launches import Running
from limosa.qemu.monitor import Monitor
from tests.fake_qmp import Error, FakeQmp
from tests.launches import FEATURES
from tests.local_host import LocalHost

POST_COPY = {"postcopy-ram", "postcopy-preempt", "postcopy-blocktime", "return-path"}


class FakeHost(LocalHost):
    """Knows one process, which is there until it is killed or ends."""

    alive = True

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout_s: float | None = None,
        as_root: bool = False,
    ) -> Completed:
        if argv[0] == "python3":
            return await super().run(argv, stdin=stdin, check=check, timeout_s=timeout_s)
        there = self.alive
        if argv[-1] == "KILL":
            self.alive = False
        return Completed(tuple(argv), 0 if there else 1, b"", b"", 0.0)


@dataclass(slots=True)
class Side:
    """One QEMU: what it says of itself, and what it was told."""

    host: FakeHost
    control: FakeQmp
    observe: FakeQmp
    state: str
    info: dict[str, Any] = field(default_factory=lambda: {"status": "none"})
    qemu: QemuProcess = field(init=False)

    def end(self) -> dict[str, Any]:
        """The process is gone."""
        self.host.alive, self.state = False, "gone"
        asyncio.get_running_loop().call_soon(self.control.hang_up)
        asyncio.get_running_loop().call_soon(self.observe.hang_up)
        return {}

    def told(self, command: str) -> int:
        return [name for name, _ in self.control.said].count(command)


@dataclass
class Pair:
    source: Side
    target: Side
    transfer: Transfer
    heard: list[Event]

    def moves(self) -> None:
        """What QEMU does after ``migrate`` when nothing is wrong, a step at a time."""
        loop, steps = asyncio.get_running_loop(), [self.all_sent, self.runs]
        for number, step in enumerate(steps):
            loop.call_later(0.004 * (number + 1), step)
        self.source.info = {"status": "active", "ram": {"transferred": 1}}

    def all_sent(self) -> None:
        if self.source.info["status"] == "active":
            self.source.control.event("STOP")
            self.source.state = "postmigrate"
            self.source.info = {"status": "completed", "total-time": 120, "downtime": 40}
            self.source.control.event("MIGRATION", status="completed")

    def runs(self) -> None:
        if self.source.info["status"] == "completed" and self.target.host.alive:
            self.target.state = "running"
            self.target.control.event("RESUME")

    def cancelled(self) -> None:
        if self.source.info["status"] == "active":
            self.source.info = {"status": "cancelled"}

    def fails(self, **info: Any) -> None:
        self.source.info = {"status": "failed", **info}
        self.source.control.event("MIGRATION", status="failed")

    @property
    def last_phase(self) -> Phase:
        return self.transfer.journal.entries[-1].phase


def answers(side: Side, act: Callable[[str], Any]) -> dict[str, Any]:
    def resume(_: Mapping[str, Any]) -> Any:
        side.state = "running"
        return {}

    return {
        "query-status": lambda _: {"status": side.state},
        "query-migrate": lambda _: side.info,
        "query-migrate-capabilities": [],
        "query-yank": [],
        "cont": resume,
        "quit": lambda _: side.end(),
        "migrate": lambda _: act("migrate"),
        "migrate_cancel": lambda _: act("migrate_cancel"),
    }


@asynccontextmanager
async def pair(folder: Path, **settings: Any) -> AsyncIterator[Pair]:
    """A source that runs and a target that waits; ``migrate`` goes well unless a test says otherwise."""
    async with AsyncExitStack() as stack:
        sides = []
        for name, state in (("host1", "running"), ("host2", "inmigrate")):
            servers = [FakeQmp(folder / f"{name}.{role}") for role in ("control", "observe")]
            for server in servers:
                await stack.enter_async_context(server.serving())
            sides.append(Side(FakeHost(name), *servers, state))
        source, target = sides
        heard: list[Event] = []
        events = Events(heard.append)

        def act(command: str) -> Any:
            (both.moves if command == "migrate" else both.cancelled)()
            return {}

        for side in sides:
            side.control.script = side.observe.script = answers(side, act)
            control = await Monitor.open(side.host, str(side.control.path), "web", events, "control")
            observe = await Monitor.open(side.host, str(side.observe.path), "web", events, "observe")
            side.qemu = QemuProcess("web", side.host, control, observe, Running("5eed", 7, 1))
            stack.push_async_callback(side.qemu.close)
        target.info = {"status": "setup", "socket-address": [{"port": "4444", "host": "10.77.1.12"}]}

        async def start_target() -> QemuProcess:
            await asyncio.sleep(0)
            return target.qemu

        async def end_target() -> None:
            target.end()

        journal = Journal(folder / "migration.jsonl", "web", "host1", "host2")
        quick = Settings(**{"poll_s": 0.002, "hand_over_s": 0.1, **settings})
        known = replace(FEATURES, migration_capabilities=FEATURES.migration_capabilities | POST_COPY)
        plan = plans.made("web", quick, Offer("host1", known), Offer("host2", known), "10.77.1.12")
        transfer = Transfer(plan, source.qemu, TargetPort(start_target, end_target), journal, events)
        both = Pair(source, target, transfer, heard)
        yield both


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_process, "EXIT_S", 0.05)
    monkeypatch.setattr(settlement, "CANCEL_S", 0.2)


async def test_completed_with_figures_that_come_late(tmp_path: Path) -> None:
    """QEMU 7.2 was seen to say ``completed`` with a total time and a downtime of 0 at first."""
    async with pair(tmp_path) as both:
        figures = [{"status": "completed", "total-time": 0, "downtime": 0}] * 4

        def query(_: Mapping[str, Any]) -> Any:
            early = both.source.info["status"] == "completed" and figures
            return figures.pop() if early else both.source.info

        both.source.observe.script = {**both.source.observe.script, "query-migrate": query}
        outcome = await Driver(both.transfer).run()
        assert not figures and (outcome.info.total_time, outcome.info.downtime) == (120, 40)
        assert outcome.stop_ns is not None and outcome.resume_ns is not None
        assert both.last_phase is Phase.COMPLETED and both.source.told("quit") == 1 and both.target.told("quit") == 0


async def test_a_pause_is_told_by_one_clock_or_not_at_all(tmp_path: Path) -> None:
    """Who takes up what another command began does not know how far two machines' clocks are apart."""
    async with pair(tmp_path) as both:
        outcome = await Driver(both.transfer).run()
        assert outcome.stop_ns is not None and outcome.resume_ns is not None and outcome.pause_ms is None
        both.transfer.clocks = lambda: Clocks(ahead_ns=25_000_000, uncertainty_ns=1_000_000)
        outcome = both.transfer.outcome()
        assert outcome.stop_ns is not None and outcome.resume_ns is not None
        assert outcome.pause_ms == pytest.approx((outcome.resume_ns - outcome.stop_ns) / 1e6 - 25)
        assert outcome.ahead_uncertainty_ns == 1_000_000


async def test_resume_event_comes_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair(tmp_path) as both:
        event, loop = both.target.control.event, asyncio.get_running_loop()
        monkeypatch.setattr(
            FakeQmp, "event", lambda self, name, **d: loop.call_later(0.05, event, "RESUME") if name == "RESUME" else
            FakeQmp.write(self, b'{"event": "MIGRATION", "data": {"status": "completed"}, "timestamp": {}}\r\n')
        )  # fmt: skip
        outcome = await Driver(both.transfer).run()
        assert outcome.resume_ns is not None and both.last_phase is Phase.COMPLETED


async def test_migrate_is_refused(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        refusal = Error("disk 'web' does not support live migration")
        both.source.control.script = {**both.source.control.script, "migrate": refusal}
        with pytest.raises(MigrationError, match="does not support live migration; web is on host1") as caught:
            await Driver(both.transfer).run()
        assert caught.value.guest_host == "host1" and both.last_phase is Phase.FAILED
        assert not both.target.host.alive and both.source.told("cont") == both.source.told("quit") == 0


@pytest.mark.parametrize("side", ["source", "target"])
async def test_capability_is_refused(tmp_path: Path, side: str) -> None:
    """The two sides are prepared at once; a refusal by either must not pass the rescue by."""
    async with pair(tmp_path) as both:
        one: Side = getattr(both, side)
        one.control.script = {**one.control.script, "migrate-set-capabilities": Error("multifd is not here")}
        with pytest.raises(MigrationError, match="multifd is not here"):
            await Driver(both.transfer).run()
        assert not both.target.host.alive and both.source.told("migrate") == 0 and both.last_phase is Phase.FAILED


async def test_status_failed_with_a_reason(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        both.moves = lambda: both.fails(**{"error-desc": "Unable to write to socket: Broken pipe"})  # type: ignore[method-assign]
        with pytest.raises(MigrationError, match="QEMU on host1 says: Unable to write to socket: Broken pipe"):
            await Driver(both.transfer).run()
        assert both.last_phase is Phase.FAILED and both.source.state == "running"


async def test_a_bug_of_ours_keeps_the_guest(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:

        async def broken() -> QemuProcess:
            raise ZeroDivisionError

        both.transfer.port.start = broken
        with pytest.raises(ZeroDivisionError):
            await Driver(both.transfer).run()
        assert both.last_phase is Phase.FAILED and both.source.state == "running" and not both.target.host.alive


async def test_silent_link(tmp_path: Path) -> None:
    async with pair(tmp_path, stall_s=0.05) as both:
        both.moves = lambda: both.source.info.update(status="active")  # type: ignore[method-assign]
        with pytest.raises(MigrationError, match="nothing went over the link to host2"):
            await Driver(both.transfer).run()
        assert both.source.told("migrate_cancel") == 1 and both.source.info["status"] == "cancelled"


@pytest.mark.parametrize("ran", [False, True])
async def test_target_ends_after_everything_was_sent(tmp_path: Path, ran: bool) -> None:
    """The source goes on only when the target never ran; else a person decides, and both stay as they are."""
    async with pair(tmp_path) as both:

        def ends() -> None:
            if ran:
                both.target.control.event("RESUME")
            both.target.end()

        both.runs = ends  # type: ignore[method-assign]
        with pytest.raises(DecisionError if ran else MigrationError) as caught:
            await Driver(both.transfer).run()
        assert both.source.told("cont") == (0 if ran else 1) and both.source.told("quit") == 0
        assert (unfinished(both.transfer.journal.path, "web") is None) == (not ran)
        assert "limosa stop web --host HOST --force" in caught.value.hint or not ran


@pytest.mark.parametrize("when", [Phase.SWITCHED, Phase.ENDING_SOURCE])
async def test_the_guest_shuts_itself_down_at_the_target(tmp_path: Path, when: Phase) -> None:
    """It ran there, and its QEMU has said that the guest ended itself: nothing is left to decide."""
    async with pair(tmp_path) as both:
        runs, announce = both.runs, both.transfer.journal.on_entry

        def ends() -> None:
            both.target.control.event("SHUTDOWN", guest=True, reason="guest-shutdown")
            both.target.end()

        def runs_and_ends() -> None:
            runs()
            ends()

        def heard(entry: Entry) -> None:
            announce(entry)
            if entry.phase is Phase.ENDING_SOURCE:
                ends()

        if when is Phase.SWITCHED:
            both.runs = runs_and_ends  # type: ignore[method-assign]
        else:
            both.transfer.journal.on_entry = heard
        with pytest.raises(LimosaError, match="web shut itself down while it was moving") as caught:
            await Driver(both.transfer).run()
        assert caught.value.exit_code == 1 and both.last_phase is Phase.FAILED
        assert not both.source.host.alive and both.source.told("cont") == 0


async def test_target_never_starts(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        both.runs = lambda: None  # type: ignore[method-assign]
        with pytest.raises(MigrationError, match=r"did not start on host2 within 0\.1 s; web is on host1"):
            await Driver(both.transfer).run()
        assert not both.target.host.alive and both.source.state == "running" and both.source.told("cont") == 1


@pytest.mark.parametrize("starts", [True, False])
async def test_target_is_paused_after_the_hand_over(tmp_path: Path, starts: bool) -> None:
    """As QEMU leaves it when it cannot get the disk's lock: it is asked to start, else the source goes on."""
    async with pair(tmp_path) as both:
        both.runs = lambda: setattr(both.target, "state", "paused")  # type: ignore[method-assign]
        if not starts:
            both.target.control.script = {**both.target.control.script, "cont": Error('Failed to get "write" lock')}
        if starts:
            await Driver(both.transfer).run()
            assert both.target.state == "running" and not both.source.host.alive
        else:
            with pytest.raises(MigrationError, match="web is on host1"):
                await Driver(both.transfer).run()
            assert both.source.state == "running" and not both.target.host.alive


async def test_source_ends(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        both.moves = lambda: both.source.end() and None  # type: ignore[method-assign]
        with pytest.raises(LimosaError, match="web went down during a migration") as caught:
            await Driver(both.transfer).run()
        assert caught.value.exit_code == 1 and not both.target.host.alive and both.last_phase is Phase.FAILED


async def test_full_disk_after_the_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest has moved: its old copy is ended although the journal cannot be written any more."""
    async with pair(tmp_path) as both:
        write = Journal.write

        def full(self: Journal, phase: Phase, detail: str = "") -> None:
            if phase not in {Phase.STARTING_TARGET, Phase.PREPARING, Phase.MOVING}:
                raise LimosaError("the migration's journal cannot be written: No space left on device")
            write(self, phase, detail)

        monkeypatch.setattr(Journal, "write", full)
        outcome = await Driver(both.transfer).run()
        assert outcome.failure is None and both.target.state == "running" and not both.source.host.alive


async def test_cancelled_at_every_await(tmp_path: Path) -> None:
    """Wherever the cancellation strikes, one copy is left, the journal is closed and a sentence says where it is."""
    ends = {Phase.CANCELLED: 0, Phase.COMPLETED: 0}
    for steps in [*range(60), *range(60, 400, 7)]:
        folder = tmp_path / str(steps)
        folder.mkdir()
        async with pair(folder) as both:
            task = asyncio.ensure_future(Driver(both.transfer).run())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                assert task.exception() is None and both.last_phase is Phase.COMPLETED
                continue
            if not both.transfer.journal.entries:  # it had not begun
                continue
            ends[both.last_phase] += 1
            kept, ended = (
                (both.target, both.source) if both.last_phase is Phase.COMPLETED else (both.source, both.target)
            )
            assert kept.state == "running" and kept.host.alive and not ended.host.alive, steps
            text = next(event.text for event in both.heard if isinstance(event, Note))
            assert text.startswith("the migration was cancelled; web") and text.endswith(kept.host.name)
            assert unfinished(both.transfer.journal.path, "web") is None
    assert ends[Phase.CANCELLED] > 5
