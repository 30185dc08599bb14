"""A live migration as a journalled state machine. ``Migration.run`` reads as the protocol; ``rescue`` is plan B.

The target QEMU starts the guest by itself the moment that its state is loaded: no controller stands in the blackout.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from limosa import tasks
from limosa.deadline import FOREVER_S, Deadline
from limosa.errors import LimosaError, MigrationError
from limosa.events import Events, MigrationPhaseChanged
from limosa.migration.journal import Entry, Journal, Phase
from limosa.migration.progress import Progress
from limosa.migration.rescue import GONE, Verdict, lost
from limosa.migration.settings import Settings
from limosa.migration.settlement import Settlement
from limosa.network import guard
from limosa.qemu.guest_process import QemuProcess
from limosa.qemu.monitor import ANSWER_S, FINAL, MigrateInfo
from limosa.qemu.stream import Stream
from limosa.tasks import to_the_end

FIGURES_S = 0.3
"""How long QEMU may take from ``completed`` to its figures: 7.2 can say it with a total time of 0 at first."""

LATE_RESUME_S = 1.0
"""How long the RESUME event of a target that runs may be late. Without it only the pause is not known."""

IDLE_S = 30.0
"""How long an earlier migration that is being cancelled may still occupy the source."""

LATE_S = 2.0
"""When query-migrate takes longer than this, the stream itself is looked at: while it moves, a late answer is fine."""


class Outcome(msgspec.Struct):
    """What a migration was, completed or not. Times in ns of CLOCK_REALTIME, from QMP events."""

    source: str
    target: str
    failure: LimosaError | None
    """None for a completed one."""
    started_ns: int
    ended_ns: int
    stop_ns: int | None
    """The guest stopped at the source; None: it did not."""
    resume_ns: int | None
    """It ran at the target."""
    info: MigrateInfo
    """QEMU's own account, times in ms: ``total_time``, ``downtime``; ``raw`` has all of it."""
    phases: list[tuple[str, int]]
    """Each phase's name and when it began."""
    capabilities: list[str] | None = None
    """Those that were on at the source, as its QEMU said; None: it was not asked, or did not say."""
    parameters: dict[str, Any] | None = None
    """All of the source's, likewise."""


