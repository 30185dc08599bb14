"""The client that probes a guest: one process, the standard library, ``python3 -I -S client.py CONFIG``.

It runs in the client's network namespace, apart from the controller, whose work must not be measured. It
hears the guest's ticks, asks for UDP echoes, and keeps one TCP connection on which it asks and waits. Every
arrival is stamped by the kernel (SO_TIMESTAMPNS), so packets can lie in the socket until many are read at once:
few wake-ups, and the moment at which Python runs does not matter.

CONFIG is a JSON object (see ``limosa.probes.session.ClientConfig``). JSON lines on standard input command it:
``{"do": "start"}``, ``{"do": "mark", "name": "..."}``, ``{"do": "status"}``, ``{"do": "stop"}``, and each is
answered by one on standard output. End of file on standard input means stop: the client never outlives its
controller. Samples are appended once a second to ticks.csv, echo.csv and service.csv.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

TICK = struct.Struct("!4sHHQQQ")
"""A guest's tick: magic, version, flags, sequence, guest CLOCK_MONOTONIC ns, guest CLOCK_REALTIME ns."""
TICK_MAGIC, TICK_VERSION = b"LMTK", 1

REQUEST = struct.Struct("!4sHHQQ")
"""An echo's or a request's payload: magic, version, zero, sequence, sent_ns. It comes back unchanged."""
REQUEST_MAGIC, REQUEST_VERSION = b"LMRQ", 1

TIMESPEC = struct.Struct("@qq")
# Linux' numbers (asm-generic/socket.h); Python's socket module does not name them.
SO_RCVBUFFORCE, SO_TIMESTAMPNS, SO_RXQ_OVFL = 33, 35, 40
WANTED_BUFFER_BYTES = 8 << 20
ANCILLARY_BYTES = 128
DRAIN_NS = 50_000_000
"""How long ticks may lie in the socket; the buffer that every process may have holds some 250 of them."""
FLUSH_NS = 1_000_000_000
ECHO_LOST_NS = 10_000_000_000
"""An echo that has not come back after this long is written down as lost."""
SERVICE_TIMEOUT_NS = 60_000_000_000
"""A connection that has been silent for so long with a request open counts as broken."""
CONNECT_TIMEOUT_NS = 3_000_000_000
RECONNECT_NS = 200_000_000
IDLE_S = 0.5
"""Before the start the loop turns this often: a signal alone does not end select()."""


