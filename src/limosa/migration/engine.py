"""A live migration as a journalled state machine. ``Migration.run`` reads as the protocol; ``rescue`` is plan B.

The target QEMU starts the guest by itself the moment that its state is loaded: no controller stands in the blackout.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from limosa.deadline import Deadline
from limosa.errors import DecisionError, LimosaError, MigrationError, QmpError, StateError
from limosa.events import Events, MigrationPhaseChanged
from limosa.migration.journal import Entry, Journal, Phase
from limosa.migration.progress import Progress
from limosa.migration.rescue import GONE, UNREACHABLE, Situation, Verdict, decide
from limosa.migration.settings import Settings
from limosa.qemu.monitor import FINAL, MigrateInfo
from limosa.qemu.process import QemuProcess

HAND_OVER_S = 60.0
"""How long the target may take to start the guest once the source has sent everything; device state under load."""

CANCEL_S = 20.0
"""How long a cancelled source may take to say so."""


@dataclass(slots=True)
class Outcome:
    """What a migration was, completed or not. Times in ns of CLOCK_REALTIME, from QMP events."""

    source: str
    target: str
    failure: LimosaError | None
    """None for a completed one."""
    started_ns: int
    ended_ns: int
    stop_ns: int | None
    resume_ns: int | None
    info: MigrateInfo
    phases: list[tuple[str, int]]


@dataclass(slots=True)
class Migration:
    """One move of one guest. ``start_target`` launches the incoming QEMU; it is called once."""

    source: QemuProcess
    target_host: str
    start_target: Callable[[], Awaitable[QemuProcess]]
    end_target: Callable[[], Awaitable[None]]
    """Ends whatever QEMU the target host has for this guest; used when no connection to it exists."""
    listen_address: str
    """The target's address in the migration network."""
    settings: Settings
    journal: Journal
    events: Events
    target: QemuProcess | None = None
    stop_ns: int | None = None
    resume_ns: int | None = None
    last_info: MigrateInfo = field(default_factory=MigrateInfo)
    started_ns: int = field(default_factory=time.time_ns)

    async def run(self) -> Outcome:
        """Move the guest. Raises MigrationError (the guest runs on the source) or DecisionError.

        Cancelled, it cancels the migration, keeps the guest on the source, then lets the cancellation go on.
        """
        self.journal.on_entry = self._announce
        self.journal.begin()
        try:
            self.journal.write(Phase.STARTING_TARGET)
            self.target = await self.start_target()
            self.journal.write(Phase.PREPARING)
            uri = await self._prepare(self.target)
            self.journal.write(Phase.MOVING, uri)
            await self.source.control.migrate(uri)
            await self._watch(self.target)
            self.journal.write(Phase.SWITCHED)
            await self._wait_resumed(self.target)
            await self._finish(self.target)
        except asyncio.CancelledError:
            if await _uninterrupted(self.rescue("cancelled", Phase.CANCELLED)):
                text = f"{self.source.guest} had already moved: it runs on {self.target_host}"
                self.events.note(text, level="warning")
            raise
        except LimosaError as error:
            if await _uninterrupted(self.rescue(error.message, Phase.FAILED)):
                return self.outcome()
            raise MigrationError(
                f"the migration failed: {error.message}; {self.source.guest} runs on {self.source.host.name}",
                hint=error.hint,
                guest_host=self.source.host.name,
            ) from error
        return self.outcome()

    def _announce(self, entry: Entry) -> None:
        self.events.emit(
            MigrationPhaseChanged(
                guest=entry.guest, source=entry.source, target=entry.target, phase=entry.phase, time_ns=entry.time_ns
            )
        )

    async def _prepare(self, target: QemuProcess) -> str:
        """Both sides get the same capabilities; the target listens on a port of its own choice."""
        capabilities = ("events", *self.settings.capabilities)
        self.source.control.pending_events()
        target.control.pending_events()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._configure_source(capabilities))
            group.create_task(target.control.set_capabilities(capabilities))
        await target.control.listen_for_migration(f"tcp:{self.listen_address}:0")
        info = await target.control.migrate_info()
        if not info.socket_address:
            raise LimosaError(f"QEMU on {self.target_host} does not say where it listens for the migration")
        return f"tcp:{self.listen_address}:{info.socket_address[0]['port']}"

    async def _configure_source(self, capabilities: tuple[str, ...]) -> None:
        await self.source.control.set_capabilities(capabilities)
        await self.source.control.set_parameters(self.settings.qemu_parameters())

    async def _watch(self, target: QemuProcess) -> None:
        """Until the source says that everything is sent. Raises LimosaError for each way that it can go wrong."""
        progress, deadline = Progress(self.source.guest), Deadline.after(self.settings.timeout_s)
        ended = asyncio.ensure_future(self._source_end())
        lost = asyncio.ensure_future(self._target_events(target))
        try:
            while True:
                await asyncio.wait({ended, lost}, timeout=self.settings.poll_s, return_when=asyncio.FIRST_COMPLETED)
                self.last_info = await self.source.observe.migrate_info()
                self.events.emit(progress.look(self.last_info, time.monotonic()))
                status = ended.result() if ended.done() else self.last_info.status
                if status == "completed":
                    return
                if status in FINAL:
                    raise LimosaError(await self._reason(status))
                if lost.done() and lost.exception() is not None:
                    raise LimosaError(f"QEMU on {self.target_host} ended while the guest was moving")
                self._judge(progress, deadline)
        finally:
            for task in (ended, lost):
                task.cancel()
            await asyncio.gather(ended, lost, return_exceptions=True)

    def _judge(self, progress: Progress, deadline: Deadline) -> None:
        if deadline.passed:
            raise LimosaError(
                f"it did not complete within {self.settings.timeout_s:g} s",
                hint="a guest that dirties memory faster than the link carries it never converges",
            )
        if time.monotonic() - progress.last_change_s > self.settings.stall_s:
            raise LimosaError(f"nothing went over the link to {self.target_host} for {self.settings.stall_s:g} s")

    async def _source_end(self) -> str:
        """The final status, from the source's events; notes the moment of STOP on the way."""
        while True:
            event = await self.source.control.next_event()
            if event.name == "STOP":
                self.stop_ns = event.time_ns
            if event.name == "MIGRATION" and event.data.get("status") in FINAL:
                return str(event.data["status"])

    async def _target_events(self, target: QemuProcess) -> None:
        """Notes the moment of RESUME; raises QmpError when the target's QEMU ends."""
        while True:
            event = await target.control.next_event()
            if event.name == "RESUME":
                self.resume_ns = event.time_ns

    async def _reason(self, status: str) -> str:
        if status == "cancelled":
            return "somebody cancelled it in QEMU"
        with contextlib.suppress(LimosaError):
            self.last_info = await self.source.observe.migrate_info()
        why = self.last_info.error_desc
        if why:
            return f"QEMU on {self.source.host.name} says: {why}"
        return f"the connection to QEMU on {self.target_host} broke"

    async def _wait_resumed(self, target: QemuProcess) -> None:
        """The target runs. Its RESUME event gives the moment; its status is the proof."""
        deadline = Deadline.after(HAND_OVER_S)
        async for _ in deadline.ticks(0.002):
            for event in [*self.source.control.pending_events(), *target.control.pending_events()]:
                if event.name == "STOP":
                    self.stop_ns = self.stop_ns or event.time_ns
                if event.name == "RESUME":
                    self.resume_ns = event.time_ns
            status = await target.observe.status()
            if status == "running" and self.resume_ns is not None:
                break
            if status not in {"inmigrate", "running"}:
                raise LimosaError(f"the guest is {status} on {self.target_host} after the hand-over")
        else:
            raise LimosaError(f"the guest did not start on {self.target_host} within {HAND_OVER_S:g} s")
        with contextlib.suppress(LimosaError):
            self.last_info = await self.source.observe.migrate_info()

    async def _finish(self, target: QemuProcess) -> None:
        self.journal.write(Phase.ENDING_SOURCE)
        await self.source.end()
        self.journal.close(Phase.COMPLETED)

    def outcome(self, failure: LimosaError | None = None) -> Outcome:
        """What is known of it now."""
        return Outcome(
            failure=failure,
            source=self.source.host.name,
            target=self.target_host,
            started_ns=self.started_ns,
            ended_ns=time.time_ns(),
            stop_ns=self.stop_ns,
            resume_ns=self.resume_ns,
            info=self.last_info,
            phases=[(entry.phase.value, entry.time_ns) for entry in self.journal.entries],
        )

    async def rescue(self, why: str, final: Phase) -> bool:
        """Keep the guest where it is or can be. True: it had moved after all and runs on the target.

        Raises DecisionError when only a person can decide, MigrationError when the guest went down with its host.
        """
        with contextlib.suppress(LimosaError):
            self.journal.write(Phase.RESCUING, why)
        await self._cancel()
        deadline = Deadline.after(HAND_OVER_S)
        async for _ in deadline.ticks(0.05):
            situation = await self._situation()
            verdict = decide(situation)
            if verdict is not Verdict.WAIT:
                return await self._carry_out(verdict, situation, final, why)
        raise self._ask(await self._situation())

    async def _cancel(self) -> None:
        """Give up on the source's side where it still sends, and see it say so."""
        with contextlib.suppress(QmpError):
            info = await self.source.observe.migrate_info()
            if info.status in {"none", *FINAL}:
                return
            await self.source.control.cancel_migration()
            async for _ in Deadline.after(CANCEL_S).ticks(0.01):
                if (await self.source.observe.migrate_info()).status in FINAL:
                    return

    async def _situation(self) -> Situation:
        source = await _status(self.source)
        target = GONE if self.target is None else await _status(self.target)
        if self.target is not None:
            seen = self.target.control.pending_events()
            self.resume_ns = next((e.time_ns for e in seen if e.name == "RESUME"), self.resume_ns)
        # Our connection was open from before the hand-over, and what a dead QEMU had sent can still be read.
        return Situation(source, target, target_may_have_run=self.resume_ns is not None)

    async def _carry_out(self, verdict: Verdict, situation: Situation, final: Phase, why: str) -> bool:
        if verdict is Verdict.KEEP_TARGET and self.target is not None:
            await self._finish(self.target)
            return True
        if verdict in {Verdict.KEEP_SOURCE, Verdict.RESUME_SOURCE}:
            await self._end_target()
            if situation.source != "running":
                await self.source.control.resume()
            self.journal.close(final, why)
            return False
        if verdict is Verdict.LOST:
            self.journal.close(Phase.FAILED, "lost")
            raise MigrationError(
                f"{self.source.guest} went down with its host {self.source.host.name} during the migration",
                hint=f"its disk remains: limosa start {self.source.guest}",
            )
        raise self._ask(situation)

    async def _end_target(self) -> None:
        if self.target is not None:
            await self.target.end()
        else:
            await self.end_target()

    def _ask(self, situation: Situation) -> DecisionError:
        guest, source, target = self.source.guest, self.source.host.name, self.target_host
        return DecisionError(
            f"{guest} is {situation.source} on {source} and {situation.target} on {target}; "
            "continuing either copy could damage its disk",
            hint=f"end the copy you do not want with `limosa stop {guest} --host HOST --force`",
        )


async def _status(side: QemuProcess) -> str:
    """A side's run state, GONE or UNREACHABLE. A namespace host that is off has ended all that ran on it."""
    try:
        return await side.status()
    except StateError:
        return GONE
    except LimosaError:
        return UNREACHABLE


async def _uninterrupted(work: Awaitable[bool]) -> bool:
    """Await *work* to its end although the caller is being cancelled: a guest is at stake."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    return task.result()
