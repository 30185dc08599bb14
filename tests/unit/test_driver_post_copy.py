"""Post-copy against two QEMUs that fail as real ones cannot be made to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace
from test_driver import Pair, pair

from limosa.deadline import Deadline
from limosa.errors import LimosaError, MigrationError, StateError
from limosa.events import MigrationPhaseChanged, MigrationProgressed, Note
from limosa.migration import between, transfer
from limosa.migration.driver import Driver
from limosa.migration.journal import unfinished
from limosa.migration.methods import post_copy
from limosa.migration.phases import Phase
from limosa.qemu import guest_process
from limosa.qemu.monitor import PAUSED
from limosa.qemu.stream import Stream
from tests.fake_qmp import SILENCE, Error

RAM = {"transferred": 1 << 20, "remaining": 1 << 20, "dirty-sync-count": 2}


class Two:
    """Both QEMUs, as they go about post-copy: each answer does what QEMU does."""

    def __init__(self, both: Pair) -> None:
        self.both, self.link_carries, self.done = both, True, False
        source = both.source
        both.moves = self.moves  # type: ignore[method-assign]
        told: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "migrate-start-postcopy": lambda _: self.begins(),
            "migrate-pause": lambda _: self.gives_up(source, "postcopy-active"),
        }
        source.control.script = {**source.control.script, **told}
        both.target.control.script = {
            **both.target.control.script,
            "migrate-pause": lambda _: self.gives_up(both.target, "postcopy-active"),
            "migrate-recover": {},
        }

    def moves(self) -> None:
        """``migrate``: the first time it is pre-copy; with what both have kept it is the same stream again."""
        if self.both.source.info["status"] == PAUSED:
            self.says("postcopy-active")
            asyncio.get_running_loop().call_later(0.01, self.all_sent)
        else:
            self.both.source.info = {"status": "active", "ram": RAM}

    def says(self, status: str) -> None:
        for side in (self.both.source, self.both.target):
            side.info = {"status": status, "ram": RAM}
            side.control.event("MIGRATION", status=status)

    def begins(self) -> dict[str, Any]:
        self.both.source.state = "finish-migrate"
        self.both.source.control.event("STOP")
        self.says("postcopy-active")
        self.both.target.state = "running"
        self.both.target.control.event("RESUME")
        if self.link_carries:
            asyncio.get_running_loop().call_later(0.01, self.all_sent)
        return {}

    def all_sent(self) -> None:
        self.both.source.state = "postmigrate"
        self.says("completed")
        self.both.source.info = {"status": "completed", "total-time": 120, "downtime": 3}

    def gives_up(self, side: Any, only_in: str) -> Any:
        if side.info["status"] != only_in:
            return Error("migrate-pause is currently only supported during postcopy-active state")
        side.info = {"status": PAUSED, "ram": RAM}
        side.control.event("MIGRATION", status=PAUSED)
        return {}

    async def until(self, seen: Callable[[], object]) -> None:
        """Until *seen* is true; looked at between any two steps."""
        async for _ in Deadline.after(30).ticks(0.002):
            if seen():
                return
        raise AssertionError("it did not come to that")

    @property
    def phases(self) -> list[Phase]:
        return [entry.phase for entry in self.both.transfer.journal.entries]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (guest_process, "EXIT_S", 0.05), (between, "LOOK_S", 0.2), (between, "BEGIN_S", 0.05),
        (post_copy, "SILENT_S", 0.05), (post_copy, "PROOF_S", 0.01), (post_copy, "LOOK_S", 0.2),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@asynccontextmanager
async def two(folder: Path, monkeypatch: pytest.MonkeyPatch, *, carries: bool = True) -> AsyncIterator[Two]:
    async with pair(folder, method="post-copy") as both:
        made = Two(both)
        made.link_carries = carries

        async def proof(_: object) -> bool:
            return made.link_carries

        async def moved(_: object) -> bool:
            return False

        async def held(_: object) -> bool:
            return True

        monkeypatch.setattr(post_copy, "_carries", proof)
        monkeypatch.setattr(Stream, "moved", moved)
        monkeypatch.setattr(Stream, "hold", held)
        yield made


async def test_it_begins_as_pre_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as made:
        outcome = await Driver(made.both.transfer).run()
        assert [phase for phase, _ in outcome.phases] == [
            "starting-target", "preparing", "moving", "starting-post-copy", "post-copy", "switched", "ending-source",
            "completed",
        ]  # fmt: skip
        assert outcome.stop_ns is not None and outcome.resume_ns is not None and outcome.qemu_downtime_ms is None
        assert made.both.source.told("quit") == 1 and made.both.target.told("quit") == 0


async def test_a_guest_whose_rest_fits_into_the_pause_is_not_exposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU hands over by itself then; post-copy begins only where it has begun another pass instead."""
    async with two(tmp_path, monkeypatch) as made:
        seen = MigrationProgressed(
            guest="web", status="active", elapsed_ms=100, remaining_bytes=30, throughput_bytes_per_s=100.0
        )
        monkeypatch.setattr(made.both.transfer, "progress", SimpleNamespace(last=seen))
        assert made.both.transfer.plan.downtime_limit_s == 0.3
        assert post_copy._fits(made.both.transfer)
        for other in ({"remaining_bytes": 31}, {"remaining_bytes": None}, {"throughput_bytes_per_s": None}):
            made.both.transfer.progress.last = replace(seen, **other)
            assert not post_copy._fits(made.both.transfer)
        # A limit of the bandwidth ends where the guest stands still, and QEMU is told a longer pause for that.
        plan = made.both.transfer.plan
        told = replace(plan.source, parameters={**plan.source.parameters, "downtime-limit": 600})
        monkeypatch.setattr(made.both.transfer, "plan", replace(plan, source=told))
        made.both.transfer.progress.last = replace(seen, remaining_bytes=60)
        assert post_copy._fits(made.both.transfer)


