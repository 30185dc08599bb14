"""What ``migrate`` refuses before anything is changed: each reason by itself, with the guest's monitors let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from limosa import spec
from limosa.errors import DecisionError, LimosaError, MachineError, StateError, UnreachableError
from limosa.events import Events
from limosa.lab import copies, move, qemu_launch
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHost, LabHosts
from limosa.lab.record import GuestRecord, LabDirectory, Launched, Record
from limosa.migration.preflight.finding import Finding, refuse
from limosa.migration.settings import Settings
from limosa.qemu import dirty_log, launches, own_log
from limosa.qemu.features import CpuModel, Features
from limosa.qemu.launches import Running
from tests import launches as examples

FEATURES = replace(examples.FEATURES, cpu_models=(CpuModel("max", False, False, ()),))
EVEN = 512 << 20
"""A size that is safe under emulation with a sound QEMU only."""
TEXT = """
name: pair
networks: {lan: {subnet: 10.90.0.0/16}}
hosts:
  m1: {kind: ssh, machine: m1, links: {lan: eth0}}
  m2: {kind: ssh, machine: m2, links: {lan: eth0}}
  m3: {kind: ssh, machine: m3, links: {lan: eth0}}
guests: {web: {image: bare, host: m1}}
storage: {shared: {path: /srv/vms}}
"""


class StillHost:
    """A host that is on; whatever would be done there is answered by the tests."""

    runtime_directory = "/run/limosa-pair"

    def __init__(self, name: str) -> None:
        self.name = name


class HeldQemu:
    """The guest's monitors, which have to be let go where the move does not begin."""

    def __init__(self) -> None:
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


class Situation:
    """A guest that runs on m1 and may move to m2. What a test changes of it is what ``plan`` has to refuse."""

    def __init__(self, directory: LabDirectory) -> None:
        lab = directory.spec()
        addresses = {name: {"lan": f"10.90.1.{number}"} for number, name in enumerate(("m1", "m2", "m3", "client"), 1)}
        record = Record(up=True, claimed=list(lab.hosts), addresses=addresses)
        self.hosts = LabHosts(lab, directory, record, Events(), rootless=False)
        self.hosts.client = StillHost("client")  # type: ignore[assignment]
        self.hosts.on = {name: StillHost(name) for name in ("m1", "m2")}  # type: ignore[misc]
        self.hosts._met = set(lab.hosts)
        self.record = GuestRecord(
            host="m1",
            copies=(Launched("m1", "a1"),),
            accel="tcg",
            accel_reason="",
            machine="pc-q35-7.2",
            cpu="max",
            ram_bytes=EVEN,
        )
        self.recorded = True
        self.target = "m2"
        self.settings = Settings()
        self.status = "running"
        self.others: list[copies.Copy] = []
        self.offers: list[Features | LimosaError] = [FEATURES]
        self.room_bytes = [2 * EVEN]
        """What m2 says of itself each time that it is asked; the last for ever."""
        self.qemu = HeldQemu()

    def copy(self, host: str, status: str) -> copies.Copy:
        """A copy of the guest."""
        qemu: Any = self.qemu
        return copies.Copy("web", StillHost(host), Running("a1", 1, 1), status, qemu)  # type: ignore[arg-type]

    async def plan(self) -> move.Move:
        """What ``limosa migrate`` does first."""
        if self.recorded:
            self.hosts.directory.save_guest("web", self.record)
        guest = LabGuest(self.hosts, self.hosts.lab.guests["web"], self.target)
        return await move.plan(guest, self.target, self.settings)


@pytest.fixture
async def situation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Situation]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = LabDirectory.named("pair")
    directory.create(spec.loads(TEXT))
    made = Situation(directory)

    async def the_guest(_: LabGuest) -> tuple[copies.Copy, list[copies.Copy]]:
        return made.copy("m1", made.status), made.others

    async def offer(host: LabHost, accel: str = "tcg") -> Features:
        assert accel == made.record.accel
        if host.name == "m1":
            return FEATURES
        assert host.name == "m2"
        said = made.offers.pop(0) if len(made.offers) > 1 else made.offers[0]
        if isinstance(said, LimosaError):
            raise said
        return said

    async def room_bytes(_: LabGuest, host: LabHost) -> int:
        assert host.name == "m2"
        return made.room_bytes.pop(0) if len(made.room_bytes) > 1 else made.room_bytes[0]

    async def log_size(*_: object) -> int:
        return 7

    monkeypatch.setattr(copies, "the_guest", the_guest)
    monkeypatch.setattr(LabHost, "offer", offer)
    monkeypatch.setattr(qemu_launch, "room_bytes", room_bytes)
    monkeypatch.setattr(own_log, "log_size", log_size)
    dirty_log.remember(FEATURES, dirty_log.Verdict(sound=True, reason="it came through", tried_at_s=1e12))
    yield made
    await made.hosts.close()


async def test_a_guest_that_may_move_is_planned_with_what_its_target_said(situation: Situation) -> None:
    planned = await situation.plan()
    assert planned.target.name == "m2" and planned.record == situation.record
    assert planned.inquiry.facts.target_qemu == FEATURES and planned.log_bytes == 7
    assert planned.target.migration_address == "10.90.1.2"
    assert situation.qemu.closed == 0, "the move goes on with the connection"


def _unsound(situation: Situation) -> None:
    dirty_log.remember(FEATURES, dirty_log.Verdict(sound=False, reason="it was damaged", tried_at_s=1e12))


