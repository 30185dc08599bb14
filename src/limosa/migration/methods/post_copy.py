"""Post-copy: it begins as pre-copy; then the target goes on without the rest, which follows as it is needed.

From when the source was told so until all has arrived, each side has what the other lacks. A link that is cut raises no
event in QEMU: progress is watched here, and both sides are told to give the connection up and to keep what they have.
Once the link carries again, the target listens anew and the source goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from limosa import tasks
from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError, QmpError
from limosa.migration.journal import paused_guest
from limosa.migration.methods import pre_copy
from limosa.migration.phases import Phase
from limosa.migration.rescue.fate import GONE
from limosa.migration.transfer import Transfer
from limosa.network import echo
from limosa.qemu.guest_process import QemuProcess
from limosa.qemu.monitor import FINAL, PAUSED, POST_COPY, MigrateInfo
from limosa.qemu.stream import Stream

SILENT_S = 3.0
"""When nothing has arrived for this long, the link is taken to be cut. To be wrong costs the guest some 10 ms."""

STUCK_LOOKS = 20
"""How often one side may refuse to give up a connection that the other has given up, before that is for good."""

GIVE_UP_S = 5.0
"""How long the source may take to give the connection up once it was told to: some ms."""

LOOK_S = 2.0
"""How long the target may take to answer; it may stand still for as long as it waits for a page."""

CONNECT_S = 3.0
"""How long a source that was told to go on may take until it does not say any more that it is paused."""

PROOF_S = 1.0
"""How often it is tried whether the link carries again."""

AGAIN_S = 30.0
"""How long it is waited at most before the two sides are told again to find each other: 1 s at first, then doubled."""

RECOVER_S = 15.0
"""How long the two sides may take to find each other again over a link that carries."""

BEGIN_S = 30.0
"""How long QEMU may take to begin post-copy once it was told to: its next slice of sending, some 100 ms."""

HOLD_S = 5.0
"""How long it is tried at most to have a connection kept: it is made within ms over a link that works."""

_ECHO = Path(echo.__file__)


async def prepare(transfer: Transfer) -> Phase:
    """As in pre-copy. Whether the target's host gives post-copy what it takes is told by its QEMU, before anything is
    sent. Raises MachineError with what helps."""
    try:
        return await pre_copy.prepare(transfer)
    except QmpError as error:
        if "ostcopy is not supported" not in error.message:
            raise
        raise MachineError(
            f"post-copy cannot be received on {transfer.plan.target.host}: {error.message}",
            hint=f"it takes userfaultfd: on {transfer.plan.target.host}, sudo sysctl vm.unprivileged_userfaultfd=1, or "
            "let the user of QEMU open /dev/userfaultfd (QEMU 8.1 and newer); limosa migrate without --method "
            "post-copy needs neither",
        ) from error


async def move(transfer: Transfer) -> Phase:
    """The source sends, until the first pass is over, or somebody wishes it, or everything is sent.

    Meanwhile the kernel is asked to keep the connection however long the link is cut: until the target has begun, and
    when all is sent, neither side can take up one that TCP has given up.
    """
    stream = transfer.stream
    assert stream is not None, "the target listens"

    def enough(info: MigrateInfo) -> bool:
        passes = info.ram.dirty_sync_count if info.ram is not None else 0
        if info.status != "active" or paused_guest(transfer.journal.entries):
            return False
        needed = passes > 2 or (passes == 2 and not _fits(transfer))
        return (transfer.plan.method == "post-copy" and needed) or transfer.post_copy_wished()

    await transfer.source.control.migrate(stream.uri)
    async with tasks.beside(_held(stream)) as (held,):
        over = await pre_copy.watch(transfer, stream, enough=enough)
        if not over and await held is None:
            transfer.events.note(_NOT_HELD.format(plan=transfer.plan), level="warning")
    transfer.hand_over = Deadline.after(transfer.plan.hand_over_s)
    return Phase.SWITCHED if over else Phase.STARTING_POST_COPY


def _fits(transfer: Transfer) -> bool:
    """Whether QEMU is about to hand over by itself: what the first pass left goes over in the pause that is allowed.
    Post-copy would expose the guest for nothing."""
    seen = transfer.progress.last
    if seen is None or seen.remaining_bytes is None or not seen.throughput_bytes_per_s:
        return False
    plan = transfer.plan
    return seen.remaining_bytes <= plan.hand_over_bytes_per_s(seen.throughput_bytes_per_s) * plan.downtime_limit_s


async def _held(stream: Stream) -> bool | None:
    """Whether it is kept now; it takes some 100 ms, once it is there. None: that cannot be done."""
    async for _ in Deadline.after(HOLD_S).ticks(0.2):
        if (held := await stream.hold()) is not False:
            return held
    return False


_NOT_HELD = (
    "the kernel on {plan.source.host} could not be asked to keep the connection: a link that is cut for longer than "
    "TCP waits, before {plan.guest} has begun on {plan.target.host} or when all is sent, loses it"
)


async def start(transfer: Transfer) -> Phase:
    """The source is told, and obeys, unless it has sent everything meanwhile."""
    try:
        await transfer.source.control.start_post_copy()
    except QmpError as error:
        if error.error_class in {"Gone", "Silent"}:
            raise
    deadline = Deadline.after(BEGIN_S)
    async with tasks.beside(transfer.source_says({*POST_COPY, *FINAL})) as (said,):
        while not deadline.passed:
            await transfer.until_news(said, every_s=pre_copy.HAND_OVER_LOOK_S)
            status = said.result() if said.done() else (await transfer.source.observe.migrate_info()).status
            if status in POST_COPY:
                return Phase.POST_COPY
            if status == "completed":
                return Phase.SWITCHED
            if status in FINAL:
                raise await transfer.why(status)
    raise LimosaError(f"QEMU on {transfer.plan.source.host} does not begin post-copy")


class Unmendable(LimosaError):
    """Both sides live, and QEMU will never bring together what they have."""


class _Standstill(Exception):
    """Nothing goes over the link."""


async def follow(transfer: Transfer) -> Phase:
    """The rest follows, until all of it has arrived or nothing arrives any more."""
    stream = transfer.stream
    assert stream is not None, "the source sends"
    transfer.progress.last_change_s = time.monotonic()

    def judge() -> None:
        if time.monotonic() - transfer.progress.last_change_s > SILENT_S:
            raise _Standstill

    says = (transfer.source_says({*FINAL, PAUSED}), transfer.target_says({PAUSED}))
    async with tasks.beside(*says, stream.hold()) as (said, told, _):
        while True:
            await transfer.until_news(said, told, every_s=transfer.plan.poll_s)
            try:
                info = await transfer.look(stream, judge)
                status = said.result() if said.done() else info.status
                if status == "completed":
                    return Phase.SWITCHED
                if status in FINAL:
                    await _never_twice(transfer)
                    raise await transfer.why(status)
                if told.done() and not told.result():
                    raise await transfer.why_target_ended()
                if status == PAUSED or told.done():
                    return Phase.WAITING_FOR_LINK
                judge()
            except _Standstill:
                if not await stream.moved() and _remains(transfer):
                    return Phase.WAITING_FOR_LINK
                # A connection that breaks when all is sent is never taken up: QEMU before 8.2 hangs, and 10.0 and
                # 11.1 let the source run again beside its target. The kernel keeps it until the link is back.
                transfer.progress.last_change_s = time.monotonic()


async def _never_twice(transfer: Transfer) -> None:
    """A source that gave up although its target has begun is stopped at once: QEMU may let it run again, with the guest
    as it was when it was handed over (seen with 10.0 and 11.1, when the connection broke at the very end)."""
    if transfer.receiver.control.moment("RESUME") is not None:
        with contextlib.suppress(QmpError):
            await transfer.source.control.pause()


def _remains(transfer: Transfer) -> bool:
    """Whether the source has anything left to send."""
    return transfer.last_info.ram is None or transfer.last_info.ram.remaining > 0


async def wait_for_link(transfer: Transfer) -> Phase:
    """Both sides give the connection up; then, until the link carries packets of full size again.

    Raises LimosaError when one side is not there any more, and StateError when the time that a command has is over.
    """
    plan, stream = transfer.plan, transfer.stream
    assert stream is not None, "the source sends"
    begun_s, told, stuck = time.monotonic(), False, 0
    again = Deadline.after(_rest_s(transfer.refused))
    if (await transfer.source.observe.migrate_info()).status == PAUSED:  # not while it recovers: 7.2 dies of that
        await stream.stop_connecting()
    await stream.moved()
    async for _ in transfer.patience.ticks(PROOF_S):
        status, target_status = await _given_up(transfer)
        if status == "completed":
            return Phase.SWITCHED
        if status in FINAL:
            raise await transfer.why(status)
        if status != PAUSED and await stream.moved():  # what cannot be given up goes on by itself
            return Phase.POST_COPY
        why = _stuck(transfer, status, target_status)
        stuck = stuck + 1 if why else 0
        if stuck > STUCK_LOOKS:
            raise Unmendable(why)
        if status == PAUSED and not why and again.passed and await _carries(transfer):
            if not transfer.refused:
                waited_s = time.monotonic() - begun_s
                transfer.events.note(f"the link carries, after {waited_s:.0f} s: post-copy of {plan.guest} goes on")
            return Phase.RECOVERING
        if not told and not transfer.refused:
            transfer.events.note(transfer.waiting().message, level="warning")
            told = True
        for side in (transfer.source, transfer.receiver):
            await _there(transfer, side)
    raise transfer.waiting()


def _rest_s(refused: int) -> float:
    """How long it is waited after so many refusals in a row. There may be thousands of them: a link can be bad for
    days."""
    return min(AGAIN_S, PROOF_S * 2 ** min(refused, 30)) if refused else 0.0


def _stuck(transfer: Transfer, source: str, target: str | None) -> str:
    """Why what both sides say, if it stays so, is for good; empty where it is not."""
    plan = transfer.plan
    if source == "postcopy-active" and target == PAUSED and not _remains(transfer):
        return (
            f"the link broke when all was sent from {plan.source.host} and not all was on {plan.target.host}: "
            "QEMU does not take it up again then"
        )
    if source == PAUSED and target == "active":
        return (
            f"the link broke before {plan.guest} had begun on {plan.target.host}, and TCP gave it up: QEMU does not "
            "take it up again then"
        )
    return ""


async def _there(transfer: Transfer, side: QemuProcess) -> None:
    """Raises LimosaError when *side* is known to have ended."""
    if not side.control.connected and await side.status() == GONE:
        raise LimosaError(f"QEMU on {side.host.name} ended while the memory of {transfer.plan.guest} was on both hosts")


async def _given_up(transfer: Transfer) -> tuple[str, str | None]:
    """Have both sides give the connection up; what source and target say then: ``postcopy-paused`` once they have.

    The target first, and the source only when that obeyed, or had given up by itself: a target that has not begun yet
    refuses, and a source that gives up before it has begun loses the guest (seen with 7.2 and 10.0). QEMU 7.2 refuses
    both while it recovers; then there is nothing to do but to wait. None: the target does not say.
    """
    target = transfer.receiver.control
    try:
        await target.pause_post_copy()
        says: str | None = PAUSED
    except QmpError:
        says = target.last_status()
        if says is None:
            with contextlib.suppress(QmpError):
                says = (await transfer.receiver.observe.migrate_info(answer_s=LOOK_S)).status
    obeyed = says == PAUSED
    if obeyed:
        with contextlib.suppress(QmpError):  # it has given up already
            await transfer.source.control.pause_post_copy()
    async for _ in Deadline.after(GIVE_UP_S if obeyed else 0.0).ticks(0.02):
        transfer.last_info = await transfer.source.observe.migrate_info()
        if transfer.last_info.status in {PAUSED, *FINAL}:
            break
    return transfer.last_info.status, says


async def _carries(transfer: Transfer) -> bool:
    """Whether a packet of full size reaches the target's host and comes back: a link that loses large ones would
    connect and then stand still."""
    argv = ["python3", "-I", "-S", "-", transfer.plan.address, "whole"]
    with contextlib.suppress(LimosaError):  # there is no way there, or nobody who could look
        done = await transfer.source.host.run(argv, stdin=_ECHO.read_bytes(), as_root=True, timeout_s=30)
        return done.text == "true"
    return False


async def recover(transfer: Transfer) -> Phase:
    """The target listens again, the source goes on sending to it."""
    control, source = transfer.receiver.control, transfer.source
    uri = f"tcp:{transfer.plan.address}:{pre_copy.any_port()}"
    if not await _renewed(transfer, transfer.renew_worn_keys()):
        transfer.refused += 1
        return Phase.WAITING_FOR_LINK
    for monitor in (control, source.control):
        monitor.pending_events()  # what they said of the last time must not be taken for news
    try:
        await control.listen_for_recovery(uri)
        stream = transfer.sends_to(uri)
        await source.control.resume_post_copy(uri)
    except QmpError as error:
        if error.error_class == "Gone":
            raise
        return await _refused(transfer, f"QEMU does not take the link up yet: {error.message}")
    connecting, deadline = Deadline.after(CONNECT_S), Deadline.after(RECOVER_S)
    async for _ in deadline.ticks(0.02):
        status = (await source.observe.migrate_info()).status
        if status == "postcopy-active":
            transfer.refused = 0
            return Phase.POST_COPY
        if status == "completed":
            return Phase.SWITCHED
        if status == PAUSED and connecting.passed:  # at first it says so still
            break
    await stream.moved()
    why = await transfer.why(PAUSED)
    told = f"post-copy of {transfer.plan.guest} was not taken up again: {why.message}"
    return await _refused(transfer, f"{told} ({why.hint})" if why.hint else told)


async def _refused(transfer: Transfer, told: str) -> Phase:
    """The two did not come together. Where they prove who they are, they get new keys for the next time: a link that
    was down for long outlives some, and of the user's own there may be better ones by now."""
    transfer.refused += 1
    transfer.events.note(told, level="warning", once=True)
    await _renewed(transfer, transfer.renew_keys())
    return Phase.WAITING_FOR_LINK


async def _renewed(transfer: Transfer, renewal: Awaitable[None]) -> bool:
    """Whether both sides' keys could be renewed; why not is told."""
    try:
        await renewal
    except LimosaError as error:
        transfer.events.note(f"its keys could not be renewed: {error.message}", level="warning", once=True)
        return False
    return True


STEPS: Mapping[Phase, Callable[[Transfer], Awaitable[Phase]]] = {
    **pre_copy.STEPS,
    Phase.PREPARING: prepare,
    Phase.MOVING: move,
    Phase.STARTING_POST_COPY: start,
    Phase.POST_COPY: follow,
    Phase.WAITING_FOR_LINK: wait_for_link,
    Phase.RECOVERING: recover,
}
"""What each phase does; it returns the next one."""
