"""The facts that the checks before a move need, gathered through the hosts' ports and the guest's QEMU: side by side,
each once, and none that no check asks for."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from limosa import bundle, tasks, untrusted
from limosa.errors import LimosaError
from limosa.hosts.host import Host
from limosa.lab import copies, qemu_launch, stream_keys
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHost
from limosa.lab.record import GuestRecord
from limosa.migration import pause_estimate
from limosa.migration import plan as plans
from limosa.migration.choice import Offer
from limosa.migration.preflight import check, check_table, files
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Backend, Clocks, Facts, File, Keys, Role, Sight, Started
from limosa.migration.preflight.finding import Finding
from limosa.migration.settings import Settings
from limosa.network import attachment, occupancy
from limosa.network.obstacles import PathSize
from limosa.qemu import argv, dirty_log, features

EARLY = ("source_qemu", "target_qemu", "room_bytes")
"""The facts that hosts are asked for while the guest is still looked for: the source is where it is on record."""

CLOCK_LOOKS = 5
"""How often a clock is asked; the quickest answer counts, half of which is not known."""
LOOK_S = 30.0

_SENT = ("userfaultfd", "storage.seen_file", "lab.sight_program")
"""The modules of the program that looks on a host, in the order in which they import each other."""

_STAT = ("stat", "-L", "-c", "%d %i %s %n", "--")


def of(guest: LabGuest, target: str, settings: Settings) -> Facts:
    """What is known before anybody is asked."""
    hosts = guest.hosts
    return Facts(
        guest=guest.name,
        target=target,
        settings=settings,
        hosts=tuple(hosts.lab.hosts),
        cut=tuple(hosts.record.cut),
        absent=None if target in hosts.on else hosts.absent(target),
    )


class Inquiry:
    """The facts of one move, of *guest* to *target*, as far as they were asked for. None: the target is not on."""

    def __init__(self, guest: LabGuest, target: LabHost | None, facts: Facts) -> None:
        self.guest, self.facts = guest, facts
        self._target = target
        self._copy: copies.Copy | None = None
        self._rounds: tuple[Mapping[str, Callable[[], Awaitable[Any]]], ...] = (
            {
                "target_qemu": self._target_qemu,
                "source_qemu": self._source_qemu,
                "room_bytes": self._room,
                "same_machine": self._same_machine,
                "blockers": self._blockers,
                "keys": self._keys,
            },
            {
                "plan": self._plan,
                "trial": self._trial,
                "source_sight": self._source_sight,
                "target_sight": self._target_sight,
                "source_links": self._source_links,
                "target_links": self._target_links,
                "clocks": self._clocks,
                "backends": self._backends,
                "queue_entries": self._queue_entries,
                "taken": self._taken,
            },
            {"bridge": self._bridge, "packets": self._packets},
        )
        """What is asked at once; those of a later round take from those of an earlier one."""

    def found(self, copy: copies.Copy, others: Collection[copies.Copy] = ()) -> None:
        """The guest is *copy*; the *others* do not run."""
        self._copy = copy
        started, damage = None, dict[str, LimosaError]()
        try:
            if (record := self.guest.known_record()) is not None:
                started = _started(self.guest, record)
        except LimosaError as error:
            damage = {"started": error}
        if self.guest.record is None or self.guest.record.host != copy.host:
            self._forget({"source_qemu"})
            self.__dict__.pop("source", None)
        self.facts = msgspec.structs.replace(
            self.facts,
            source=copy.host,
            status=copy.status,
            leftover=any(other.host == self.facts.target for other in others),
            started=started,
            unknown={**self.facts.unknown, **damage},
        )

    # -- turns --------------------------------------------------------------------------------------------------------

    async def turn(self, *turns: When) -> list[Finding]:
        """Gather what the checks of these turns need, and what they find."""
        checks = [each for when in turns for each in check_table.in_turn(when)]
        if When.BESIDE in turns:
            await self.ask({"same_machine"})  # what concerns a move hangs on it
        await self.ask(_needs(checks, self.facts))
        return check.examine(checks, self.facts)

    async def ask(self, names: Collection[str], *, again: bool = False) -> None:
        """Have these facts, unless they are there. One that cannot be had is in ``unknown``, with the reason."""
        if again:
            self._forget(names)
        for questions in self._rounds:
            await tasks.each(self._answer(name, question) for name, question in questions.items() if name in names)

    def _forget(self, names: Collection[str]) -> None:
        unknown = {name: error for name, error in self.facts.unknown.items() if name not in names}
        self.facts = msgspec.structs.replace(self.facts, unknown=unknown, **dict.fromkeys(names, None))

    async def _answer(self, name: str, question: Callable[[], Awaitable[Any]]) -> None:
        if name in self.facts.unknown or getattr(self.facts, name) not in (None, False):
            return
        try:
            answer = {name: await question()}
        except LimosaError as error:
            answer = {"unknown": {**self.facts.unknown, name: error}}
        self.facts = msgspec.structs.replace(self.facts, **answer)

    # -- what is asked ------------------------------------------------------------------------------------------------

    @property
    def target(self) -> LabHost:
        """The target. Raises what keeps us out of it."""
        if self._target is None:
            raise self.guest.hosts.absent(self.facts.target)
        return self._target

    @property
    def copy(self) -> copies.Copy:
        """The guest, once it was found."""
        assert self._copy is not None, "what is asked of the source comes after that"
        return self._copy

    @functools.cached_property
    def source(self) -> LabHost:
        """The source. Before the guest was found it is where that is on record. Raises what keeps us out of it."""
        record = self.guest.record
        expected = record.host if self._copy is None and record is not None else self.copy.host
        return self.guest.hosts.named(expected)

    @property
    def started(self) -> Started:
        """What the guest was started with."""
        assert self.facts.started is not None, "an earlier turn ends the move where it is not on record"
        return self.facts.started

    @property
    def _accel(self) -> str:
        return self.guest.record.accel if self.guest.record is not None else "tcg"

    async def _target_qemu(self) -> Any:
        return await self.target.offer(self._accel)

    async def _source_qemu(self) -> Any:
        return await self.source.offer(self._accel)

    async def _room(self) -> int:
        return await qemu_launch.room_bytes(self.guest, self.target)

    async def _plan(self) -> plans.MigrationPlan:
        facts, address, rate = self.facts, self.target.migration_address, self.guest.hosts.lab.migration_network
        if (known := facts.target_qemu) is None:
            raise facts.unknown["target_qemu"]
        source, target = Offer(self.copy.host, await self._offered()), Offer(self.target.name, known)
        link = None if rate.rate_bits_per_s is None else pause_estimate.stream(rate.rate_bits_per_s)
        way = stream_keys.transport(facts.keys or Keys(encrypted=False), self.source, self.target)
        return plans.made(
            facts.guest,
            facts.settings,
            source,
            target,
            address,
            transport=way,
            link_bytes_per_s=link,
            memory_bytes=self.guest.spec.memory_bytes,
        )

    async def _keys(self) -> Keys:
        return await stream_keys.seen(self.facts.settings.tls, self.source, self.target)

    async def _offered(self) -> features.Migrations:
        """What the guest's QEMU can do: by the program, or where that is gone that it was started by, by itself."""
        if self.facts.source_qemu is not None:
            return self.facts.source_qemu
        return await features.of_running(self.copy.qemu.control)

    async def _trial(self) -> dirty_log.Verdict | None:
        return dirty_log.recall(self.facts.target_qemu) if self.facts.target_qemu is not None else None

    async def _same_machine(self) -> bool:
        if not (self.source.spec.traits.own_system or self.target.spec.traits.own_system):
            return True
        here, there = await tasks.together((self.source.port.facts(), self.target.port.facts()))
        return bool(here.machine) and here.machine == there.machine

    async def _blockers(self) -> tuple[str, ...]:
        return (await self.copy.qemu.observe.migrate_info()).blocked_reasons

    async def _queue_entries(self) -> int | None:
        return await self.copy.qemu.observe.queue_entries(argv.RANDOM)

    async def _backends(self) -> tuple[Backend, ...]:
        monitor, found = self.copy.qemu.observe, []
        for name in await monitor.objects("memory-backend-file"):
            path = await monitor.object_text(name, "mem-path")
            found.append(Backend(name=name, path=path, file_system=await self._file_system(path)))
        return tuple(found)

    async def _file_system(self, path: str) -> str:
        """Which the file is in, or would be, on the target; empty where it does not say."""
        for place in (path, str(Path(path).parent)):
            done = await self.target.port.run(["stat", "-f", "-c", "%T", "--", place], check=False)
            if done.returncode == 0:
                return done.text
        return ""

    async def _source_links(self) -> Mapping[str, attachment.Interface]:
        return await _links(self.source)

    async def _target_links(self) -> Mapping[str, attachment.Interface]:
        return await _links(self.target)

    async def _bridge(self) -> attachment.Interface | None:
        has = self._links_of("target_links")
        return has.get(attachment.carrier(self.guest.hosts.lab, self.target.name, self.started.network, has))

    def _links_of(self, name: str) -> Mapping[str, attachment.Interface]:
        """The interfaces of one side. Raises why they are not known."""
        if name in self.facts.unknown:
            raise self.facts.unknown[name]
        found: Mapping[str, attachment.Interface] = getattr(self.facts, name)
        return found

    async def _packets(self) -> PathSize:
        from limosa.network import obstacles

        source, target = self.source, self.target
        seen = {source.name: self._links_of("source_links"), target.name: self._links_of("target_links")}
        lab = self.guest.hosts.lab
        return await obstacles.path_size(lab, source.port, target.name, seen, target.migration_address)

    async def _clocks(self) -> Clocks:
        here, there = await tasks.together((_clock(self.source.port), _clock(self.target.port)))
        return Clocks(ahead_ns=there[0] - here[0], uncertainty_ns=here[1] + there[1])

    async def _source_sight(self) -> Sight:
        return await self._sight(self.source, lock=False)

    async def _target_sight(self) -> Sight:
        return await self._sight(self.target, lock=True, faults=self.facts.may_switch)

    async def _sight(self, host: LabHost, *, lock: bool, faults: bool = False) -> Sight:
        """What one host sees. Those of one kernel and one user see the same, so it is only asked which files they see:
        a program that a machine has, where Python would take longer to start than anything else before a move."""
        paths = [path for _, path in self.started.files]
        if not (faults or self.source.spec.traits.own_system or self.target.spec.traits.own_system):
            return await _same_kernel_sight(host.port, paths)
        return await _sight(host.port, self._looks(lock=lock), faults=faults)

    def _looks(self, *, lock: bool) -> dict[str, dict[str, bool]]:
        """How each file is to be looked at. What the guest writes to begins otherwise from one look to the next."""
        return {
            path: {
                "head": role not in files.WRITTEN and not self.facts.same_machine,
                "lock": lock and role in files.WRITTEN,
            }
            for role, path in self.started.files
        }

    async def _taken(self) -> dict[str, str]:
        from limosa.lab import guest_access

        return await guest_access.who_else(self.guest.hosts, self.guest.spec, self.copy.host)


