"""Pre-copy: the source sends memory while the guest runs, stops it for the rest, and the target starts it.

The target QEMU starts the guest by itself the moment that its state is loaded: no controller stands in the blackout.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping

from limosa import paths, tasks
from limosa.deadline import Deadline
from limosa.errors import LimosaError
from limosa.migration import steering
from limosa.migration.journal import paused_guest
from limosa.migration.phases import Phase
from limosa.migration.plan import MigrationPlan
from limosa.migration.progress import Progress
from limosa.migration.rescue.fate import GONE
from limosa.migration.transfer import Transfer
from limosa.network import guard
from limosa.qemu.monitor import FINAL, MigrateInfo
from limosa.qemu.stream import Stream

FIGURES_S = 0.3
"""How long QEMU may take from ``completed`` to its figures: 7.2 can say it with a total time of 0 at first."""

LATE_RESUME_S = 1.0
"""How long the RESUME event of a target that runs may be late. Without it only the pause is not known."""

_SLOWS = frozenset({"auto-converge", "dirty-limit"})
"""What makes a guest write less the longer it takes."""

PAUSED_LOOK_S = 0.5
"""Between two looks at a source that has stopped the guest: busy with what is left, it says when that is over."""

HAND_OVER_LOOK_S = 0.1
"""Between two looks at a target that loads the guest's state; it says by itself when the guest runs, and each look
takes from the time that it has for that."""

IDLE_S = 30.0
"""How long an earlier migration that is being cancelled may still occupy the source."""


async def start_target(transfer: Transfer) -> Phase:
    """Launch the target; meanwhile the source is told what the plan says."""

    async def launch() -> None:
        transfer.target = await transfer.port.start()

    await tasks.each([launch(), _configure_source(transfer)])
    return Phase.PREPARING


async def _configure_source(transfer: Transfer) -> None:
    control, side = transfer.source.control, transfer.plan.source
    control.pending_events()
    transfer.seen = control.event_count
    await _wait_idle(transfer)
    await transfer.give_keys(transfer.source, "source")
    await control.set_capabilities(side.capabilities)
    await control.set_parameters(side.parameters)
    with contextlib.suppress(LimosaError):  # what is only told of a move must not end it
        transfer.in_force = (await control.capabilities(), await control.parameters())
    # What an earlier move left behind must not be taken for news of this one; the answers above came after it.
    control.pending_events()


async def _wait_idle(transfer: Transfer) -> None:
    """A move that was cancelled while it connected to a cut-off host may live on in QEMU until TCP gives up."""
    async for _ in Deadline.after(IDLE_S).ticks(0.05):
        if await transfer.source.observe.migration_over():
            return
    raise LimosaError(
        f"QEMU on {transfer.plan.source.host} is still cancelling an earlier migration", hint="try again in a minute"
    )


async def prepare(transfer: Transfer) -> Phase:
    """The target is told what the plan says, and listens."""
    control, side = transfer.receiver.control, transfer.plan.target
    await transfer.give_keys(transfer.receiver, "target")
    await control.set_capabilities(side.capabilities)
    await control.set_parameters(side.parameters)
    transfer.sends_to(await listen(transfer, control.listen_for_migration))
    return Phase.MOVING


async def listen(transfer: Transfer, begin: Callable[[str], Awaitable[None]]) -> str:
    """Have the target listen on a free port that only hosts reach, by *begin*; the URI to send to."""
    address, host = transfer.plan.address, transfer.plan.target.host
    await begin(f"tcp:{address}:{any_port()},to={guard.PORTS[-1]}")
    info = await transfer.receiver.control.migrate_info()
    if not info.socket_address or not info.socket_address[0].port:
        raise LimosaError(f"QEMU on {host} does not say where it listens for the migration")
    return f"tcp:{address}:{info.socket_address[0].port}"


def any_port() -> int:
    """One that only hosts reach; another one each time: what an earlier move left behind, connecting still, must not
    reach this target."""
    return guard.PORTS[int.from_bytes(os.urandom(2)) % len(guard.PORTS)]


async def move(transfer: Transfer) -> Phase:
    """The source sends everything."""
    assert transfer.stream is not None, "the target listens"
    await transfer.source.control.migrate(transfer.stream.uri)
    await watch(transfer, transfer.stream)
    transfer.hand_over = Deadline.after(transfer.plan.hand_over_s)
    return Phase.SWITCHED


async def watch(transfer: Transfer, stream: Stream, *, enough: Callable[[MigrateInfo], bool] = lambda _: False) -> bool:
    """Until the source says that everything is sent, or a look at it is *enough*; whether everything is sent.

    Raises LimosaError for each way that it can go wrong.
    """
    transfer.progress = Progress(transfer.plan.guest)
    deadline, endless = Deadline.after(transfer.plan.timeout_s), ""
    at_helm = steering.of(transfer.plan)

    def judge() -> None:
        _judge(transfer, deadline)

    async with tasks.beside(transfer.source_says(FINAL), transfer.target_says()) as (ended, gone):
        while True:
            every_s = max(transfer.plan.poll_s, PAUSED_LOOK_S if transfer.paused else 0.0)
            await transfer.until_news(ended, gone, every_s=every_s)
            info = await transfer.look(stream, judge)
            status = ended.result() if ended.done() else info.status
            if status == "completed":
                return True
            if status in FINAL:
                raise await transfer.why(status)
            if gone.done():
                raise await transfer.why_target_ended()
            if enough(info) or await steering.steer(transfer, at_helm):
                return False
            endless = endless or _tell_endless(transfer)
            judge()


def _tell_endless(transfer: Transfer) -> str:
    """What was said of a guest that does not get across like this; empty while none is known, where QEMU makes it write
    less and less, or where a policy decides what helps."""
    plan = transfer.plan
    if _SLOWS & set(plan.source.capabilities) or plan.brief is not None:
        return ""
    if why := transfer.progress.why_endless(plan.downtime_limit_s, plan.hand_over_bytes_per_s):
        told = f"pre-copy of {plan.guest} does not converge: {why} ({ways_out(plan)})"
        transfer.events.note(told, level="warning")
    return why


def ways_out(plan: MigrationPlan) -> str:
    """What helps a guest that does not get across as *plan* has it, what costs least first."""
    if plan.may_switch:
        return f"limosa switch {plan.guest} makes it post-copy now"
    compress = "" if "multifd-compression" in plan.options else "--set multifd-compression=zstd, "
    return f"{compress}a larger --downtime-limit, or --method post-copy: {paths.document('methods.md')}"


def _judge(transfer: Transfer, deadline: Deadline) -> None:
    plan, progress = transfer.plan, transfer.progress
    if deadline.passed:
        raise LimosaError(f"it did not complete within {plan.timeout_s:g} s", hint=progress.why_unfinished())
    if time.monotonic() - progress.last_change_s > plan.stall_s:
        raise LimosaError(f"nothing went over the link to {plan.target.host} for {plan.stall_s:g} s")


async def wait_resumed(transfer: Transfer) -> Phase:
    """The target runs. Its status is the proof; its RESUME event, which may come later, gives the moment."""
    host = transfer.plan.target.host
    hand_over = transfer.hand_over or Deadline.after(transfer.plan.hand_over_s)
    async for _ in hand_over.ticks(0.0):
        status = await transfer.receiver.observe.status(answer_s=max(1.0, hand_over.left_s))
        if status == "running":
            await transfer.target_resumes(within_s=LATE_RESUME_S)
            transfer.note_moments()
            return Phase.ENDING_SOURCE
        if status == "paused" and paused_guest(transfer.journal.entries):
            await transfer.receiver.control.resume()  # QEMU keeps a guest paused that was so when it left
            continue
        if status != "inmigrate":
            raise LimosaError(f"the guest is {status} on {host} after the hand-over")
        await transfer.target_resumes(within_s=min(HAND_OVER_LOOK_S, hand_over.left_s))
    raise LimosaError(f"the guest did not start on {host} within {transfer.plan.hand_over_s:g} s")


async def end_source(transfer: Transfer) -> Phase:
    """Read the source's figures and end it; the guest has moved."""
    await _last_look(transfer)
    if await transfer.receiver.status() == GONE:
        raise LimosaError(f"QEMU on {transfer.plan.target.host} ended right after the hand-over")
    await transfer.source.end()
    transfer.source_ended = True
    return Phase.COMPLETED


async def _last_look(transfer: Transfer) -> None:
    """The source's figures; it is asked again until they are there. Of post-copy the target has some too."""
    with contextlib.suppress(LimosaError):
        if transfer.reached(Phase.STARTING_POST_COPY):
            transfer.target_info = await transfer.receiver.observe.migrate_info()
    with contextlib.suppress(LimosaError):
        async for _ in Deadline.after(FIGURES_S).ticks(0.005):
            transfer.last_info = await transfer.source.observe.migrate_info()
            if transfer.last_info.total_time and transfer.last_info.downtime:
                return


STEPS: Mapping[Phase, Callable[[Transfer], Awaitable[Phase]]] = {
    Phase.STARTING_TARGET: start_target,
    Phase.PREPARING: prepare,
    Phase.MOVING: move,
    Phase.SWITCHED: wait_resumed,
    Phase.ENDING_SOURCE: end_source,
}
"""What each phase does; it returns the next one."""
