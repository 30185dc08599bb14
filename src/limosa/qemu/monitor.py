"""Typed QMP: the few commands that Limosa gives.

Each guest has two monitors: ``control`` is used by whoever commands, ``observe`` by whoever watches, so that a slow
command never blocks a look. A guest with a screen has a third one, ``screen``, for whoever looks at that.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from limosa import untrusted
from limosa.deadline import Deadline
from limosa.errors import LimosaError, QmpError, StateError
from limosa.events import Events, QmpExchanged
from limosa.hosts.host import Host
from limosa.qemu.qmp import HUNG_UP, Ended, Qmp, Refused

Role = Literal["control", "observe", "screen"]
T = TypeVar("T")
FINAL = ("completed", "failed", "cancelled")

PAUSED = "postcopy-paused"
POST_COPY = frozenset({"postcopy-device", "postcopy-active", PAUSED, "postcopy-recover-setup", "postcopy-recover"})
"""Statuses of a migration in which the guest's memory is on both sides."""
KNOWN = frozenset(
    {
        *FINAL,
        *POST_COPY,
        "none",
        "setup",
        "cancelling",
        "failing",
        "active",
        "pre-switchover",
        "device",
        "wait-unplug",
        "colo",
    }
)
"""Every status that is understood here (qapi/migration.json, MigrationStatus)."""

GREETING_S = 10.0
"""How long a monitor may take to greet; it serves one client at a time, so another one may be in the way."""

ANSWER_S = 30.0
"""How long QEMU may take to answer a command: its main loop is held up while a large guest's state is loaded."""

_ANNOUNCED = {"initial": 50, "max": 550, "rounds": 5, "step": 100}
"""How often, and after how many ms: what QEMU's targets do unless told otherwise."""

YANK_S = 5.0
"""How long QEMU may take to do what its main loop has no part in."""


class QmpEvent(msgspec.Struct, frozen=True):
    """An event that QEMU sent by itself; ``time_ns`` is QEMU's CLOCK_REALTIME, microsecond resolution."""

    name: str
    data: dict[str, Any]
    time_ns: int


class Ram(msgspec.Struct, frozen=True, rename="kebab"):
    """The ``ram`` member of query-migrate; sizes in bytes, ``mbps`` in 10^6 bit/s, ``dirty_pages_rate`` pages/s."""

    total: int = 0
    remaining: int = 0
    transferred: int = 0
    mbps: float = 0.0
    dirty_pages_rate: int = 0
    dirty_sync_count: int = 0
    page_size: int = 4096


class SocketAddress(msgspec.Struct, frozen=True):
    """Where QEMU listens."""

    port: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,5}$")] = ""


class MigrateInfo(msgspec.Struct, frozen=True, rename="kebab"):
    """What query-migrate says, times in ms. ``raw`` holds all of it."""

    status: str = "none"
    ram: Ram | None = None
    """None: QEMU has no figures yet, or none any more."""
    total_time: int | None = None
    setup_time: int | None = None
    downtime: int | None = None
    expected_downtime: int | None = None
    cpu_throttle_percentage: int | None = None
    """What auto-converge takes from each vCPU; None: it is not at work."""
    error_desc: str = ""
    socket_address: tuple[SocketAddress, ...] = ()
    blocked_reasons: tuple[str, ...] = ()
    """Why QEMU would not let this guest go."""
    raw: dict[str, Any] = {}


class _Stamp(msgspec.Struct, frozen=True):
    """When an event came, by QEMU's clock."""

    seconds: int = 0
    microseconds: int = 0


class _RunState(msgspec.Struct, frozen=True):
    """What query-status says."""

    status: str


class _Capability(msgspec.Struct, frozen=True):
    """One of those that query-migrate-capabilities lists."""

    capability: str
    state: bool


class _Object(msgspec.Struct, frozen=True):
    """One of those that qom-list lists."""

    name: str
    type: str


_QUIET = frozenset({"query-migrate", "query-yank"})
"""Commands that are given at each look, so that no event tells of them."""