def _needs(checks: Iterable[Check], facts: Facts) -> set[str]:
    found = {name for each in checks if each.concerns(facts) for name in each.needs}
    if "packets" in found:
        found |= {"source_links", "target_links"}
    if "plan" in found:
        found |= {"keys"}
    return found | ({"target_links"} if "bridge" in found else set())


def _started(guest: LabGuest, record: GuestRecord) -> Started:
    own, spec = record.own_disk, guest.spec
    named: list[tuple[Role, str]] = [("kernel", record.kernel), ("initrd", record.initrd), ("disk", record.disk)]
    if own is not None:
        named += [("base", own.base), ("seed", own.seed)]
        named += [("firmware", own.firmware_code), ("firmware settings", own.firmware_vars)]
    return Started(
        machine=record.machine,
        cpu=record.cpu,
        accel=record.accel,
        ram_bytes=record.ram_bytes,
        memory_bytes=spec.memory_bytes,
        network=spec.network,
        shared_network=bool(spec.address) and occupancy.shared(guest.hosts.lab, spec.network),
        files=tuple((role, path) for role, path in named if path),
    )


async def _links(host: LabHost) -> Mapping[str, attachment.Interface]:
    """The interfaces of *host*; those that limosa made itself hang together as it knows."""
    return await attachment.interfaces(host.port, routes=host.spec.traits.own_system)


