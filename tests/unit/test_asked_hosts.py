"""Which hosts a command asks: those that it needs, each once, all at once, and none for what is on record."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from limosa import spec
from limosa.errors import DecisionError, LimosaError, StateError, UnreachableError
from limosa.hosts import catalogue
from limosa.hosts.kind import HostState, Seen
from limosa.lab import Lab, status
from limosa.lab.record import GuestRecord, LabDirectory, Launched, Record
from limosa.migration.journal import Journal
from limosa.migration.phases import Phase
from limosa.process import Completed
from limosa.qemu.launches import LAUNCH

MACHINES = 200
NAMES = [f"m{number}" for number in range(1, MACHINES + 1)]
TEXT = f"""
name: fleet
networks: {{lan: {{subnet: 10.90.0.0/16}}}}
hosts: {{{", ".join(f"{name}: {{kind: ssh, machine: {name}, links: {{lan: eth0}}}}" for name in NAMES)}}}
guests: {{web: {{image: bare, host: m1}}, db: {{image: bare, host: m2}}}}
storage: {{shared: {{path: /srv/vms}}}}
"""


class QuietHost:
    """A machine that is on, and runs a QEMU whose monitors do not answer or (not *busy*) none."""

    def __init__(self, name: str, busy: bool) -> None:
        self.name, self.runtime_directory, self.busy = name, "/run/limosa-fleet", busy

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", **_: Any) -> Completed:
        words = (b"12 345", b"qemu", b"-pidfile", stdin.split(b"\n")[0], b"-chardev", LAUNCH.encode() + b"a1")
        found = b"\n".join(words) + b"\0" if self.busy else b""
        return Completed(tuple(argv), 0, found + b"whole", b"", 0.0)

    async def connect(self, path: str) -> socket.socket:
        raise StateError("nobody listens")


class CountingKind:
    """Writes down who is asked. Machines in *silent* do not answer, those in *hung* never come to an end; those in
    *busy* run a QEMU."""

    def __init__(self, silent: Collection[str] = (), hung: Collection[str] = (), busy: Collection[str] = ()) -> None:
        self.busy = busy
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.silent, self.hung = silent, hung

    async def find(self, names: Collection[str]) -> dict[str, Seen]:
        self.asked += names
        self.at_once += len(names)
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        if any(name in self.hung for name in names):
            await asyncio.get_running_loop().create_future()
        self.at_once -= len(names)
        return {name: self._seen(name) for name in names}

    def _seen(self, name: str) -> Seen:
        if name in self.silent:
            return Seen.silent(UnreachableError(f"{name} does not answer"))
        return Seen.on(QuietHost(name, name in self.busy))  # type: ignore[arg-type]

    async def close(self) -> None:
        pass


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabDirectory]:
    """A lab of many machines that is up, with its first guest on m7."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = LabDirectory.named("fleet")
    made.create(spec.loads(TEXT))
    address = {name: {"lan": f"10.90.1.{number % 250}"} for number, name in enumerate(NAMES)}
    made.save(Record(up=True, claimed=NAMES, addresses={**address, "client": {"lan": "10.90.0.1"}}))
    made.save_guest("web", record_on("m7"))
    yield made


def record_on(*hosts: str) -> GuestRecord:
    """What is recorded of a guest with a copy on each of these hosts."""
    copies = tuple(Launched(host, "a1") for host in hosts)
    return GuestRecord(host=hosts[0], copies=copies, accel="tcg", accel_reason="", machine="pc-q35-7.2", cpu="max")


def counted(monkeypatch: pytest.MonkeyPatch, kind: CountingKind) -> CountingKind:
    """Have the lab's machines be of *kind*."""
    monkeypatch.setattr(catalogue, "kind", lambda *_: kind)
    return kind


async def tried(guest: str = "web", target: str = "m9") -> LimosaError:
    """What ``migrate`` says in that lab."""
    async with Lab.open("fleet") as lab:
        with pytest.raises(LimosaError) as caught:
            await lab.migrate(guest, target)
    return caught.value


