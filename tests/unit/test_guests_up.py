"""Guests are brought up side by side: as many as there is room for, each for itself, and what is shared by turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from limosa import spec
from limosa.deadline import Deadline
from limosa.errors import BusyError, LimosaError, MachineError
from limosa.events import Event, Events, Note, StageFinished, StageStarted
from limosa.hosts.host import HostFacts
from limosa.lab import guests_up, interruption
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHosts
from limosa.lab.record import GuestRecord, LabDirectory

MIB = 1 << 20
RECORD = GuestRecord(host="a", accel="tcg", accel_reason="", machine="q35", cpu="qemu64")


class Port:
    """A host, as far as it is asked what it is."""

    def __init__(self, machine: str, cpus: int, available_mib: int) -> None:
        self.machine, self.cpus, self.available = machine, cpus, available_mib * MIB

    async def facts(self) -> HostFacts:
        return HostFacts("6.1", "cpu", self.cpus, 8 << 30, self.available, kvm=False, tun=True, machine=self.machine)


class Stage:
    """Guests whose launch and boot the test directs; what happens is kept in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.up: dict[str, asyncio.Event] = {}
        self.failing: dict[str, LimosaError] = {}
        monkeypatch.setattr(guests_up, "launch", self.launch)
        monkeypatch.setattr(guests_up, "boot", self.boot)

        async def settled(guest: LabGuest, **_: object) -> str:
            return ""

        monkeypatch.setattr(interruption, "finish", settled)
        monkeypatch.setattr(interruption, "end_strays", settled)

    async def launch(self, guest: LabGuest) -> GuestRecord | None:
        assert not self.preparing, "preparing takes turns"
        self.log.append(f"prepare {guest.name}")
        with guest.hosts.events.stage("prepare"):
            await asyncio.sleep(0)
        if guest.name in self.failing:
            self.log.append(f"fail {guest.name}")
            raise self.failing[guest.name]
        self.log.append(f"launch {guest.name}")
        return RECORD

    @property
    def preparing(self) -> bool:
        return bool(self.log) and self.log[-1].startswith("prepare")

    async def boot(self, guest: LabGuest, record: GuestRecord) -> None:
        await self.up.setdefault(guest.name, asyncio.Event()).wait()
        guest.hosts.events.note("it answers")
        self.log.append(f"up {guest.name}")

    async def until(self, condition: Callable[[], bool]) -> None:
        async for _ in Deadline.after(60).ticks(0.001):
            if condition():
                return
        raise AssertionError(self.log)

    async def at_rest(self) -> None:
        """Everybody has had many turns, and waits."""
        for _ in range(200):
            await asyncio.sleep(0)


def lab_of(*guests: str, hosts: str = "a: {}, b: {}") -> str:
    return f"name: many\nhosts: {{{hosts}}}\nguests: {{{', '.join(guests)}}}\n"


class Work:
    """``bring_up`` under way."""

    def __init__(self, text: str, ports: dict[str, Port], heard: list[Event]) -> None:
        lab = spec.loads(text)
        self.directory = LabDirectory.named("many")
        self.directory.create(lab)
        hosts = cast(LabHosts, _Hosts(lab, self.directory, ports, Events(heard.append)))
        self.made: list[str] = []
        self.work: Coroutine[Any, Any, list[LimosaError]] = guests_up.bring_up(hosts, self.made, start=True, wait=True)


class _Hosts:
    def __init__(self, lab: object, directory: LabDirectory, on: dict[str, Port], events: Events) -> None:
        self.lab, self.directory, self.on, self.events = lab, directory, on, events

    def may_hold(self, name: str) -> bool:
        return False


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Stage(monkeypatch)


