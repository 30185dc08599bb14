"""A migration under way: both its sides, its journal, and what is known of it by now. The methods' steps act on it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from limosa import tasks
from limosa.deadline import FOREVER_S, Deadline
from limosa.errors import LimosaError, StateError
from limosa.events import Events, MigrationPhaseChanged, MigrationSteered
from limosa.migration import tls_faults
from limosa.migration.journal import Entry, Journal
from limosa.migration.phases import Phase
from limosa.migration.plan import MigrationPlan
from limosa.migration.policies.policy import Action
from limosa.migration.preflight.facts import Clocks
from limosa.migration.progress import Progress
from limosa.migration.transport import Side
from limosa.qemu.guest_process import QemuProcess
from limosa.qemu.monitor import ANSWER_S, KNOWN, MigrateInfo
from limosa.qemu.stream import Stream
from limosa.results import exposure

if TYPE_CHECKING:
    from limosa.migration.credentials import Credentials

StampedBy = Literal["this machine", "another machine", "two machines"]

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
    plan: MigrationPlan
    """What was to be done."""
    decisions: list[Entry] = []
    """What its policy decided, in order, each as it is in the journal."""
    capabilities: list[str] | None = None
    """Those that were on at the source, as its QEMU said; None: it was not asked, or did not say."""
    parameters: dict[str, Any] | None = None
    """All of the source's, likewise."""
    target_ahead_ns: int | None = None
    """How far the target's clock was ahead of the source's; 0: both are one machine. None: it is not known."""
    ahead_uncertainty_ns: int = 0
    """By how much that may be wrong, either way."""
    target_info: MigrateInfo = MigrateInfo()
    """The target's own account, of post-copy alone: for how long its vCPUs waited for pages."""
    stamped_by: StampedBy = "two machines"
    """Whose clock ``stop_ns`` and ``resume_ns`` are told by."""

    @property
    def pause_ms(self) -> float | None:
        """From the stop at the source to where it ran at the target, by the source's clock; None where it did not, or
        where nobody knows how far two machines' clocks are apart."""
        if self.stop_ns is None or self.resume_ns is None or self.target_ahead_ns is None:
            return None
        return (self.resume_ns - self.stop_ns - self.target_ahead_ns) / 1e6

    @property
    def qemu_downtime_ms(self) -> int | None:
        """As the source's QEMU says it. Of post-copy it says what is not the guest's pause: then it is None."""
        return None if exposure.is_post_copy(self.phases) else self.info.downtime


async def nothing_said() -> str:
    """Of a QEMU whose log nobody reads."""
    return ""


