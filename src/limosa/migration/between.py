"""Settling a migration that was interrupted after post-copy was asked for: look at both sides, do what ``rescue`` says.

Neither side is ended while the other may live, so what comes of it is often that it goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from limosa.deadline import Deadline
from limosa.errors import DecisionError, LimosaError, QmpError, StateError, UnreachableError
from limosa.migration.rescue.after_switch import Situation, decide
from limosa.migration.rescue.fate import GONE, UNREACHABLE, Verdict
from limosa.qemu.guest_process import QemuProcess

LOOK_S = 5.0
"""How long a side may take to answer a question; QEMU 7.2's main loop can stand still while the link is cut."""

BEGIN_S = 10.0
"""How long QEMU may take to do as it was told and begin post-copy: its next slice of sending, some 100 ms."""

SILENT = "silent"
"""A side whose process exists and does not answer."""


class Between:
    """Both sides of one migration; a side of which no QEMU was found is None.

    *unknown*: hosts of which nothing can be learnt. *end_target* ends whatever QEMU the target host has for this guest,
    without a connection to it. *hand_over_s*: how long a side that has all may take to say so.
    """

    def __init__(
        self,
        *,
        guest: str,
        hosts: tuple[str, str],
        source: QemuProcess | None,
        target: QemuProcess | None,
        end_target: Callable[[], Awaitable[None]],
        hand_over_s: float,
        unknown: frozenset[str] = frozenset(),
    ) -> None:
        self.guest, self.hosts, self.source, self.target = guest, hosts, source, target
        self.end_target, self.hand_over_s, self.unknown = end_target, hand_over_s, unknown
        self.now = Situation(UNREACHABLE, UNREACHABLE)
        """What was seen last."""

    async def settle(self) -> Verdict:
        """KEEP_SOURCE, RESUME_SOURCE or KEEP_TARGET: the guest is there alone. LOST: nothing was ended. GO_ON: it is
        not over.

        Raises DecisionError when only a person can decide.
        """
        begin = Deadline.after(BEGIN_S)
        async for _ in Deadline.after(self.hand_over_s).ticks(0.05):
            self.now = await self.situation()
            verdict = decide(self.now)
            if verdict is not Verdict.WAIT:
                return await self._carry_out(verdict)
            if begin.passed and self.now.source_says == "active" and self.source is not None:
                # It was never told, or cannot send: one that obeys has done so long before. Once it has obeyed it must
                # not be cancelled: QEMU 7.2 does that, and loses the guest.
                with contextlib.suppress(QmpError):
                    await self.source.control.cancel_migration()
        if GONE in (self.now.source, self.now.target) and SILENT not in (self.now.source, self.now.target):
            return Verdict.LOST
        raise self._ask()

    async def situation(self) -> Situation:
        """What is known now."""
        source, source_says = await self._asked(self.source, self.hosts[0])
        target, target_says = await self._asked(self.target, self.hosts[1])
        return Situation(source, target, source_says, target_says)

    async def _asked(self, side: QemuProcess | None, host: str) -> tuple[str, str]:
        """A side's run state and what it says of the migration."""
        if side is None:
            return (UNREACHABLE if host in self.unknown else GONE), ""
        try:
            says = (await side.observe.migrate_info(answer_s=LOOK_S)).status
            return await side.observe.status(answer_s=LOOK_S), says
        except QmpError as error:
            if error.error_class == "Silent":
                return SILENT, ""
        try:
            state = await side.status()
        except UnreachableError:
            return UNREACHABLE, ""
        except StateError:
            return GONE, ""
        except LimosaError:
            return UNREACHABLE, ""
        return (UNREACHABLE if state == UNREACHABLE else state), ""

    async def _carry_out(self, verdict: Verdict) -> Verdict:
        if verdict is Verdict.KEEP_SOURCE:
            await (self.target.end() if self.target is not None else self.end_target())
        elif verdict is Verdict.RESUME_SOURCE and self.source is not None:
            await (self.target.end() if self.target is not None else self.end_target())
            try:
                await self.source.control.resume()
            except QmpError as error:
                raise self._ask() from error
        elif verdict is Verdict.KEEP_TARGET and self.source is not None:
            await self.source.end()
        elif verdict is Verdict.STOP_SOURCE and self.source is not None:
            await self.source.control.pause()
            self.now = await self.situation()
            raise self._ask()
        elif verdict is Verdict.ASK:
            raise self._ask()
        return verdict

    def _ask(self) -> DecisionError:
        (source, target), now = self.hosts, self.now
        return DecisionError(
            f"{self.guest} is {now.source} on {source} ({now.source_says or 'unknown'}) and {now.target} on {target} "
            f"({now.target_says or 'unknown'}) after an interrupted post-copy; ending either copy could lose it",
            hint=f"end the copy you do not want, the other goes on: limosa stop {self.guest} --host HOST --force",
        )