@asynccontextmanager
async def going(work: Work) -> AsyncIterator[asyncio.Task[list[LimosaError]]]:
    task = asyncio.ensure_future(work.work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


FOUR = lab_of(*(f"g{i}: {{host: {'ab'[i % 2]}}}" for i in range(4)))


async def test_as_many_boot_at_once_as_there_are_cpus(stage: Stage) -> None:
    """The last one up is the first begun: whoever waited for it before beginning others would never end."""
    machine = {"a": Port("m", 2, 4000), "b": Port("m", 2, 4000)}
    work = Work(FOUR, machine, [])
    async with going(work) as task:
        await stage.until(lambda: "launch g1" in stage.log)
        await stage.at_rest()
        assert stage.log == ["prepare g0", "launch g0", "prepare g1", "launch g1"], "both hosts are one machine"
        for up, then in (("g1", "g2"), ("g2", "g3")):
            stage.up[up].set()
            await stage.until(lambda then=then: f"launch {then}" in stage.log)  # type: ignore[misc]
        stage.up["g3"].set()
        stage.up["g0"].set()
        assert await task == []
    assert work.made == [f"guest g{i}" for i in range(4)], "in the file's order, whichever was up first"


async def test_two_machines_have_room_for_twice_as_many(stage: Stage) -> None:
    work = Work(FOUR, {"a": Port("one", 2, 4000), "b": Port("other", 2, 4000)}, [])
    async with going(work):
        await stage.until(lambda: sum(line.startswith("launch") for line in stage.log) == 4)


async def test_memory_that_is_not_there_is_waited_for_and_no_guest_refused(stage: Stage) -> None:
    """Of eight CPUs and 1000 MiB two guests of 512 MiB use up more: one after the other they have room."""
    work = Work(FOUR, {"a": Port("m", 8, 1000), "b": Port("m", 8, 1000)}, [])
    async with going(work) as task:
        for i in range(4):
            await stage.until(lambda i=i: f"g{i}" in stage.up)  # type: ignore[misc]
            await stage.at_rest()
            assert stage.log[-1] == f"launch g{i}"
            stage.up[f"g{i}"].set()
        assert await task == []


async def test_a_guest_larger_than_the_machine_comes_alone(stage: Stage) -> None:
    work = Work(lab_of("big: {host: a, cpus: 8}"), {"a": Port("m", 2, 4000)}, [])
    async with going(work):
        await stage.until(lambda: "launch big" in stage.log)


async def test_one_failure_keeps_and_hides_no_other(stage: Stage) -> None:
    stage.failing = {"g0": MachineError("no image"), "g2": MachineError("no image")}
    work = Work(FOUR, {"a": Port("m", 2, 4000), "b": Port("m", 2, 4000)}, [])
    with work.directory.locked("limosa stop", "g3"):
        async with going(work) as task:
            await stage.until(lambda: "g1" in stage.up)
            stage.up["g1"].set()
            failures = await task
    assert [failure.about for failure in failures] == ["guest g0", "guest g2", "guest g3"]
    assert failures[0].sentence == "guest g0: no image"
    assert isinstance(failures[2], BusyError) and failures[2].sentence == failures[2].message, "it names the guest"
    assert work.made == ["guest g1"]


async def test_events_tell_which_guest(stage: Stage) -> None:
    heard: list[Event] = []
    work = Work(FOUR, {"a": Port("m", 4, 4000), "b": Port("m", 4, 4000)}, heard)
    async with going(work) as task:
        for i in range(4):
            await stage.until(lambda i=i: f"g{i}" in stage.up)  # type: ignore[misc]
            stage.up[f"g{i}"].set()
        await task
    for kind in (StageStarted, StageFinished, Note):
        assert sorted(event.guest for event in heard if isinstance(event, kind)) == ["g0", "g1", "g2", "g3"], kind


async def test_a_single_guest_needs_no_name(stage: Stage) -> None:
    heard: list[Event] = []
    work = Work(lab_of("g: {host: a}"), {"a": Port("m", 4, 4000)}, heard)
    async with going(work):
        await stage.until(lambda: "g" in stage.up)
    assert [event.guest for event in heard if isinstance(event, StageStarted)] == [""]


async def test_a_cancellation_ends_all_and_holds_no_lock(stage: Stage) -> None:
    work = Work(FOUR, {"a": Port("m", 2, 4000), "b": Port("m", 2, 4000)}, [])
    async with going(work) as task:
        await stage.until(lambda: "g1" in stage.up)
        before = len(stage.log)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(stage.log) == before, "none was begun meanwhile"
    for i in range(4):
        assert not work.directory.busy(f"g{i}")
    assert len(asyncio.all_tasks()) == 1