class Migration:
    """One move of one guest. *start_target* launches the incoming QEMU; it is called once. *end_target* ends whatever
    QEMU the target host has for this guest; it is used when no connection to it exists. *listen_address* is the
    target's in the migration network. *target_said* gives what the target's QEMU wrote to its log since it was
    launched, for an error's reason.
    """

    def __init__(
        self,
        source: QemuProcess,
        target_host: str,
        start_target: Callable[[], Awaitable[QemuProcess]],
        end_target: Callable[[], Awaitable[None]],
        listen_address: str,
        settings: Settings,
        journal: Journal,
        events: Events,
        *,
        target_said: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self.source, self.target_host, self.listen_address = source, target_host, listen_address
        self.start_target, self.end_target, self.target_said = start_target, end_target, target_said
        self.settings, self.journal, self.events = settings, journal, events
        self.target: QemuProcess | None = None
        self.stop_ns: int | None = None
        self.resume_ns: int | None = None
        self.last_info = MigrateInfo()
        self.started_ns = time.time_ns()
        self.stream: Stream | None = None
        """What the source sends over, once it has been told to."""
        self.hand_over: Deadline | None = None
        """By when the target has to run, once everything is sent."""
        self.in_force: tuple[list[str], dict[str, Any]] | None = None
        """The source's capabilities that are on, and its parameters."""
        self.source_ended = False
        """Whether the source's QEMU was seen to be gone once the target ran."""
        self._seen = 0
        """Events of the source that are older than this migration."""

    async def run(self) -> Outcome:
        """Move the guest. Raises MigrationError (the guest is on the source), DecisionError, or LimosaError (lost).

        Cancelled, it cancels the migration, says where the guest is, then lets the cancellation go on.
        """
        self.journal.on_entry = self._announce
        self.journal.begin()
        try:
            self.journal.write(Phase.STARTING_TARGET)
            await tasks.each([self._launch(), self._configure_source()])
            assert self.target is not None, "it was launched"
            self.journal.write(Phase.PREPARING)
            uri = await self._prepare(self.target)
            self.journal.stream, self.stream = uri, Stream(self.source.host, self.source.running, uri)
            self.journal.write(Phase.MOVING)
            await self.source.control.migrate(uri)
            await self._watch(self.target, self.stream)
            self.hand_over = Deadline.after(self.settings.hand_over_s)
            self.journal.write(Phase.SWITCHED)
            await self._wait_resumed(self.target, self.hand_over)
            await self._finish(self.target)
        except asyncio.CancelledError:
            moved, _ = await to_the_end(self.rescue("cancelled", Phase.CANCELLED))
            place = f"had moved already and is on {self.target_host}" if moved else f"is on {self.source.host.name}"
            self.events.note(f"the migration was cancelled; {self.source.guest} {place}", level="warning")
            raise
        except Exception as error:  # whatever it is, even a bug of ours: the guest comes first
            known = _known(error)
            moved, cancelled = await to_the_end(self.rescue(known.message if known else repr(error), Phase.FAILED))
            if cancelled:
                raise asyncio.CancelledError from error
            if moved:
                return self.outcome()
            if known is None:
                raise
            raise self._failed(known) from error
        return self.outcome()

    def _failed(self, error: LimosaError) -> MigrationError:
        guest, host = self.source.guest, self.source.host.name
        text = f"the migration failed: {error.message}; {guest} is on {host}"
        return MigrationError(text, hint=error.hint, guest_host=host)

    def _announce(self, entry: Entry) -> None:
        self.events.emit(
            MigrationPhaseChanged(
                guest=entry.guest, source=entry.source, target=entry.target, phase=entry.phase, time_ns=entry.time_ns
            )
        )

    async def _launch(self) -> None:
        self.target = await self.start_target()

    @property
    def _capabilities(self) -> tuple[str, ...]:
        """What both sides get."""
        return ("events", *self.settings.capabilities)

    async def _prepare(self, target: QemuProcess) -> str:
        """The target gets what the source has, and listens on a free port that only hosts reach."""
        await target.control.set_capabilities(self._capabilities)
        await target.control.set_parameters(dict(self.settings.parameters))
        # Another one each time: what an earlier move left behind, connecting still, must not reach this target.
        first = guard.PORTS[int.from_bytes(os.urandom(2)) % len(guard.PORTS)]
        await target.control.listen_for_migration(f"tcp:{self.listen_address}:{first},to={guard.PORTS[-1]}")
        info = await target.control.migrate_info()
        if not info.socket_address or not info.socket_address[0].port:
            raise LimosaError(f"QEMU on {self.target_host} does not say where it listens for the migration")
        return f"tcp:{self.listen_address}:{info.socket_address[0].port}"

    async def _wait_idle(self) -> None:
        """A move that was cancelled while it connected to a cut-off host may live on in QEMU until TCP gives up."""
        async for _ in Deadline.after(IDLE_S).ticks(0.05):
            if await self.source.observe.migration_over():
                return
        raise LimosaError(
            f"QEMU on {self.source.host.name} is still cancelling an earlier migration", hint="try again in a minute"
        )

    async def _configure_source(self) -> None:
        """While the target's QEMU comes up."""
        self.source.control.pending_events()
        self._seen = self.source.control.event_count
        await self._wait_idle()
        await self.source.control.set_capabilities(self._capabilities)
        await self.source.control.set_parameters(self.settings.qemu_parameters())
        with contextlib.suppress(LimosaError):  # what is only told of a move must not end it
            self.in_force = (await self.source.control.capabilities(), await self.source.control.parameters())
        # What an earlier move left behind must not be taken for news of this one; the answers above came after it.
        self.source.control.pending_events()

    async def _watch(self, target: QemuProcess, stream: Stream) -> None:
        """Until the source says that everything is sent. Raises LimosaError for each way that it can go wrong."""
        progress, deadline = Progress(self.source.guest), Deadline.after(self.settings.timeout_s)
        async with tasks.beside(self._source_end(), self._target_events(target)) as (ended, gone):
            while True:
                await asyncio.wait({ended, gone}, timeout=self.settings.poll_s, return_when=asyncio.FIRST_COMPLETED)
                self.last_info = await self._look(stream, progress, deadline)
                self.events.emit(progress.look(self.last_info, time.monotonic()))
                status = ended.result() if ended.done() else self.last_info.status
                if status == "completed":
                    return
                if status in FINAL:
                    raise LimosaError(await self._reason(status))
                if gone.done():
                    raise LimosaError(await self._target_ended())
                self._judge(progress, deadline)

    async def _look(self, stream: Stream, progress: Progress, deadline: Deadline) -> MigrateInfo:
        """query-migrate. QEMU may not answer for as long as it sends what is left of a stopped guest."""
        patience = Deadline.after(ANSWER_S)
        async with tasks.beside(self.source.observe.migrate_info(answer_s=FOREVER_S)) as (asked,):
            while not (await asyncio.wait({asked}, timeout=LATE_S))[0]:
                moved = await stream.moved()
                if moved or (moved is None and not patience.passed):
                    progress.last_change_s = time.monotonic()
                self._judge(progress, deadline)
            info: MigrateInfo = asked.result()
            return info

    def _judge(self, progress: Progress, deadline: Deadline) -> None:
        if deadline.passed:
            raise LimosaError(
                f"it did not complete within {self.settings.timeout_s:g} s",
                hint=progress.why_unfinished(),
            )
        if time.monotonic() - progress.last_change_s > self.settings.stall_s:
            raise LimosaError(f"nothing went over the link to {self.target_host} for {self.settings.stall_s:g} s")

    async def _source_end(self) -> str:
        """The final status, from the source's events."""
        while True:
            event = await self.source.control.next_event()
            if event.name == "MIGRATION" and event.data.get("status") in FINAL:
                return str(event.data["status"])

    async def _target_events(self, target: QemuProcess) -> None:
        """Ends when the target's QEMU does."""
        with contextlib.suppress(LimosaError):
            while True:
                await target.control.next_event()

    async def _target_ended(self) -> str:
        said = await self.target_said() if self.target_said else ""
        return f"QEMU on {self.target_host} ended while the guest was moving" + (f": {said}" if said else "")

    def _note_moments(self, target: QemuProcess) -> None:
        self.stop_ns = self.source.control.moment("STOP", self._seen)
        self.resume_ns = target.control.moment("RESUME")

    async def _reason(self, status: str) -> str:
        if status == "cancelled":
            return "somebody cancelled it in QEMU"
        with contextlib.suppress(LimosaError):
            self.last_info = await self.source.observe.migrate_info()
        said = await self.target_said() if self.target_said else ""
        if said:
            return f"QEMU on {self.target_host} says: {said}"
        if why := self.last_info.error_desc:
            return f"QEMU on {self.source.host.name} says: {why}"
        return f"the connection to QEMU on {self.target_host} broke"

    async def _wait_resumed(self, target: QemuProcess, hand_over: Deadline) -> None:
        """The target runs. Its status is the proof; its RESUME event, which may come later, gives the moment."""
        runs_since: Deadline | None = None
        async for _ in hand_over.ticks(0.002):
            status = await target.observe.status(answer_s=max(1.0, hand_over.left_s))
            self._note_moments(target)
            if status == "running":
                runs_since = runs_since or Deadline.after(LATE_RESUME_S)
                if self.resume_ns is not None or runs_since.passed:
                    return
            elif status != "inmigrate":
                raise LimosaError(f"the guest is {status} on {self.target_host} after the hand-over")
        raise LimosaError(f"the guest did not start on {self.target_host} within {self.settings.hand_over_s:g} s")

    async def _last_look(self) -> None:
        """The source's figures; it is asked again until they are there."""
        with contextlib.suppress(LimosaError):
            async for _ in Deadline.after(FIGURES_S).ticks(0.005):
                self.last_info = await self.source.observe.migrate_info()
                if self.last_info.total_time and self.last_info.downtime:
                    return

    async def _finish(self, target: QemuProcess) -> None:
        with contextlib.suppress(LimosaError):  # the guest has moved: a full disk must not keep its old copy
            self.journal.write(Phase.ENDING_SOURCE)
        await self._last_look()
        if await target.status() == GONE:
            raise LimosaError(f"QEMU on {self.target_host} ended right after the hand-over")
        await self.source.end()
        self.source_ended = True
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
            capabilities=self.in_force[0] if self.in_force else None,
            parameters=self.in_force[1] if self.in_force else None,
        )

    async def rescue(self, why: str, final: Phase) -> bool:
        """Keep the guest where it is or can be. True: it had moved after all and runs on the target.

        Raises DecisionError when only a person can decide, LimosaError when the guest is lost.
        """
        sent = any(entry.phase is Phase.MOVING for entry in self.journal.entries)
        with contextlib.suppress(LimosaError):
            self.journal.write(Phase.RESCUING, why)
        settlement = Settlement(
            guest=self.source.guest,
            source_host=self.source.host.name,
            target_host=self.target_host,
            source=self.source,
            target=self.target,
            end_target=self.end_target,
            sent=sent,
            watched=True,
            hand_over_s=self.settings.hand_over_s if self.hand_over is None else self.hand_over.left_s,
            stream=self.stream,
        )
        verdict = await settlement.settle()
        if verdict is Verdict.KEEP_TARGET and self.target is not None:
            self._note_moments(self.target)
            self.journal.close(Phase.COMPLETED, why)
            return True
        self.journal.close(Phase.FAILED if verdict is Verdict.LOST else final, why)
        if verdict is Verdict.LOST:
            raise lost(self.source.guest, self.source.host.name)
        return False


def _known(error: BaseException) -> LimosaError | None:
    """The first error of ours in *error*, which may be a task group's."""
    if isinstance(error, BaseExceptionGroup):
        return next((known for inner in error.exceptions if (known := _known(inner))), None)
    return error if isinstance(error, LimosaError) else None