async def test_opening_a_lab_asks_nobody(directory: LabDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = counted(monkeypatch, CountingKind())
    async with Lab.open("fleet"):
        assert kind.asked == []


async def test_a_move_among_many_machines_asks_two(directory: LabDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = counted(monkeypatch, CountingKind(busy={"m7"}))
    error = await tried()
    assert sorted(kind.asked) == ["m7", "m9"], "each once"
    assert isinstance(error, StateError) and "the QEMU of web on m7 is there" in error.message


async def test_a_guest_that_is_not_where_it_is_on_record_is_looked_for_everywhere(
    directory: LabDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have moved it without us; that it is started a second time is what must not happen."""
    kind = counted(monkeypatch, CountingKind(busy={"m20"}))
    assert "the QEMU of web on m20 is there" in (await tried()).message
    assert sorted(kind.asked) == sorted(NAMES), "each once"
    async with Lab.open("fleet") as lab:
        assert await lab.start("web") is False
        assert await lab.guests.where("web") == "m20"


async def test_a_guest_that_is_nowhere_does_not_run(directory: LabDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = counted(monkeypatch, CountingKind())
    assert (await tried()).message == "guest web does not run"
    assert sorted(kind.asked) == sorted(NAMES), "each once"


async def test_a_guest_on_a_silent_machine_may_run(directory: LabDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = counted(monkeypatch, CountingKind(silent={"m7"}))
    error = await tried()
    assert sorted(kind.asked) == ["m7", "m9"]
    assert isinstance(error, DecisionError) and "may run on m7" in error.message


async def test_every_machine_that_may_have_the_guest_is_asked(
    directory: LabDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each of its copies, by an unfinished migration, and by what a person gave up."""
    directory.save_guest("web", record_on("m7"))
    directory.give_up_guest("web")
    directory.save_guest("web", record_on("m20", "m30"))
    book = Journal(directory.journal("web"), "web", "m40", "m50")
    book.begin()
    book.write(Phase.MOVING)
    kind = counted(monkeypatch, CountingKind(silent=NAMES))
    assert isinstance(await tried(), DecisionError)
    assert sorted(kind.asked) == ["m20", "m30", "m40", "m50", "m7", "m9"]


@pytest.mark.parametrize("file", ["record.json", "migration.jsonl", "given-up.json"])
async def test_all_are_asked_where_what_is_on_record_cannot_be_read(
    file: str, directory: LabDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory.guest("web") / file).write_text("{\n")
    kind = counted(monkeypatch, CountingKind())
    await tried()
    assert sorted(kind.asked) == sorted(NAMES), "each once"


async def test_a_guest_without_a_record_may_be_wherever_the_lab_is(
    directory: LabDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = directory.record()
    assert record is not None
    record.claimed = ["m3", "m4"]
    directory.save(record)
    kind = counted(monkeypatch, CountingKind())
    await tried("db")
    assert sorted(kind.asked) == ["m3", "m4", "m9"]


async def test_status_asks_all_at_once(directory: LabDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = counted(monkeypatch, CountingKind(silent={"m7"}))
    async with Lab.open("fleet") as lab:
        found = await lab.status()
    assert {host.name for host in found.hosts if host.state is not HostState.ON} == {"m7"}
    assert next((guest.name, guest.state, guest.host) for guest in found.guests) == ("web", "unknown", "m7")
    assert kind.most_at_once == MACHINES and sorted(kind.asked) == sorted(NAMES), "each once"


async def test_status_waits_for_nobody_for_ever(directory: LabDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, CountingKind(hung={"m7"}))
    monkeypatch.setattr(status, "ANSWER_S", 0.05)
    async with Lab.open("fleet") as lab:
        found = await lab.status()
    late = next(host for host in found.hosts if host.name == "m7")
    assert late.state is HostState.NO_ANSWER and late.why.startswith("host m7 did not answer within 0.05 s")
