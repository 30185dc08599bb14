"""The far end of a link: a small program on a machine elsewhere that does there what limosa asks.

Standard library only, from Python 3.8 on, because its source is sent over and run by whatever ``python3`` the machine
has; nothing is installed. Standard input and output carry frames: kind, stream, channel and length, then the payload.
A channel is one piece of work: a process with three streams, a connection to a unix socket, a file that comes or goes.
Each stream has a window; who sends waits for credit, so no stream can hold up another and nothing piles up.

When its input ends, whoever commanded it is gone: the process groups of all that was not spawned to be kept are killed.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import platform
import selectors
import signal
import time
from typing import Any

from limosa.hosts.link.far import claims
from limosa.hosts.link.far.channels import Connection, FileIn, FileOut, Process, Source, extents
from limosa.hosts.link.far.frames import ANSWER, CHUNK_BYTES, CLOSE, HEADER, MAGIC, PING, REQUEST
from limosa.hosts.link.far.system import (
    MARK,
    environment,
    found,
    hang_up_sshd,
    kept_words,
    login_directory,
    machine_facts,
    marked,
    start,
    user_name,
)

CONGESTED_BYTES = 2 << 20
"""With so much waiting to be sent, nothing more is read from processes, sockets and files."""


class Service:
    """One selector loop over the link itself and everything that was started."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.channels: dict[int, Any] = {}
        self.processes: dict[int, Process] = {}
        self.lingering: set[Process] = set()
        """What has ended with its output still open."""
        self.suspected: set[Process] = set()
        self.busy: dict[int, FileOut] = {}
        self.sources: set[Source] = set()
        self.input = bytearray()
        self.output: collections.deque[bytes | memoryview] = collections.deque()
        self.waiting_bytes, self.congested, self.writing = 0, False, False
        self.silence_s, self.heard_s = 0.0, time.monotonic()
        self.runtime = ""
        self.wake_read, wake_write = os.pipe()
        os.set_blocking(self.wake_read, False)
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: self.end())
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        os.set_blocking(0, False)
        os.set_blocking(1, False)
        self.selector.register(self.wake_read, selectors.EVENT_READ, self.reap)
        self.selector.register(0, selectors.EVENT_READ, self.receive)
        self._push(MAGIC)

    # -- out --

    def send(self, kind: int, stream: int, channel: int, payload: bytes = b"") -> None:
        """A frame, at once or when there is room."""
        self._push(HEADER.pack(kind, stream, channel, len(payload)) + payload)

    def answer(self, channel: int, said: dict[str, Any]) -> None:
        """An answer to a request."""
        self.send(ANSWER, 0, channel, json.dumps(said).encode())

    def _push(self, data: bytes) -> None:
        self.output.append(data)
        self.waiting_bytes += len(data)
        if self.waiting_bytes > CONGESTED_BYTES and not self.congested:
            self._congest(True)

    def _congest(self, congested: bool) -> None:
        self.congested = congested
        for source in list(self.sources):
            source.watch()

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        try:
            while self.output:
                # Many small frames in one go: each write may become a packet of its own.
                head = self.output.popleft()
                if len(head) < CHUNK_BYTES and self.output:
                    parts, size = [head], len(head)
                    while self.output and size < CHUNK_BYTES:
                        parts.append(self.output.popleft())
                        size += len(parts[-1])
                    head = b"".join(parts)
                try:
                    done = os.write(1, head)
                except BaseException:
                    self.output.appendleft(head)
                    raise
                self.waiting_bytes -= done
                if done < len(head):
                    self.output.appendleft(memoryview(head)[done:])
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.end()
        if self.congested and self.waiting_bytes < CONGESTED_BYTES // 2:
            self._congest(False)
        if bool(self.output) != self.writing:
            self.writing = not self.writing
            if self.writing:
                self.selector.register(1, selectors.EVENT_WRITE, self.flush)
            else:
                self.selector.unregister(1)

    # -- in --

    def receive(self) -> None:
        """Take what has come, frame by frame."""
        try:
            data = os.read(0, 1 << 18)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.end()
        self.heard_s = time.monotonic()
        self.input += data
        place = 0
        while len(self.input) - place >= HEADER.size:
            kind, stream, channel, length = HEADER.unpack_from(self.input, place)
            if len(self.input) - place < HEADER.size + length:
                break
            begin = place + HEADER.size
            place = begin + length
            self.frame(kind, stream, channel, bytes(self.input[begin:place]))
        del self.input[:place]

    def frame(self, kind: int, stream: int, channel: int, payload: bytes) -> None:
        """Act on one frame. What goes wrong is told and ends that channel only."""
        try:
            if kind == PING:
                self.send(PING, 0, 0)
            elif kind == REQUEST:
                self.request(channel, json.loads(payload.decode()))
            elif kind == CLOSE:
                gone = self.channels.pop(channel, None)
                if gone is not None:
                    gone.close()
            elif channel in self.channels:
                self.channels[channel].take(kind, stream, payload)
        except Exception as error:  # one request must never end the others
            text = getattr(error, "strerror", None) or str(error)
            self.answer(channel, {"error": text, "errno": getattr(error, "errno", None) or 0})
            gone = self.channels.pop(channel, None)
            if gone is not None:
                gone.close()

    def request(self, channel: int, asked: dict[str, Any]) -> None:
        """Begin what is asked for."""
        made: dict[str, Any] = {"run": Process, "connect": Connection, "read": FileOut, "write": FileIn}
        if asked["do"] in made:
            self.channels[channel] = made[asked["do"]](self, channel, asked)
            return
        plain: dict[str, Any] = {
            "begin": self.begin,
            "spawn": self.spawn,
            "facts": lambda _: machine_facts(),
            "extents": lambda a: extents(a["path"]),
            "marked": lambda a: {"marked": marked(a["runtime"])},
            "signal": self.signal_marked,
            "settle": self.settle,
            "look": lambda a: claims.look(a["lab"], a["owner"]),
            "claim": lambda a: claims.claim(a["lab"], a["owner"], a["host"], a["by"]),
            "release": lambda a: claims.release(a["lab"], a["owner"]),
        }
        self.answer(channel, plain[asked["do"]](asked))

    def begin(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The first request: how long silence is borne. Says who and where this is."""
        self.silence_s, self.runtime = asked["silence_s"], asked["runtime"]
        return {
            "uid": os.geteuid(),
            "user": user_name(),
            "pid": os.getpid(),
            "python": platform.python_version(),
        }

    def settle(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The runtime directory, once it is known."""
        self.runtime = asked["runtime"]
        return {}

    def spawn(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Start what outlives this link."""
        env = environment(asked.get("env") or {})
        if self.runtime:
            env[MARK] = self.runtime
        words = asked["argv"]
        found(words[0], env["PATH"])
        os.makedirs(os.path.dirname(asked["log"]) or ".", exist_ok=True)  # noqa: PTH103, PTH120
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            words = kept_words(words)
            if words[0] == "systemd-run" and "--user" in words:
                env.setdefault("XDG_RUNTIME_DIR", login_directory())
            return {"pid": start(asked, [nothing, log, log], env, words)}
        finally:
            os.close(log)
            os.close(nothing)

    def signal_marked(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Send a signal to all that the lab spawned here; say who it was."""
        those = marked(asked["runtime"])
        for pid, _ in those:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, asked["signal"])
        return {"marked": those}

    # -- life --

    def reap(self) -> None:
        """Collect every child that has ended."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_read, 4096)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                process = self.processes.pop(pid, None)
                if process is not None:
                    process.exited(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))

    def serve(self) -> None:
        """Until the input ends, or says nothing for too long."""
        while True:
            if self.output and not self.writing:
                self.flush()
            idle = all(file.waits() for file in self.busy.values())
            patience_s = 0.1 if self.lingering else 1.0
            for key, _ in self.selector.select(patience_s if idle else 0):
                key.data()
            self.tell_held()
            for file in list(self.busy.values()):
                try:
                    file.step()
                except OSError as error:
                    self.answer(file.number, {"error": error.strerror, "errno": error.errno})
                    file.close()
                    self.channels.pop(file.number, None)
            if self.silence_s and time.monotonic() - self.heard_s > self.silence_s:
                hang_up_sshd(os.getppid())
                self.end()

    def tell_held(self) -> None:
        """Say of which ended processes the output is held open. Only what stays so after all that was ready was read:
        this loop itself may have been held up."""
        held = {process for process in self.lingering if process.held()}
        for process in held & self.suspected:
            self.answer(process.number, {"held": True})
            self.lingering.discard(process)
        self.suspected = held

    def end(self) -> None:
        """Whoever commands this is gone: end all that was not spawned to be kept, and leave no file half."""
        for channel in self.channels.values():
            if isinstance(channel, FileIn):
                channel.close()
        for process in self.processes.values():
            if process.running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        os._exit(0)


def main() -> None:
    """Serve on standard input and output."""
    os.umask(0o077)
    Service().serve()