def stamp_of(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """The kernel's receive timestamp in ns (now, when it gave none), and its count of dropped packets."""
    received_ns = drops = 0
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = TIMESPEC.unpack(data)
            received_ns = seconds * 1_000_000_000 + nanoseconds
        elif (level, kind) == (socket.SOL_SOCKET, SO_RXQ_OVFL):
            drops = int.from_bytes(data[:4], sys.byteorder)
    return received_ns or time.time_ns(), drops


def udp_socket() -> socket.socket:
    """A non-blocking UDP socket with kernel timestamps, a count of drops, and a big buffer."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    udp.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    try:
        udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, WANTED_BUFFER_BYTES)
    except PermissionError:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WANTED_BUFFER_BYTES)
    return udp


class Gap:
    """The longest stretch since the beginning and since the last mark, in ns, for the live display."""

    def __init__(self) -> None:
        self.longest_ns = self.since_mark_ns = self.last_ns = 0

    def arrived(self, at_ns: int) -> None:
        """Something arrived: the stretch since the one before has ended."""
        if self.last_ns:
            self.saw(at_ns - self.last_ns)
        self.last_ns = at_ns

    def saw(self, length_ns: int) -> None:
        """A stretch of this length has been."""
        if length_ns > self.since_mark_ns:
            self.since_mark_ns, self.longest_ns = length_ns, max(self.longest_ns, length_ns)

    def report(self) -> dict[str, float | None]:
        """In ms; ``silent_ms`` is the stretch that is still open."""
        silent_ms = (time.time_ns() - self.last_ns) / 1e6 if self.last_ns else None
        longest_ms, since_mark_ms = self.longest_ns / 1e6, self.since_mark_ns / 1e6
        return {"longest_ms": longest_ms, "since_mark_ms": since_mark_ms, "silent_ms": silent_ms}


class Samples:
    """One CSV file, appended to in whole rows; a full disk keeps them in memory, as ``problem`` says."""

    def __init__(self, path: str, columns: str) -> None:
        self.path, self.problem, self._pending = path, "", columns + "\n"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._size = 0
        self.append("")

    def append(self, rows: str) -> None:
        """Write *rows* and what an earlier failure left over."""
        self._pending += rows
        data = self._pending.encode()
        try:
            if os.write(self._fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.problem = f"{self.path}: {error.strerror}"
            # A torn row would make the file unreadable: go back to the last whole one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
            return
        self._size += len(data)
        self._pending = self.problem = ""


class TickReceiver:
    """Takes the guest's ticks out of the socket in batches."""

    def __init__(self, config: dict[str, Any], directory: str) -> None:
        self._udp = udp_socket()
        self._udp.bind((config.get("address", "0.0.0.0"), config["port"]))
        self._source = config.get("source", "")
        self._buffer_bytes = self._udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._rows, self._buffer = array("Q"), bytearray(256)
        self._file = Samples(f"{directory}/ticks.csv", "sequence,guest_monotonic_ns,guest_realtime_ns,received_ns")
        self.gap = Gap()
        self.count = self.foreign = self.drops = self._drops_before = 0

    def forget(self) -> None:
        """What came before the start does not count."""
        self.drain()
        del self._rows[:]
        self.gap, self.count, self.foreign, self._drops_before = Gap(), 0, 0, self.drops

    def drain(self) -> None:
        """Read all that has arrived."""
        receive, buffer, rows, gap = self._udp.recvmsg_into, self._buffer, self._rows, self.gap
        while True:
            try:
                length, ancillary, _flags, address = receive([buffer], ANCILLARY_BYTES)
            except BlockingIOError:
                return
            received_ns, drops = stamp_of(ancillary)
            self.drops = drops or self.drops
            magic, version, _bits, sequence, monotonic_ns, realtime_ns = TICK.unpack_from(buffer)
            ours = length >= TICK.size and magic == TICK_MAGIC and version == TICK_VERSION
            if not ours or (self._source and address[0] != self._source):
                self.foreign += 1
                continue
            rows.extend((sequence, monotonic_ns, realtime_ns, received_ns))
            self.count += 1
            gap.arrived(received_ns)

    def flush(self, everything: bool = False) -> None:
        """Append what is in memory to the file."""
        cells = iter(self._rows)
        text = "".join([f"{a},{b},{c},{d}\n" for a, b, c, d in zip(cells, cells, cells, cells, strict=True)])
        del self._rows[:]
        self._file.append(text)

    def report(self) -> dict[str, Any]:
        """Counts so far."""
        drops = (self.drops - self._drops_before) & 0xFFFFFFFF
        counts = {"count": self.count, "foreign": self.foreign, "kernel_drops": drops}
        return {**counts, "buffer_bytes": self._buffer_bytes, "problem": self._file.problem, **self.gap.report()}


class EchoClient:
    """Sends a datagram at a steady rate and notes when the kernel received its echo."""

    def __init__(self, config: dict[str, Any], directory: str) -> None:
        self._udp = udp_socket()
        self._udp.connect((config["address"], config["port"]))
        self.interval_ns = int(1e9 / config.get("rate_hz", 20.0))
        self._sent, self._received, self._base = array("Q"), array("Q"), 0
        self._buffer = bytearray(256)
        self._file = Samples(f"{directory}/echo.csv", "sequence,sent_ns,received_ns")
        self.gap = Gap()
        self.due_ns = self.answered = self.refused = self.late = self.drops = 0

    def send(self, now_ns: int) -> None:
        """Send one; when sends were missed the schedule moves on, for a burst would disturb."""
        missed = now_ns - self.due_ns > self.interval_ns
        self.due_ns = (now_ns if missed else self.due_ns) + self.interval_ns
        sequence, sent_ns = self._base + len(self._sent), time.time_ns()
        self._sent.append(sent_ns)
        self._received.append(0)
        payload = REQUEST.pack(REQUEST_MAGIC, REQUEST_VERSION, 0, sequence, sent_ns)
        # An earlier datagram's error (port unreachable) is told on the next call, which then sends nothing: so one
        # retry. What cannot be sent is a lost echo, and that is a result.
        for _attempt in range(2):
            try:
                self._udp.send(payload)
                return
            except OSError:
                self.refused += 1

    def drain(self) -> None:
        """Read all that has come back."""
        while True:
            try:
                length, ancillary, _flags, _address = self._udp.recvmsg_into([self._buffer], ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self.refused += 1
                continue
            received_ns, drops = stamp_of(ancillary)
            self.drops = drops or self.drops
            magic, _version, _zero, sequence, _sent_ns = REQUEST.unpack_from(self._buffer)
            index = sequence - self._base
            if length != REQUEST.size or magic != REQUEST_MAGIC or index >= len(self._sent):
                continue
            if index < 0:
                self.late += 1
            elif not self._received[index]:
                self._received[index] = received_ns
                self.answered += 1
                self.gap.arrived(received_ns)

    def flush(self, everything: bool = False) -> None:
        """Append the exchanges that are over: answered, or too old to be answered."""
        old_ns = time.time_ns() - ECHO_LOST_NS
        rows, settled = [], 0
        for sent_ns, received_ns in zip(self._sent, self._received, strict=True):
            if not (received_ns or everything or sent_ns < old_ns):
                break
            rows.append(f"{self._base + settled},{sent_ns},{received_ns or ''}\n")
            settled += 1
        del self._sent[:settled], self._received[:settled]
        self._base += settled
        self._file.append("".join(rows))

    def report(self) -> dict[str, Any]:
        """Counts so far."""
        counts = {"sent": self._base + len(self._sent), "answered": self.answered, "late": self.late}
        errors = {"refused": self.refused, "kernel_drops": self.drops, "problem": self._file.problem}
        return {**counts, **errors, **self.gap.report()}


class ServiceClient:
    """Asks on one TCP connection, waits for the answer, pauses, asks again. A break is a result."""

    def __init__(self, config: dict[str, Any], directory: str) -> None:
        self._address = (config["address"], config["port"])
        self._interval_ns = int(config.get("interval_ms", 50.0) * 1e6)
        self._tcp: socket.socket | None = None
        self.state, self._answer = "closed", b""
        self._sequence = self._sent_ns = self._open_ns = 0
        self._rows: list[str] = []
        self._file = Samples(f"{directory}/service.csv", "sequence,sent_ns,received_ns")
        self.gap, self.last_error = Gap(), ""
        self.due_ns = self.answered = self.connections = self.broken = 0

    @property
    def watched(self) -> list[socket.socket]:
        """The socket, while something is awaited from it."""
        return [self._tcp] if self._tcp and self.state in ("connecting", "waiting") else []

    def act(self, now_ns: int) -> None:
        """What is due: connect, ask, or give up on a connection that has been silent for too long."""
        self._try({"closed": self._connect, "ready": self._ask}.get(self.state, self._give_up), now_ns)

    def ready(self, now_ns: int) -> None:
        """The socket has something to say."""
        self._try(self._connected if self.state == "connecting" else self._receive, now_ns)

    def _try(self, step: Callable[[int], None], now_ns: int) -> None:
        try:
            step(now_ns)
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                self._break(error.strerror or str(error), now_ns)

    def _connect(self, now_ns: int) -> None:
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.state, self.due_ns = "connecting", now_ns + CONNECT_TIMEOUT_NS
        self._tcp.setblocking(False)
        self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tcp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        number = self._tcp.connect_ex(self._address)
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))

    def _connected(self, now_ns: int) -> None:
        assert self._tcp is not None
        number = self._tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        self.connections += 1
        self.state, self.due_ns = "ready", now_ns

    def _ask(self, now_ns: int) -> None:
        assert self._tcp is not None
        self._sent_ns, self._answer = time.time_ns(), b""
        # A request that was lost with its connection keeps its clock running until the next answer.
        self._open_ns = self._open_ns or self._sent_ns
        self.state, self.due_ns = "waiting", now_ns + SERVICE_TIMEOUT_NS
        # These bytes always fit: all earlier ones have been answered.
        self._tcp.send(REQUEST.pack(REQUEST_MAGIC, REQUEST_VERSION, 0, self._sequence, self._sent_ns))

    def _receive(self, now_ns: int) -> None:
        assert self._tcp is not None
        data, ancillary, _flags, _address = self._tcp.recvmsg(REQUEST.size, ANCILLARY_BYTES)
        if not data:
            raise OSError(errno.ECONNRESET, "closed by the guest")
        self._answer += data
        if len(self._answer) >= REQUEST.size:
            self._answered(stamp_of(ancillary)[0], now_ns)

    def _give_up(self, now_ns: int) -> None:
        raise OSError(errno.ETIMEDOUT, "no answer in time")

    def _break(self, reason: str, now_ns: int) -> None:
        if self.state != "connecting":
            self.broken += 1
        if self.state == "waiting":
            self._rows.append(f"{self._sequence},{self._sent_ns},\n")
            self._sequence += 1
        if self._tcp is not None:
            self._tcp.close()
        self._tcp, self.state, self.last_error = None, "closed", reason
        self.due_ns = now_ns + RECONNECT_NS

    def _answered(self, received_ns: int, now_ns: int) -> None:
        self._rows.append(f"{self._sequence},{self._sent_ns},{received_ns}\n")
        self.gap.saw(received_ns - self._open_ns)
        self.gap.last_ns = received_ns
        self._sequence, self._open_ns, self.answered = self._sequence + 1, 0, self.answered + 1
        self.state, self.due_ns = "ready", now_ns + self._interval_ns

    def flush(self, everything: bool = False) -> None:
        """Append what is in memory; at the end the open request too, as unanswered."""
        if everything and self.state == "waiting":
            self._rows.append(f"{self._sequence},{self._sent_ns},\n")
            self.state, self._sequence = "ready", self._sequence + 1
        self._file.append("".join(self._rows))
        self._rows.clear()

    def report(self) -> dict[str, Any]:
        """Counts so far."""
        waiting, connected = self.state == "waiting", self.state in ("ready", "waiting")
        counts = {"sent": self._sequence + waiting, "answered": self.answered, "connected": connected}
        errors = {"broken": self.broken, "last_error": self.last_error, "problem": self._file.problem}
        return {**counts, "connections": self.connections, **errors, **self.gap.report()}