class TargetPort:
    """What can be done about the target's QEMU from outside it: *start* launches the one that receives, once; *end*
    ends whatever QEMU the target host has for this guest, without a connection to it; *said* gives what it wrote to its
    log since it was launched.
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[QemuProcess]],
        end: Callable[[], Awaitable[None]],
        said: Callable[[], Awaitable[str]] = nothing_said,
    ) -> None:
        self.start, self.end, self.said = start, end, said


class Transfer:
    """One move of one guest, as *plan* says, while a command drives it."""

    def __init__(
        self,
        plan: MigrationPlan,
        source: QemuProcess,
        port: TargetPort,
        journal: Journal,
        events: Events,
        credentials: Credentials | None = None,
    ) -> None:
        self.plan, self.source, self.port, self.journal, self.events = plan, source, port, journal, events
        self.credentials = credentials
        """The keys of both sides, for a plan with TLS."""
        self.target: QemuProcess | None = None
        """None until it was launched."""
        self.stream: Stream | None = None
        """What the source sends over, once it has been told to."""
        self.progress = Progress(plan.guest)
        """Of what is being sent; anew whenever that begins."""
        self.last_info, self.target_info = MigrateInfo(), MigrateInfo()
        self.stop_ns: int | None = None
        self.resume_ns: int | None = None
        self.started_ns = time.time_ns()
        self.hand_over: Deadline | None = None
        """By when the target has to run, once everything is sent."""
        self.in_force: tuple[list[str], dict[str, Any]] | None = None
        """The source's capabilities that are on, and its parameters."""
        self.source_ended = False
        """Whether the source's QEMU was seen to be gone once the target ran."""
        self.post_copy_wished: Callable[[], bool] = lambda: False
        """Whether somebody wishes the target to go on now, without the rest."""
        self.stamped_by: StampedBy = "two machines"
        """Whose clock both QEMUs tell their moments by."""
        self.clocks: Callable[[], Clocks | None] = lambda: None
        """How far they are apart, as far as that is known by now. A command that takes up what another one began did
        not measure it."""
        self.patience = Deadline.after(None)
        """Until when a link that is cut is waited for."""
        self.refused = 0
        """How often the two sides have not found each other again since something last went over."""
        self.source_said: Callable[[], Awaitable[str]] = nothing_said
        """What the source's QEMU wrote to its log meanwhile: QEMU 7.2 tells of a connection that it could not take up
        again nowhere else."""
        self.seen = 0
        """Events of the source that are older than this migration."""
        self.paused = False
        """Whether the source has said that it stopped the guest."""
        self._pass: asyncio.Future[None] | None = None
        """Done when the source says that it begins another pass."""
        journal.on_entry = self._announce

    def decide(self, action: Action, why: str) -> None:
        """Put on record what the policy has decided, and tell of it, before it is done. Raises LimosaError when the
        disk does not take it."""
        self.journal.decide(action, why)
        self.events.note(f"{self.plan.policy}: {action.words} ({why})")

    def _announce(self, entry: Entry) -> None:
        if (action := entry.action) is not None:
            self.events.emit(
                MigrationSteered(
                    guest=entry.guest,
                    policy=self.plan.policy,
                    action=action.kind,
                    options=dict(action.options),
                    why=entry.detail,
                    time_ns=entry.time_ns,
                )
            )
            return
        self.events.emit(
            MigrationPhaseChanged(
                guest=entry.guest, source=entry.source, target=entry.target, phase=entry.phase, time_ns=entry.time_ns
            )
        )

    @property
    def receiver(self) -> QemuProcess:
        """The target's QEMU, from when it was launched on."""
        assert self.target is not None, "it was launched"
        return self.target

    async def give_keys(self, qemu: QemuProcess, side: Side) -> None:
        """Have *qemu* hold what the plan's transport takes, before it is told to use it."""
        if self.credentials is not None:
            await self.credentials.give(qemu, side)

    async def renew_keys(self) -> None:
        """Have both sides hold new keys for the connection that comes next: those of before may have expired, in a
        link that was down for long. Raises LimosaError where that cannot be."""
        if self.credentials is None:
            return
        # A target that waits for a page does not answer, and would do what it is told now at some later moment; and
        # what waits to be done keeps a monitor, after some commands, from taking those that pass them by.
        for side in (self.receiver, self.source):
            await side.observe.migrate_info(answer_s=LATE_S)
        await self.credentials.renew(self.source, self.receiver)

    async def renew_worn_keys(self) -> None:
        """Likewise, where they are known to be no good any more: QEMU 7.2 does not give up a connection that the target
        refused while they found each other, and the guest is lost. Raises LimosaError where they cannot be."""
        entries = self.journal.entries
        if self.credentials is not None and entries and self.credentials.worn(entries[0].time_ns / 1e9):
            self.events.note("the keys of both sides are not good any more: they get new ones")
            await self.renew_keys()

    def sends_to(self, uri: str) -> Stream:
        """Have the journal know where the source is about to send."""
        self.journal.stream = uri
        self.stream = Stream(self.source.host, self.source.running, uri)
        return self.stream

    async def until_news(self, *ends: asyncio.Future[Any], every_s: float) -> None:
        """Until one of *ends* is there, the source begins another pass, or it is time for a look all the same."""
        if self._pass is None or self._pass.done():
            self._pass = asyncio.get_running_loop().create_future()
        await asyncio.wait({*ends, self._pass}, timeout=every_s, return_when=asyncio.FIRST_COMPLETED)

    async def look(self, stream: Stream, judge: Callable[[], None]) -> MigrateInfo:
        """query-migrate. QEMU may not answer for as long as it sends what is left of a stopped guest; *judge* raises
        when that is too long."""
        patience = Deadline.after(ANSWER_S)
        async with tasks.beside(self.source.observe.migrate_info(answer_s=FOREVER_S)) as (asked,):
            while not (await asyncio.wait({asked}, timeout=LATE_S))[0]:
                moved = await stream.moved()
                if moved or (moved is None and not patience.passed):
                    self.progress.last_change_s = time.monotonic()
                judge()
            self.last_info = asked.result()
        if (status := self.last_info.status) not in KNOWN:
            told = f"QEMU on {self.plan.source.host} calls the migration {status!r}, which is not known here"
            self.events.note(f"{told}: it is watched as before", level="warning", once=True)
        self.events.emit(self.progress.look(self.last_info, time.monotonic()))
        return self.last_info

    def waiting(self) -> StateError:
        """The error of a command whose time is over while the link is cut."""
        plan = self.plan
        return StateError(
            f"post-copy of {plan.guest} waits for its link, {plan.source.host} ↔ {plan.target.host}: its memory is on "
            "both hosts, and nothing is lost",
            hint=f"once the link is back: limosa recover {plan.guest}",
        )

    async def source_says(self, statuses: Collection[str]) -> str:
        """The first of these statuses that the source's events tell of; ``until_news`` hears of the other events."""
        while True:
            event = await self.source.control.next_event()
            if event.name == "MIGRATION" and event.data.get("status") in statuses:
                return str(event.data["status"])
            if event.name in {"STOP", "RESUME"}:
                self.paused = event.name == "STOP"
            elif event.name == "MIGRATION_PASS" and self._pass is not None and not self._pass.done():
                self._pass.set_result(None)

    async def target_says(self, statuses: Collection[str] = ()) -> str:
        """Likewise the target; empty when its QEMU has ended."""
        with contextlib.suppress(LimosaError):
            while True:
                event = await self.receiver.control.next_event()
                if event.name == "MIGRATION" and event.data.get("status") in statuses:
                    return str(event.data["status"])
        return ""

    async def target_resumes(self, *, within_s: float) -> None:
        """Until the target has said that the guest runs there; at most that long."""
        control = self.receiver.control
        try:
            async with asyncio.timeout(within_s):
                while control.moment("RESUME") is None:
                    await control.next_event()
        except TimeoutError:
            return
        except LimosaError:  # it says nothing any more
            await asyncio.sleep(within_s)

    async def why_target_ended(self) -> LimosaError:
        """A sentence, with what it wrote to its log."""
        said = await self.port.said()
        ended = f"QEMU on {self.plan.target.host} ended while the guest was moving" + (f": {said}" if said else "")
        with contextlib.suppress(LimosaError):
            self.last_info = await self.source.observe.migrate_info()
        return self._over_tls([ended], f"{said}\n{self.last_info.error_desc}")

    async def why(self, status: str) -> LimosaError:
        """Why the source's QEMU has ended its migration as *status*: in a sentence, from whichever side says it."""
        if status == "cancelled":
            return LimosaError("somebody cancelled it in QEMU")
        with contextlib.suppress(LimosaError):
            self.last_info = await self.source.observe.migrate_info()
        source, target = self.plan.source.host, self.plan.target.host
        words = [(target, await self.port.said()), (source, self.last_info.error_desc or await self.source_said())]
        told = [f"QEMU on {host} says: {said}" for host, said in words if said]
        told = told or [f"the connection to QEMU on {target} broke"]
        return self._over_tls(told, "\n".join(said for _, said in words))

    def _over_tls(self, told: Sequence[str], said: str) -> LimosaError:
        """All that was *told*, behind the cause; without TLS the first of it. With it, one side knows why, and the
        other that it did not come to it."""
        if self.plan.transport.kind == "tcp":
            return LimosaError(told[0])
        sentence, hint = tls_faults.cause(said, self.plan.source.host, self.plan.target.host)
        return LimosaError("; ".join([sentence, *told] if sentence else told), hint=hint)

    def note_moments(self) -> None:
        """When the guest stopped and ran again, as far as QEMU has said it by now."""
        self.stop_ns = self.source.control.moment("STOP", self.seen)
        self.resume_ns = self.target.control.moment("RESUME") if self.target is not None else None

    def outcome(self, failure: LimosaError | None = None) -> Outcome:
        """What is known of it now."""
        clocks = self.clocks()
        return Outcome(
            failure=failure,
            source=self.plan.source.host,
            target=self.plan.target.host,
            started_ns=self.started_ns,
            ended_ns=time.time_ns(),
            stop_ns=self.stop_ns,
            resume_ns=self.resume_ns,
            info=self.last_info,
            phases=[(entry.phase.value, entry.time_ns) for entry in self.journal.entries if entry.action is None],
            decisions=[entry for entry in self.journal.entries if entry.action is not None],
            plan=self.plan,
            capabilities=self.in_force[0] if self.in_force else None,
            parameters=self.in_force[1] if self.in_force else None,
            target_info=self.target_info,
            target_ahead_ns=clocks.ahead_ns if clocks else None,
            ahead_uncertainty_ns=clocks.uncertainty_ns if clocks else 0,
            stamped_by=self.stamped_by,
        )

    def reached(self, phase: Phase) -> bool:
        """Whether *phase* is in the journal."""
        return any(entry.phase is phase for entry in self.journal.entries)