async def test_a_link_that_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both give the connection up, past their main loops; nothing is ended; it goes on when the link carries."""
    async with two(tmp_path, monkeypatch, carries=False) as made:
        task = asyncio.ensure_future(Driver(made.both.transfer).run())
        await made.until(lambda: Phase.WAITING_FOR_LINK in made.phases)
        await made.until(lambda: made.both.source.info["status"] == PAUSED)
        assert made.both.target.info["status"] == PAUSED
        for side in (made.both.source, made.both.target):
            assert side.told("quit") == side.told("migrate_cancel") == 0 and "migrate-pause" in side.control.out_of_band
        made.link_carries = True
        outcome = await task
        assert outcome.failure is None and Phase.RECOVERING in made.phases
        assert "migrate-recover" in made.both.target.control.out_of_band
        resumed = [given for name, given in made.both.source.control.said if name == "migrate"][-1]
        assert resumed["resume"] is True and resumed["uri"] == made.both.transfer.journal.stream
        assert any("waits for its link" in each.text for each in made.both.heard if isinstance(each, Note))


class Keys:
    """Keys of a move: QEMU takes the second ones."""

    def __init__(self) -> None:
        self.renewed = 0

    def worn(self, begun_s: float) -> bool:
        """By their dates they are good."""
        return False

    async def give(self, qemu: object, side: object) -> None:
        """Whatever they are, they are taken."""

    async def renew(self, source: object, target: object) -> None:
        self.renewed += 1


@pytest.mark.parametrize("main_loop", ["answers", "stands still at first"])
async def test_a_connection_that_is_refused_is_told_of_and_gets_new_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main_loop: str
) -> None:
    """But not while the target waits for a page: it would do as it was told at some later moment."""
    monkeypatch.setattr(post_copy, "CONNECT_S", 0.02)
    monkeypatch.setattr(transfer, "LATE_S", 0.05)
    async with two(tmp_path, monkeypatch, carries=False) as made:
        keys, both = Keys(), made.both
        both.transfer.credentials = cast(Any, keys)
        resumes, waits = made.moves, [SILENCE] * (main_loop != "answers")

        def moves() -> None:
            if both.source.info["status"] == PAUSED and not keys.renewed:
                both.source.info = {"status": PAUSED, "error-desc": "a certificate is not right"}
            else:
                resumes()

        def looks(_: Mapping[str, Any]) -> Any:
            return waits.pop() if waits and Phase.RECOVERING in made.phases else both.target.info

        both.moves = moves  # type: ignore[method-assign]
        both.target.observe.script = {**both.target.observe.script, "query-migrate": looks}
        task = asyncio.ensure_future(Driver(both.transfer).run())
        await made.until(lambda: both.source.info["status"] == PAUSED)
        made.link_carries = True
        assert (await task).failure is None and keys.renewed == 1 and not waits
        assert made.phases.count(Phase.RECOVERING) == 2 + (main_loop != "answers")
        told = [each.text for each in both.heard if isinstance(each, Note) and each.level == "warning"]
        refused = [text for text in told if "was not taken up again: QEMU on host1 says: a certificate is" in text]
        assert len(refused) == 1, "it is said once"
        assert any("could not be renewed" in text for text in told) is (main_loop != "answers")


async def test_a_target_that_has_not_begun_keeps_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses to give the connection up, and a source that gave it up alone would lose the guest: TCP has it."""
    async with two(tmp_path, monkeypatch, carries=False) as made:
        begins = made.begins

        def not_there() -> dict[str, Any]:
            begins()
            made.both.target.info, made.both.target.state = {"status": "active"}, "inmigrate"
            made.both.target.control.event("MIGRATION", status="active")
            return {}

        made.begins = not_there  # type: ignore[method-assign]
        task = asyncio.ensure_future(Driver(made.both.transfer).run())
        await made.until(lambda: made.both.target.told("migrate-pause") >= 5)
        assert made.both.source.told("migrate-pause") == 0 and made.both.source.info["status"] == "postcopy-active"
        made.both.target.state = "running"
        made.all_sent()
        assert (await task).failure is None


