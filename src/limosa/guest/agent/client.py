"""The client of the guest agent: one request and one reply at a time, as JSON lines over a byte stream.

The stream may still carry what was meant for an earlier client (after a migration, above all): replies with
foreign ids and broken lines are passed over, and the first line sent is empty, to end what another began.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import socket
from typing import Any, TypeVar

import msgspec

from limosa import untrusted
from limosa.deadline import Deadline
from limosa.errors import BusyError, LimosaError, MachineError, StateError
from limosa.guest.agent.answers import (
    Clock,
    CpuRead,
    CpuSample,
    CpuSamples,
    CpuStarted,
    DiskStatus,
    DiskVerdict,
    EchoStarted,
    EchoStatus,
    Hello,
    MemoryCounters,
    MemoryStatus,
    MemoryVerdict,
    RegionChecksum,
    TicksStatus,
)

PORT_NAME = "org.limosa.agent.0"
"""The name of the virtio-serial port where the agent listens."""

CALL_LIMIT_S = 10.0
VERIFY_LIMIT_S = 300.0
"""Reading all of a working set or a file takes as long as it is large, and longer without KVM."""

HELLO_LIMIT_S = 1.0
_ID_MOST = (1 << 53) - 1
_LINE_LIMIT_BYTES = 1 << 20
_KINDS: dict[str, type[LimosaError]] = {"busy": BusyError, "state": StateError, "machine": MachineError}

_T = TypeVar("_T")


class AgentClient:
    """Talks to one agent. Calls may come from several tasks; they are served one after the other.

    Every method raises LimosaError when the agent does not answer in time or refuses (BusyError, StateError
    and MachineError by the cause), and StateError when the connection is closed.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()
        # Random, so that a late reply to an earlier client is not taken for ours; JSON numbers keep 53 bits.
        self._id = secrets.randbits(52)

    @classmethod
    async def open(cls, sock: socket.socket) -> AgentClient:
        """Take over *sock*, connected and AF_UNIX: QEMU's character device, or the agent's own socket."""
        sock.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_LINE_LIMIT_BYTES)
        writer.write(b"\n")
        return cls(reader, writer)

    async def close(self) -> None:
        """Close the connection; the agent goes on with what it was told to do."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def call(self, do: str, *, limit_s: float = CALL_LIMIT_S, **arguments: Any) -> dict[str, Any]:
        """Send the command *do* and return the fields of its reply; *limit_s* is how long it may take."""
        deadline = Deadline.after(limit_s)
        try:
            async with asyncio.timeout(deadline.left_s), self._turn:
                self._id = self._id % _ID_MOST + 1
                request = {"id": self._id, "do": do, **arguments}
                self._writer.write(msgspec.json.encode(request) + b"\n")
                await self._writer.drain()
                reply = await self._reply(self._id)
        except TimeoutError as error:
            raise LimosaError(
                f"the guest agent did not answer {do} within {limit_s:g} s",
                hint="is the guest running, and limosa-agent in it? its console log tells",
            ) from error
        except (OSError, asyncio.IncompleteReadError) as error:
            raise StateError(
                f"the connection to the guest agent was closed during {do}",
                hint="the guest stopped or moved: connect again where it runs now",
            ) from error
        return _checked(do, reply)

    async def _reply(self, request_id: int) -> dict[str, Any]:
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
                reply = untrusted.decode(line)
            except asyncio.LimitOverrunError as error:
                await self._reader.readexactly(error.consumed)
                continue
            except msgspec.DecodeError:
                continue
            if isinstance(reply, dict) and reply.get("id") == request_id:
                return reply

    async def _typed(self, kind: type[_T], do: str, *, limit_s: float = CALL_LIMIT_S, **arguments: Any) -> _T:
        reply = await self.call(do, limit_s=limit_s, **arguments)
        try:
            return msgspec.convert(reply, kind)
        except msgspec.ValidationError as error:
            raise LimosaError(
                f"the guest agent's answer to {do} is not understood: {error}",
                hint="the guest has another version of the agent: build its image again",
            ) from error

    async def hello(self, *, limit_s: float = CALL_LIMIT_S) -> Hello:
        """Who is there."""
        return await self._typed(Hello, "hello", limit_s=limit_s)

    async def wait_ready(self, deadline: Deadline) -> Hello:
        """Ask until the agent answers, as the guest may be booting; LimosaError when *deadline* passes."""
        while True:
            try:
                return await self.hello(limit_s=min(HELLO_LIMIT_S, deadline.left_s))
            except LimosaError as error:
                if isinstance(error, StateError) or deadline.passed:
                    raise

    async def clock(self) -> Clock:
        """Read the guest's clocks."""
        return await self._typed(Clock, "clock")

    async def ticks_start(self, address: str, port: int, *, interval_us: int = 1000) -> None:
        """Send a tick to *address* (an IP address) and *port* every *interval_us* microseconds."""
        await self.call("ticks.start", address=address, port=port, interval_us=interval_us)

    async def ticks_status(self) -> TicksStatus:
        """How many ticks were sent."""
        return await self._typed(TicksStatus, "ticks.status")

    async def ticks_stop(self) -> TicksStatus:
        """Stop sending ticks; not an error when none are sent."""
        return await self._typed(TicksStatus, "ticks.stop")

    async def echo_start(self, port: int = 7007) -> int:
        """Echo datagrams and TCP streams on *port* (0: a free one); returns the port."""
        return (await self._typed(EchoStarted, "echo.start", port=port)).port

    async def echo_status(self) -> EchoStatus:
        """What was echoed."""
        return await self._typed(EchoStatus, "echo.status")

    async def echo_stop(self) -> EchoStatus:
        """Stop echoing and close all connections."""
        return await self._typed(EchoStatus, "echo.stop")

    async def memory_start(
        self,
        working_set_bytes: int,
        *,
        rate_bytes_per_s: int = 0,
        pattern: str = "uniform",
        zipf_s: float = 1.1,
        compressibility: float = 0.0,
        seed: int = 1,
    ) -> None:
        """Fill a working set, then write whole pages of it at a rate (0: as fast as possible).

        *pattern* is sequential, uniform or zipf (with exponent *zipf_s*); *compressibility* is the share of
        each page, 0 to 1, that is constant.
        """
        await self.call(
            "memory.start",
            working_set_bytes=working_set_bytes,
            rate_bytes_per_s=rate_bytes_per_s,
            pattern=pattern,
            zipf_s=zipf_s,
            compressibility=compressibility,
            seed=seed,
        )

    async def memory_status(self) -> MemoryStatus:
        """How much was written, and how fast."""
        return await self._typed(MemoryStatus, "memory.status")

    async def wait_memory_filled(self, deadline: Deadline) -> MemoryStatus:
        """Wait until the working set is filled and the writing proper has begun."""
        async for _ in deadline.ticks(0.05):
            status = await self.memory_status()
            if status.phase != "filling":
                return status
        raise LimosaError(
            "the guest's memory writer did not fill its working set in time",
            hint="give it more time or a smaller working set",
        )

    async def memory_stop(self, *, release: bool = False) -> MemoryStatus:
        """Stop writing; the working set stays for ``memory_verify`` unless *release*."""
        return await self._typed(MemoryStatus, "memory.stop", release=release)

    async def memory_verify(self, *, limit_s: float = VERIFY_LIMIT_S) -> MemoryVerdict:
        """Check every page of the working set; the writer stands still meanwhile."""
        return await self._typed(MemoryVerdict, "memory.verify", limit_s=limit_s)

    async def memory_counters(self, *, first: int = 0, count: int = 4096) -> list[int]:
        """How often each of *count* pages (at most 4096) from *first* on was written."""
        return (await self._typed(MemoryCounters, "memory.counters", first=first, count=count)).counters

    async def memory_corrupt(self, page: int, *, how: str = "flip") -> None:
        """Damage a page on purpose, to test the check: ``flip`` a bit, or make it ``stale``, a write old."""
        await self.call("memory.corrupt", page=page, how=how)

    async def region_fill(
        self, region: str, size_bytes: int, *, seed: int = 1, limit_s: float = VERIFY_LIMIT_S
    ) -> RegionChecksum:
        """Take memory under the name *region* and fill it from *seed*; nobody writes it afterwards."""
        return await self._typed(
            RegionChecksum, "region.fill", limit_s=limit_s, region=region, bytes=size_bytes, seed=seed
        )

    async def region_checksum(self, region: str, *, limit_s: float = VERIFY_LIMIT_S) -> RegionChecksum:
        """Hash a region as it is now."""
        return await self._typed(RegionChecksum, "region.checksum", limit_s=limit_s, region=region)

    async def region_release(self, region: str) -> None:
        """Give the memory back."""
        await self.call("region.release", region=region)

    async def disk_start(
        self,
        path: str,
        *,
        rate_per_s: float = 50.0,
        block_bytes: int = 4096,
        size_blocks: int = 16384,
        sync: bool = True,
        seed: int = 1,
    ) -> None:
        """Write records to a new file *path* in the guest, *rate_per_s* of them (0: as fast as possible).

        *size_blocks* is the ring after which the oldest is overwritten (0: the file grows). With *sync* a
        record is acknowledged only after fdatasync().
        """
        await self.call(
            "disk.start",
            path=path,
            rate_per_s=rate_per_s,
            block_bytes=block_bytes,
            size_blocks=size_blocks,
            sync=sync,
            seed=seed,
        )

    async def disk_status(self) -> DiskStatus:
        """What is safe on the disk."""
        return await self._typed(DiskStatus, "disk.status")

    async def disk_stop(self, *, remove: str = "", limit_s: float = VERIFY_LIMIT_S) -> DiskStatus:
        """Stop after the record that is being written; a stuck disk holds this up.

        The file *remove* goes too, if it is the one that was written last.
        """
        return await self._typed(DiskStatus, "disk.stop", limit_s=limit_s, remove=remove)

    async def disk_verify(
        self,
        path: str | None = None,
        *,
        block_bytes: int | None = None,
        acknowledged: int = 0,
        limit_s: float = VERIFY_LIMIT_S,
    ) -> DiskVerdict:
        """Read the file again (None: the one written last) and check every record up to the acknowledged one.

        After a restart of the agent it no longer knows what it had acknowledged: give *acknowledged* then.
        """
        arguments = {"path": path, "block_bytes": block_bytes}
        given = {name: value for name, value in arguments.items() if value is not None}
        return await self._typed(DiskVerdict, "disk.verify", limit_s=limit_s, acknowledged=acknowledged, **given)

    async def cpu_start(self, *, interval_ms: int = 20, loop_events: int = 0, duty: float = 0.05) -> int:
        """Time a fixed piece of work every *interval_ms*; returns its size in events.

        *loop_events* 0 calibrates it once to 1 ms, or to the share *duty* of the interval if that is less.
        """
        started = await self._typed(
            CpuStarted, "cpu.start", interval_ms=interval_ms, loop_events=loop_events, duty=duty
        )
        return started.loop_events

    async def cpu_read(self, after: int = 0) -> CpuSamples:
        """Samples with an index above *after*, at most 480 of them; ask again until ``last`` is reached."""
        read = await self._typed(CpuRead, "cpu.read", after=after)
        samples = tuple(CpuSample(*row) for row in read.samples)
        indices = [after, *(sample.index for sample in samples)]
        if any(later <= before for before, later in itertools.pairwise(indices)):
            raise LimosaError("the guest agent's answer to cpu.read is not understood: its samples are out of order")
        return CpuSamples(read.running, read.last, read.lost, read.missed, samples)

    async def cpu_stop(self) -> None:
        """Stop sampling; the samples can still be read."""
        await self.call("cpu.stop")

    async def quit(self) -> None:
        """End an agent that runs as an ordinary process; that of a guest refuses."""
        await self.call("quit")


def _checked(do: str, reply: dict[str, Any]) -> dict[str, Any]:
    if reply.get("ok") is True:
        return reply
    kind, error = reply.get("kind"), reply.get("error")
    why = error if isinstance(error, str) else "it gave no reason"
    raise _KINDS.get(kind if isinstance(kind, str) else "", LimosaError)(f"the guest agent refused {do}: {why[:500]}")
