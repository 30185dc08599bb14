"""Typed QMP: the few commands that Limosa gives, over the QEMU project's own asyncio library.

Each guest has two monitors: ``control`` is used by whoever commands, ``observe`` by whoever watches, so that a slow
command never blocks a look. A guest with a screen has a third one, ``screen``, for whoever looks at that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal

import msgspec
from qemu.qmp import EventListener, ExecuteError, Message, QMPClient, QMPError, Runstate

from limosa.deadline import Deadline
from limosa.errors import LimosaError, QmpError, StateError
from limosa.events import Events, QmpExchanged
from limosa.hosts.host import Host

# The library logs what it also raises; the person gets the raised one.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)

MigrationStatus = Literal[
    "none", "setup", "cancelling", "cancelled", "active", "postcopy-active", "postcopy-paused",
    "postcopy-recover", "completed", "failed", "colo", "pre-switchover", "device", "wait-unplug",
]  # fmt: skip
Role = Literal["control", "observe", "screen"]
FINAL = ("completed", "failed", "cancelled")

GREETING_S = 10.0
"""How long a monitor may take to greet; it serves one client at a time, so another one may be in the way."""

ANSWER_S = 30.0
"""How long QEMU may take to answer a command: its main loop is held up while a large guest's state is loaded."""


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


class MigrateInfo(msgspec.Struct, frozen=True, rename="kebab"):
    """What query-migrate says, times in ms. ``raw`` holds all of it."""

    status: str = "none"
    ram: Ram | None = None
    """None: QEMU has no figures yet, or none any more."""
    total_time: int | None = None
    setup_time: int | None = None
    downtime: int | None = None
    expected_downtime: int | None = None
    error_desc: str = ""
    socket_address: tuple[dict[str, Any], ...] = ()
    raw: dict[str, Any] = {}


class Monitor(msgspec.Struct):
    """One QMP connection. Made by ``open``; ``close`` is safe at any time."""

    guest: str
    host: str
    role: Role
    _client: QMPClient
    _events: Events
    _listener: EventListener
    _quiet: frozenset[str] = msgspec.field(default=frozenset({"query-migrate"}))

    @classmethod
    async def open(cls, host: Host, path: str, guest: str, events: Events, role: Role) -> Monitor:
        """Connect to the socket *path* of *host*. Raises StateError when QEMU is not there."""
        connection = await host.connect(path)
        client = QMPClient(f"{guest}@{host.name}")
        listener = EventListener()
        client.register_listener(listener)
        try:
            async with asyncio.timeout(GREETING_S):
                await client.connect(connection)
        except (QMPError, TimeoutError) as error:
            connection.close()
            why = str(error) or f"nothing came within {GREETING_S:g} s"
            raise StateError(f"QEMU of guest {guest} on {host.name} does not answer: {why}") from error
        return cls(guest, host.name, role, client, events, listener)

    @property
    def connected(self) -> bool:
        """Whether QEMU is still at the other end."""
        return self._client.runstate is Runstate.RUNNING

    async def close(self) -> None:
        """Hang up; QEMU goes on."""
        with contextlib.suppress(Exception):  # the library raises what ended the connection; that was told before
            await self._client.disconnect()

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Give one command. Raises QmpError when QEMU refuses it, is gone, or does not answer within ANSWER_S."""
        started, given, answer, refusal = time.monotonic(), dict(arguments or {}), None, ""
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._client.execute(command, given or None)
        except TimeoutError as error:
            refusal = "no answer"
            raise QmpError(
                f"QEMU of guest {self.guest} on {self.host} did not answer {command} within {ANSWER_S:g} s",
                error_class="Silent",
            ) from error
        except ExecuteError as error:
            refusal = str(error)
            raise QmpError(f"QEMU on {self.host} refused {command}: {error}", error_class=error.error_class) from error
        except (QMPError, EOFError, OSError) as error:
            refusal = "gone"
            raise QmpError(f"QEMU of guest {self.guest} on {self.host} went away", error_class="Gone") from error
        finally:
            if command not in self._quiet:
                self._tell(command, given, answer, refusal, started)
        return answer

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

    async def next_event(self) -> QmpEvent:
        """The next event of QEMU. Raises QmpError when the connection ends first."""
        get = asyncio.ensure_future(self._listener.get())
        try:
            while not get.done():
                if not self.connected and self._listener.empty():
                    raise QmpError(f"QEMU of guest {self.guest} on {self.host} went away", error_class="Gone")
                changed = asyncio.ensure_future(self._client.runstate_changed())
                try:
                    await asyncio.wait({get, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
            return self._typed(get.result())
        finally:
            get.cancel()

    def moment(self, name: str, since: int = 0) -> int | None:
        """When the last event called *name* came, leaving out the first *since* events of this connection; None when
        it did not. It is known from the moment of arrival, whoever reads the events and whether anybody does."""
        stamps = [_time_ns(message) for message in self._listener.history[since:] if message["event"] == name]
        return stamps[-1] if stamps else None

    @property
    def event_count(self) -> int:
        """How many events came on this connection."""
        return len(self._listener.history)

    async def wait_ended(self, deadline: Deadline) -> bool:
        """Until the connection has ended and all that QEMU had said was read; False when *deadline* passes first."""
        async for _ in deadline.ticks(0.005):
            if not self.connected:
                return True
        return False

    def pending_events(self) -> list[QmpEvent]:
        """The events that have come and were not looked at yet."""
        return [self._typed(message) for message in self._listener.clear()]

    def _typed(self, message: Message) -> QmpEvent:
        data: Any = message.get("data", {})
        time_ns = _time_ns(message)
        event = QmpEvent(str(message["event"]), dict(data), time_ns)
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

    async def status(self) -> str:
        """The run state: running, paused, inmigrate, postmigrate, ..."""
        return str((await self.execute("query-status"))["status"])

    async def migrate_info(self) -> MigrateInfo:
        """query-migrate, typed."""
        raw = await self.execute("query-migrate")
        return msgspec.structs.replace(msgspec.convert(raw, MigrateInfo), raw=raw)

    async def set_capabilities(self, names: tuple[str, ...]) -> None:
        """Turn these migration capabilities on, and off whatever an earlier migration left on."""
        now = await self.execute("query-migrate-capabilities")
        left = [entry["capability"] for entry in now if entry["state"] and entry["capability"] not in names]
        states = [{"capability": name, "state": True} for name in names]
        states += [{"capability": name, "state": False} for name in left]
        await self.execute("migrate-set-capabilities", {"capabilities": states})

    async def capabilities(self) -> list[str]:
        """The migration capabilities that are on."""
        return [str(each["capability"]) for each in await self.execute("query-migrate-capabilities") if each["state"]]

    async def parameters(self) -> dict[str, Any]:
        """All migration parameters, as they are set."""
        return dict(await self.execute("query-migrate-parameters"))

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

    async def cancel_migration(self) -> None:
        """Source: give the migration up."""
        await self.execute("migrate_cancel")

    async def pause(self) -> None:
        """Stop the guest's processors."""
        await self.execute("stop")

    async def resume(self) -> None:
        """Let the guest's processors run."""
        await self.execute("cont")

    async def press_power_button(self) -> None:
        """Ask the guest to shut down."""
        await self.execute("system_powerdown")

    async def quit(self) -> None:
        """End QEMU."""
        with contextlib.suppress(QmpError):  # it may be gone before it answers
            await self.execute("quit")


def _time_ns(message: Message) -> int:
    stamp: Any = message.get("timestamp", {})
    return int(stamp.get("seconds", 0)) * 1_000_000_000 + int(stamp.get("microseconds", 0)) * 1000