async def _same_kernel_sight(host: Host, paths: list[str]) -> Sight:
    if not paths:
        return Sight()
    done = await host.run([*_STAT, *paths], check=False)  # of one that is missing it says so elsewhere
    found = dict.fromkeys(paths, File(there=False))
    for line in done.text.splitlines():
        device, inode, size, path = line.split(" ", 3)
        found[path] = File(readable=True, writable=True, device=int(device), inode=int(inode), size_bytes=int(size))
    return Sight(files=found)


async def _sight(host: Host, looks: Mapping[str, Mapping[str, bool]], *, faults: bool = False) -> Sight:
    asked = json.dumps({"files": looks, "faults": faults})
    root = Path(__file__).parents[1]
    sent = bundle.program([(f"limosa.{name}", root / f"{name.replace('.', '/')}.py") for name in _SENT])
    done = await host.run(bundle.command(host.python, asked), stdin=sent, timeout_s=LOOK_S)
    try:
        return untrusted.decode(done.stdout, type=Sight)
    except msgspec.DecodeError as error:
        raise LimosaError(f"{host.name} did not tell what it sees: {error}") from error


async def _clock(host: Host) -> tuple[int, int]:
    """How far the host's clock is ahead of ours, and how far that may be wrong, in ns."""
    best = (sys.maxsize, 0)
    for _ in range(CLOCK_LOOKS):
        before = time.time_ns()
        there = (await host.facts()).time_ns
        after = time.time_ns()
        best = min(best, (after - before, there - (before + after) // 2))
    return best[1], best[0] // 2