class _Queue(msgspec.Struct, frozen=True, rename="kebab"):
    """A part of what x-query-virtio-queue-status says."""

    vring_num: int


class _Yankable(msgspec.Struct, frozen=True):
    """One of the connections that query-yank lists."""

    type: str


class Monitor:
    """One QMP connection. Made by ``open``; ``close`` is safe at any time."""

    def __init__(self, guest: str, host: str, role: Role, qmp: Qmp, events: Events) -> None:
        self.guest, self.host, self.role = guest, host, role
        self._qmp, self._events = qmp, events
        self._looked_at = 0
        """How many of the connection's events were looked at."""

    @classmethod
    async def open(cls, host: Host, path: str, guest: str, events: Events, role: Role) -> Monitor:
        """Connect to the socket *path* of *host*. Raises StateError when QEMU is not there."""
        connection = await host.connect(path)
        try:
            async with asyncio.timeout(GREETING_S):
                qmp = await Qmp.over(connection)
        except (Ended, TimeoutError) as error:
            why = str(error) or f"nothing came within {GREETING_S:g} s"
            raise StateError(f"QEMU of guest {guest} on {host.name} does not answer: {why}") from error
        return cls(guest, host.name, role, qmp, events)

    @property
    def connected(self) -> bool:
        """Whether QEMU is still at the other end."""
        return not self._qmp.end

    async def close(self) -> None:
        """Hang up; QEMU goes on."""
        await self._qmp.close()

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        answer_s: float | None = None,
        out_of_band: bool = False,
    ) -> Any:
        """Give one command. Raises QmpError when QEMU refuses it, is gone, or does not answer within *answer_s*
        (None: ANSWER_S).

        *out_of_band*: it passes by those that wait for QEMU's main loop, which may stand still.
        """
        started, given, answer, refusal = time.monotonic(), dict(arguments or {}), None, ""
        answer_s = ANSWER_S if answer_s is None else answer_s
        try:
            async with asyncio.timeout(answer_s):
                answer = await self._qmp.execute(command, given, out_of_band=out_of_band)
        except TimeoutError as error:
            refusal = "no answer"
            raise QmpError(
                f"QEMU of guest {self.guest} on {self.host} did not answer {command} within {answer_s:g} s",
                error_class="Silent",
            ) from error
        except Refused as error:
            refusal = str(error)
            raise QmpError(f"QEMU on {self.host} refused {command}: {error}", error_class=error.error_class) from error
        except Ended as error:
            refusal = "gone"
            raise self._gone(str(error)) from error
        finally:
            if command not in _QUIET:
                self._tell(command, given, answer, refusal, started)
        return answer

    def _gone(self, why: str) -> QmpError:
        more = "" if why == HUNG_UP else f": {why}"
        return QmpError(f"QEMU of guest {self.guest} on {self.host} went away{more}", error_class="Gone")

    def _tell(self, command: str, given: dict[str, Any], answer: Any, refusal: str, started: float) -> None:
        duration_ms = (time.monotonic() - started) * 1000
        self._events.emit(
            QmpExchanged(
                guest=self.guest,
                host=self.host,
                command=command,
                arguments=given,
                answer=answer,
                error=refusal,
                duration_ms=duration_ms,
            )
        )

    def _shaped(self, kind: type[T], command: str, answer: Any) -> T:
        """*answer* as what *command* answers. Raises QmpError for anything else."""
        try:
            return untrusted.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise QmpError(
                f"QEMU of guest {self.guest} on {self.host} gave an answer to {command} that is none: {error}",
                error_class="Shape",
            ) from error

    async def next_event(self) -> QmpEvent:
        """The next event of QEMU. Raises QmpError when the connection ends first."""
        while self._looked_at == self.event_count:
            if not self.connected:
                raise self._gone(self._qmp.end)
            await self._qmp.more_events(self._looked_at)
        self._looked_at += 1
        return self._typed(self._qmp.events[self._looked_at - 1])

    def moment(self, name: str, since: int = 0) -> int | None:
        """When the last event called *name* came, leaving out the first *since* events of this connection; None when
        it did not. It is known from the moment of arrival, whoever reads the events and whether anybody does."""
        stamps = [_time_ns(message) for message in self._qmp.events[since:] if message["event"] == name]
        return stamps[-1] if stamps else None

    def last_status(self) -> str | None:
        """What the last event of a migration on this connection said; None when there was none."""
        for message in reversed(self._qmp.events):
            if message["event"] == "MIGRATION" and isinstance(data := message.get("data"), dict):
                return str(data.get("status"))
        return None

    def powered_off(self) -> bool:
        """Whether QEMU has said that the guest ended itself."""
        said = [message.get("data") for message in self._qmp.events if message["event"] == "SHUTDOWN"]
        return any(isinstance(data, dict) and data.get("guest") is True for data in said)

    @property
    def event_count(self) -> int:
        """How many events came on this connection."""
        return len(self._qmp.events)

    async def wait_ended(self, deadline: Deadline) -> bool:
        """Until the connection has ended and all that QEMU had said was read; False when *deadline* passes first."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline.left_s):
                await self._qmp.ended()
                return True
        return False

    def pending_events(self) -> list[QmpEvent]:
        """The events that have come and were not looked at yet."""
        seen, self._looked_at = self._looked_at, self.event_count
        return [self._typed(message) for message in self._qmp.events[seen:]]

    def _typed(self, message: dict[str, Any]) -> QmpEvent:
        data: Any = message.get("data", {})
        time_ns = _time_ns(message)
        event = QmpEvent(str(message["event"]), dict(data) if isinstance(data, dict) else {}, time_ns)
        self._events.emit(
            QmpExchanged(guest=self.guest, host=self.host, qmp_event=event.name, data=event.data, time_ns=time_ns)
        )
        return event

    async def events(self, deadline: Deadline) -> AsyncIterator[QmpEvent]:
        """Events until *deadline*; ends quietly when it passes. Raises QmpError when QEMU goes away."""
        while not deadline.passed:
            try:
                async with asyncio.timeout(deadline.left_s):
                    event = await self.next_event()
            except TimeoutError:
                return
            yield event

    async def wait_event(
        self, name: str, deadline: Deadline, accept: Callable[[QmpEvent], bool] | None = None
    ) -> QmpEvent:
        """The next event called *name*. Raises LimosaError when *deadline* passes."""
        async for event in self.events(deadline):
            if event.name == name and (accept is None or accept(event)):
                return event
        raise LimosaError(f"QEMU of guest {self.guest} on {self.host} did not report {name} in time")

    async def status(self, *, answer_s: float | None = None) -> str:
        """The run state: running, paused, inmigrate, postmigrate, ..."""
        said = await self.execute("query-status", answer_s=answer_s)
        return self._shaped(_RunState, "query-status", said).status

    async def migrate_info(self, *, answer_s: float | None = None) -> MigrateInfo:
        """query-migrate, typed."""
        raw = await self.execute("query-migrate", answer_s=answer_s)
        return msgspec.structs.replace(self._shaped(MigrateInfo, "query-migrate", raw), raw=raw)

    async def objects(self, kind: str) -> list[str]:
        """The ids of the objects of that type (``-object``)."""
        said = await self.execute("qom-list", {"path": "/objects"})
        return [each.name for each in self._shaped(list[_Object], "qom-list", said) if each.type == f"child<{kind}>"]

    async def object_text(self, name: str, key: str) -> str:
        """A property of such an object that is a text."""
        said = await self.execute("qom-get", {"path": f"/objects/{name}", "property": key})
        return self._shaped(str, "qom-get", said)

    async def queue_entries(self, device: str) -> int | None:
        """How many the first queue of the virtio device with that id has; None where QEMU does not tell."""
        asked = {"path": f"/machine/peripheral/{device}/virtio-backend", "queue": 0}
        try:
            said = await self.execute("x-query-virtio-queue-status", asked)
        except QmpError as error:
            if error.error_class not in ("CommandNotFound", "GenericError"):
                raise
            return None
        return self._shaped(_Queue, "x-query-virtio-queue-status", said).vring_num

    async def set_capabilities(self, names: tuple[str, ...]) -> None:
        """Turn these migration capabilities on, and off whatever an earlier migration left on."""
        left = [name for name in await self.capabilities() if name not in names]
        states = [{"capability": name, "state": True} for name in names]
        states += [{"capability": name, "state": False} for name in left]
        await self.execute("migrate-set-capabilities", {"capabilities": states})

    async def capabilities(self) -> list[str]:
        """The migration capabilities that are on."""
        asked = "query-migrate-capabilities"
        known = self._shaped(list[_Capability], asked, await self.execute(asked))
        return [each.capability for each in known if each.state]

    async def parameters(self) -> dict[str, Any]:
        """All migration parameters, as they are set."""
        asked = "query-migrate-parameters"
        return self._shaped(dict[str, Any], asked, await self.execute(asked))

    async def set_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Set migration parameters."""
        if parameters:
            await self.execute("migrate-set-parameters", parameters)

    async def listen_for_migration(self, uri: str) -> None:
        """Target: accept a migration at *uri*."""
        await self.execute("migrate-incoming", {"uri": uri})

    async def migrate(self, uri: str) -> None:
        """Source: begin to migrate to *uri*."""
        await self.execute("migrate", {"uri": uri})

    async def start_post_copy(self) -> None:
        """Source: stop the guest soon and have the target go on without the rest, which follows."""
        await self.execute("migrate-start-postcopy")

    async def pause_post_copy(self) -> None:
        """Either side: give the connection up and keep what there is. Raises QmpError where it is not post-copy."""
        await self.execute("migrate-pause", answer_s=YANK_S, out_of_band=True)

    async def listen_for_recovery(self, uri: str) -> None:
        """Target of a paused post-copy: accept its source again at *uri*."""
        await self.execute("migrate-recover", {"uri": uri}, answer_s=YANK_S, out_of_band=True)

    async def resume_post_copy(self, uri: str) -> None:
        """Source of a paused post-copy: go on sending, to *uri*."""
        await self.execute("migrate", {"uri": uri, "resume": True})

    async def cancel_migration(self) -> None:
        """Source: give the migration up."""
        await self.execute("migrate_cancel")

    async def migration_over(self) -> bool:
        """Whether QEMU is done with its last migration, the connection too: until then it refuses another one.

        A connection that is being made to a host that is cut off hangs on when the migration is cancelled already.
        """
        if (await self.migrate_info()).status not in {"none", *FINAL}:
            return False
        try:
            held = self._shaped(list[_Yankable], "query-yank", await self.execute("query-yank"))
        except QmpError as error:
            if error.error_class != "CommandNotFound":  # before QEMU 6.0
                raise
            return True
        return all(entry.type != "migration" for entry in held)

    async def yank_migration(self) -> bool:
        """Cut the migration's connection, also while QEMU's main loop waits for it; whether QEMU did so."""
        instances = {"instances": [{"type": "migration"}]}
        with contextlib.suppress(QmpError):
            await self.execute("yank", instances, answer_s=YANK_S, out_of_band=True)
            return True
        return False

    async def pause(self) -> None:
        """Stop the guest's processors."""
        await self.execute("stop")

    async def resume(self) -> None:
        """Let the guest's processors run."""
        await self.execute("cont")

    async def announce(self) -> None:
        """Send the guest's MAC into the network, as a target does by itself, so that switches learn its place."""
        await self.execute("announce-self", _ANNOUNCED)

    async def press_power_button(self) -> None:
        """Ask the guest to shut down."""
        await self.execute("system_powerdown")

    async def quit(self) -> None:
        """End QEMU."""
        with contextlib.suppress(QmpError):  # it may be gone before it answers
            await self.execute("quit")


def _time_ns(message: dict[str, Any]) -> int:
    try:
        stamp = untrusted.convert(message.get("timestamp", {}), _Stamp)
    except msgspec.ValidationError:
        return 0
    return stamp.seconds * 1_000_000_000 + stamp.microseconds * 1000