def _untried(situation: Situation) -> None:
    situation.offers = [replace(FEATURES, identity="/usr/bin/another")]


def _damaged(situation: Situation) -> None:
    situation.recorded = False
    (situation.hosts.directory.guest("web") / "record.json").write_text("{\n")


REFUSALS: dict[str, tuple[Callable[[Situation], object], type[LimosaError], str]] = {
    "there already": (lambda s: setattr(s, "target", "m1"), StateError, "guest web is on m1 already"),
    "target off": (lambda s: setattr(s, "target", "m3"), LimosaError, "host m3"),
    "paused": (lambda s: setattr(s, "status", "paused"), StateError, "guest web is paused on m1"),
    "target cut": (lambda s: s.hosts.record.cut.append("m2"), StateError, "host m2 is cut off"),
    "source cut": (lambda s: s.hosts.record.cut.append("m1"), StateError, "host m1 is cut off"),
    "no record": (lambda s: setattr(s, "recorded", False), StateError, "was started with is not recorded"),
    "damaged record": (_damaged, StateError, "record.json"),
    "target silent": (
        lambda s: setattr(s, "offers", [UnreachableError("m2 does not answer")]), UnreachableError, "m2 does not answer"
    ),
    "useless QEMU": (lambda s: setattr(s, "offers", [MachineError("it is too old")]), MachineError, "it is too old"),
    "machine type": (
        lambda s: setattr(s.record, "machine", "pc-q35-9.0"),
        MachineError,
        "does not know web's machine type pc-q35-9.0",
    ),
    "capability": (
        lambda s: setattr(s, "settings", Settings(options={"multifd": True})), MachineError,
        "QEMU 7.2.0 on m1 cannot do multifd",
    ),
    "parameter": (
        lambda s: setattr(s, "settings", Settings(options={"announce-rounds": 3})), MachineError,
        "QEMU 7.2.0 on m2 cannot do announce-rounds",
    ),
    "unsound QEMU": (_unsound, MachineError, "would lose memory when it leaves m2 again.*is not sound"),
    "untried QEMU": (_untried, MachineError, "would lose memory when it leaves m2 again.*was not tried"),
    "no room": (
        lambda s: setattr(s, "room_bytes", [1]), MachineError, "m2 has no room for web: it needs .*, 1 B are left"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
async def test_each_refusal_comes_before_anything_is_changed(name: str, situation: Situation) -> None:
    change, kind, words = REFUSALS[name]
    change(situation)
    with pytest.raises(kind, match=words):
        await situation.plan()
    assert situation.qemu.closed == 1, "QEMU serves one client, so a monitor that is kept keeps others out"


async def test_a_lab_that_is_down_moves_nothing(situation: Situation) -> None:
    situation.hosts.client = None
    with pytest.raises(StateError, match="lab pair is down"):
        await situation.plan()


async def test_a_journal_that_cannot_be_relied_on_is_a_persons_to_decide(situation: Situation) -> None:
    journal = situation.hosts.directory.journal("web")
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.write_text("no journal\n")
    with pytest.raises(DecisionError, match="cannot be relied on"):
        await situation.plan()


async def test_what_an_earlier_move_left_on_the_target_is_ended_and_the_target_asked_anew(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then it took the room, and wrote to the log."""
    situation.others = [situation.copy("m2", "inmigrate")]
    situation.room_bytes = [0, 2 * EVEN]
    ended: list[str] = []

    async def end_recorded(_: LabGuest, host: str) -> None:
        ended.append(host)

    monkeypatch.setattr(copies, "end_recorded", end_recorded)
    planned = await situation.plan()
    assert ended == ["m2"] and planned.inquiry.facts.room_bytes == 2 * EVEN


async def test_a_copy_that_is_not_on_record_is_not_ended(situation: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: object) -> list[Running]:
        return [Running("b2", 4711, 2)]

    monkeypatch.setattr(launches, "look", look)
    situation.others = [situation.copy("m2", "inmigrate")]
    with pytest.raises(DecisionError, match=r"process 4711 on m2 .* is not on record"):
        await situation.plan()


async def test_a_cause_that_is_found_is_told_where_qemu_ended_of_it_first(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A QEMU whose disk is missing ends before anybody has looked for the disk."""
    planned, ended = await situation.plan(), asyncio.Event()

    async def launch() -> None:
        ended.set()
        raise MachineError("QEMU ended at once")

    async def turn(_: object) -> list[Finding]:
        await ended.wait()
        return [refuse(MachineError, "the disk is not there")]

    monkeypatch.setattr(planned, "_launch", launch)
    monkeypatch.setattr(planned.inquiry, "turn", turn)
    with pytest.raises(MachineError, match="the disk is not there"):
        await planned.start_target()
    assert planned.refusal is not None and planned.refusal.message == "the disk is not there"


async def test_a_target_that_came_up_is_hung_up_where_something_is_wrong(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, target = await situation.plan(), HeldQemu()

    async def launch() -> HeldQemu:
        return target

    async def turn(_: object) -> list[Finding]:
        return [refuse(StateError, "it cannot leave")]

    monkeypatch.setattr(planned, "_launch", launch)
    monkeypatch.setattr(planned.inquiry, "turn", turn)
    with pytest.raises(StateError, match="it cannot leave"):
        await planned.start_target()
    assert target.closed == 1, "whoever ends it next has to get at its monitor"