async def test_a_target_that_never_began_and_a_source_that_gave_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU brings them together never again (seen with 7.2): it is said, instead of being tried for ever."""
    monkeypatch.setattr(post_copy, "STUCK_LOOKS", 3)
    async with two(tmp_path, monkeypatch, carries=False) as made:
        begins = made.begins

        def broken() -> dict[str, Any]:
            begins()
            made.both.target.info, made.both.target.state = {"status": "active"}, "inmigrate"
            made.both.target.control.event("MIGRATION", status="active")
            made.both.source.info = {"status": PAUSED, "ram": RAM}
            made.both.source.control.event("MIGRATION", status=PAUSED)
            made.link_carries = True
            return {}

        made.begins = broken  # type: ignore[method-assign]
        with pytest.raises(LimosaError, match="is lost: the link broke before web had begun on host2"):
            await Driver(made.both.transfer).run()
        assert Phase.RECOVERING not in made.phases and made.phases[-1] is Phase.LOST
        assert made.both.source.host.alive and made.both.target.host.alive


async def test_who_does_not_find_the_other_side_tries_again_later_and_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal of a move that waits for days stays small, and what QEMU says is told once."""
    async with two(tmp_path, monkeypatch, carries=False) as made:
        control, times = made.both.target.control, list[float]()

        def refuse(_: Mapping[str, Any]) -> Any:
            times.append(asyncio.get_running_loop().time())
            if len(times) == 5:
                control.script = {**control.script, "migrate-recover": {}}
            return Error("not now, says QEMU")

        control.script = {**control.script, "migrate-recover": refuse}
        task = asyncio.ensure_future(Driver(made.both.transfer).run())
        await made.until(lambda: Phase.WAITING_FOR_LINK in made.phases)
        made.link_carries = True
        assert (await task).failure is None
        gaps = [after - before for before, after in pairwise(times)]
        assert all(gap >= least for gap, least in zip(gaps, (0.02, 0.04, 0.08, 0.16), strict=True)), gaps
        assert sum("not now, says QEMU" in each.text for each in made.both.heard if isinstance(each, Note)) == 1
        assert made.phases.count(Phase.RECOVERING) == 6


def test_it_is_tried_for_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 30 s in the end, however often the two sides were refused: no float takes 2 to the 1024th."""
    monkeypatch.setattr(post_copy, "PROOF_S", 1.0)
    assert [post_copy._rest_s(times) for times in (0, 1, 2, 5, 5000)] == [0, 2, 4, 30, 30]


async def test_patience_is_for_all_that_a_command_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the link carries, and QEMU refuses each time."""
    async with two(tmp_path, monkeypatch, carries=False) as made:
        control = made.both.target.control
        control.script = {**control.script, "migrate-recover": lambda _: Error("never, says QEMU")}
        made.both.transfer.patience = Deadline.after(0.3)
        task = asyncio.ensure_future(Driver(made.both.transfer).run())
        await made.until(lambda: Phase.WAITING_FOR_LINK in made.phases)
        made.link_carries = True
        with pytest.raises(StateError, match="waits for its link"):
            await task