class Client:
    """The loop that joins the three probes and the controller's commands."""

    def __init__(self, config: dict[str, Any]) -> None:
        directory = config["directory"]
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103 (pathlib would double the start-up time)
        tick, echo, service = config.get("tick"), config.get("echo"), config.get("service")
        self.tick = TickReceiver(tick, directory) if tick else None
        self.echo = EchoClient(echo, directory) if echo else None
        self.service = ServiceClient(service, directory) if service else None
        self._probes = [probe for probe in (self.tick, self.echo, self.service) if probe]
        self._commands, self._running, self._ended, self._cpu_started_s = b"", False, False, 0.0
        self._drain_ns = self._flush_ns = self._started_ns = self._wakeups = 0

    def run(self) -> None:
        """Serve until told to stop, until the controller is gone, or until SIGTERM."""
        self.say(did="ready")
        while not self._ended:
            self._wait()
            if self._running:
                self._work(time.monotonic_ns())

    def say(self, **message: object) -> None:
        """One line to the controller; one that has gone is noticed by its end of the other pipe."""
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(message).encode() + b"\n")

    def end(self, *_signal: object) -> None:
        """Leave the loop at the next chance."""
        self._ended = True

    def _wait(self) -> None:
        waiting_s = IDLE_S
        if self._running:
            due_ns = [self._drain_ns, self._flush_ns, *(p.due_ns for p in (self.echo, self.service) if p)]
            waiting_s = max(0.0, (min(due_ns) - time.monotonic_ns()) / 1e9)
        watched = self.service.watched if self.service else []
        reading: list[Any] = [0, *watched]
        writing = watched if self.service and self.service.state == "connecting" else []
        readable, writable, _ = select.select(reading, writing, [], waiting_s)
        self._wakeups += 1
        if self.service and (writable or (readable and readable != [0])):
            self.service.ready(time.monotonic_ns())
        if 0 in readable:
            self._read_commands()

    def _work(self, now_ns: int) -> None:
        if self.echo and now_ns >= self.echo.due_ns:
            self.echo.send(now_ns)
        if self.service and now_ns >= self.service.due_ns:
            self.service.act(now_ns)
        # Awake anyway: reading a little early saves a wake-up of its own.
        if now_ns >= self._drain_ns - DRAIN_NS // 2:
            self._drain()
            self._drain_ns = now_ns + DRAIN_NS
        if now_ns >= self._flush_ns:
            self._flush_ns = now_ns + FLUSH_NS
            self._flush()

    def _drain(self) -> None:
        if self.tick:
            self.tick.drain()
        if self.echo:
            self.echo.drain()

    def _flush(self, everything: bool = False) -> None:
        for probe in self._probes:
            probe.flush(everything)

    def _read_commands(self) -> None:
        data = os.read(0, 65536)
        self._ended = self._ended or not data
        *lines, self._commands = (self._commands + data).split(b"\n")
        for line in lines:
            try:
                command = json.loads(line)
                self._do(command["do"], command)
            except (ValueError, KeyError, TypeError):
                self.say(did="error", error=f"not a command: {line.decode(errors='replace')}")

    def _do(self, verb: str, command: dict[str, Any]) -> None:
        if verb == "start" and not self._running:
            self._start()
            self.say(did="start", time_ns=time.time_ns())
        elif verb == "mark":
            self._drain()
            for probe in self._probes:
                probe.gap.since_mark_ns = 0
            self.say(did="mark", name=command.get("name", ""), time_ns=time.time_ns())
        elif verb == "status":
            self._drain()
            self.say(did="status", **self.report())
        elif verb == "stop":
            self.end()
        else:
            self.say(did="error", error=f"cannot do {verb!r} now")

    def _start(self) -> None:
        if self.tick:
            self.tick.forget()
        self._started_ns, self._cpu_started_s = time.monotonic_ns(), time.process_time()
        self._running, self._flush_ns = True, self._started_ns + FLUSH_NS

    def report(self) -> dict[str, Any]:
        """Everything that is known so far."""
        wall_s = (time.monotonic_ns() - self._started_ns) / 1e9 if self._running else 0.0
        cpu_s = time.process_time() - self._cpu_started_s
        own = {"time_ns": time.time_ns(), "wall_s": wall_s, "cpu_s": cpu_s, "wakeups": self._wakeups}
        named = {"tick": self.tick, "echo": self.echo, "service": self.service}
        return own | {name: probe.report() for name, probe in named.items() if probe}

    def close(self) -> None:
        """Write what is left and say the last word."""
        if self._running:
            self._drain()
        self._flush(everything=True)
        self.say(did="stop", **self.report())


def main() -> None:
    """Run one client; what keeps it from starting is one JSON line on standard error."""
    gc.disable()
    try:
        client = Client(json.loads(sys.argv[1]))
    except (OSError, ValueError, KeyError, IndexError) as error:
        sys.exit(json.dumps({"did": "error", "error": f"{type(error).__name__}: {error}"}))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, client.end)
    try:
        client.run()
    finally:
        client.close()


if __name__ == "__main__":
    main()