async def test_a_link_that_is_back_before_it_was_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither side could be told; what cannot be given up goes on by itself."""
    async with two(tmp_path, monkeypatch, carries=False) as made:

        async def moved(_: object) -> bool:
            return made.link_carries

        monkeypatch.setattr(Stream, "moved", moved)
        made.gives_up = lambda side, only_in: Error("not now")  # type: ignore[method-assign]
        task = asyncio.ensure_future(Driver(made.both.transfer).run())
        await made.until(lambda: made.both.target.told("migrate-pause") >= 2)
        made.link_carries = True
        await made.until(lambda: made.phases[-1] is Phase.POST_COPY)
        made.all_sent()
        assert (await task).failure is None
        assert Phase.WAITING_FOR_LINK in made.phases and Phase.RECOVERING not in made.phases


async def test_ctrl_c_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch, carries=False) as made:
        task = asyncio.ensure_future(Driver(made.both.transfer).run())
        await made.until(lambda: Phase.POST_COPY in made.phases)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        found = unfinished(made.both.transfer.journal.path, "web")
        assert found is not None and found.phase in {Phase.POST_COPY, Phase.WAITING_FOR_LINK}
        for side in (made.both.source, made.both.target):
            assert side.host.alive and side.told("quit") == side.told("migrate_cancel") == 0
        assert any("post-copy cannot be cancelled" in each.text for each in made.both.heard if isinstance(each, Note))


async def test_patience_that_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch, carries=False) as made:
        made.both.transfer.patience = Deadline.after(0.05)
        with pytest.raises(StateError, match="waits for its link") as caught:
            await Driver(made.both.transfer).run()
        assert "limosa recover web" in caught.value.hint
        found = unfinished(made.both.transfer.journal.path, "web")
        assert found is not None and found.phase is Phase.WAITING_FOR_LINK
        assert made.both.source.host.alive and made.both.target.host.alive


@pytest.mark.parametrize("by_itself", [True, False])
async def test_the_target_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_itself: bool) -> None:
    """Lost, and its remains are nobody's to end, unless the guest has shut itself down: then it is stopped."""
    async with two(tmp_path, monkeypatch, carries=False) as made:
        task = asyncio.ensure_future(Driver(made.both.transfer).run())
        await made.until(lambda: Phase.POST_COPY in made.phases)
        if by_itself:
            made.both.target.control.event("SHUTDOWN", guest=True, reason="guest-shutdown")
            await asyncio.sleep(0.01)
        made.both.target.end()
        made.both.source.info = {"status": PAUSED}
        with pytest.raises(LimosaError, match="shut itself down" if by_itself else "web is lost") as caught:
            await task
        assert caught.value.exit_code == 1
        assert made.both.source.host.alive is not by_itself
        last = made.both.transfer.journal.entries[-1].phase
        assert last is (Phase.FAILED if by_itself else Phase.LOST)


async def test_qemu_takes_the_guest_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As 11.1 does before the target has begun: the guest runs at the source, and the target is ended at once."""
    async with two(tmp_path, monkeypatch, carries=False) as made:

        def back() -> dict[str, Any]:
            made.both.source.state = "running"
            made.both.fails(**{"error-desc": "Unable to read from socket: Connection reset by peer"})
            return {}

        made.begins = back  # type: ignore[method-assign]
        with pytest.raises(MigrationError, match="web is on host1"):
            await Driver(made.both.transfer).run()
        assert made.both.source.state == "running" and not made.both.target.host.alive
        assert made.both.source.told("migrate_cancel") == 0


async def test_a_status_that_nobody_knows_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch, carries=False) as made:
        begins = made.begins

        def strange() -> dict[str, Any]:
            begins()
            made.both.source.info = {"status": "postcopy-active", "ram": RAM}
            asyncio.get_running_loop().call_later(0.02, odd)
            return {}

        def odd() -> None:
            made.both.source.info = {"status": "postcopy-marvel", "ram": RAM}
            asyncio.get_running_loop().call_later(0.02, made.all_sent)

        made.begins = strange  # type: ignore[method-assign]
        assert (await Driver(made.both.transfer).run()).failure is None
        assert any("postcopy-marvel" in each.text for each in made.both.heard if isinstance(each, Note))


async def test_a_step_that_the_method_does_not_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transition of ours that must not be goes to rescue, in words."""
    async with two(tmp_path, monkeypatch) as made:

        async def astray(_: object) -> Phase:
            return Phase.COMPLETED

        monkeypatch.setattr(post_copy, "STEPS", {**post_copy.STEPS, Phase.PREPARING: astray})
        with pytest.raises(MigrationError, match="cannot go from preparing to completed; web is on host1"):
            await Driver(made.both.transfer).run()
        assert made.both.source.state == "running" and not made.both.target.host.alive
        assert Phase.RESCUING in [each.phase for each in made.both.heard if isinstance(each, MigrationPhaseChanged)]
