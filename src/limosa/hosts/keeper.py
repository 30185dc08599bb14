"""The first process (pid 1) of a namespace host: starts what it is asked to, reaps, and ends everything when it ends.

Run by path with ``python3 -I -S``; standard library only, so that it starts in about 20 ms and stays small.
It listens on ``/run/limosa/keeper.sock`` inside its own mount namespace, on a tmpfs that vanishes with it:
no socket or pid file can be left behind, however the host ends.

A request is one line of JSON, sent with up to eight file descriptors: ``{"do": "start", "argv": [...], "env": {...},
"keep": bool, "log": path}``. The descriptors become 0, 1, 2, ... of the process. Answers are lines of JSON:
``{"pid": n}`` or ``{"error": text, "errno": n}``, later ``{"exit": status}``. Unless ``keep`` is set, the process
group is killed when the requester hangs up, so nothing outlives a controller that was itself killed.
"""

import argparse
import array
import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

RUN = "/run/limosa"
SOCKET = f"{RUN}/keeper.sock"
MAX_REQUEST_BYTES = 1 << 20
MAX_DESCRIPTORS = 8
MS_BIND = 4096

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2), raising OSError."""
    if _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


class Keeper:
    """One selector loop: the listening socket, its connections, the lifeline, and SIGCHLD."""

    def __init__(self, listener: socket.socket, lifeline: int | None, remove: str) -> None:
        self.listener, self.lifeline, self.remove = listener, lifeline, remove
        self.selector = selectors.DefaultSelector()
        self.connections: dict[int, socket.socket] = {}
        self.kept: dict[int, bool] = {}
        self.wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self.selector.register(listener, selectors.EVENT_READ, self.accept)
        self.selector.register(self.wake_read, selectors.EVENT_READ, self.reap)
        if lifeline is not None:
            self.selector.register(lifeline, selectors.EVENT_READ, self.end)

    def serve(self) -> None:
        """Until the lifeline breaks or a signal ends it."""
        while True:
            for key, _ in self.selector.select():
                key.data(key.fileobj)

    def accept(self, listener: socket.socket) -> None:
        """A new requester."""
        connection, _ = listener.accept()
        connection.setblocking(True)
        self.selector.register(connection, selectors.EVENT_READ, self.request)

    def request(self, connection: socket.socket) -> None:
        """The first bytes of a connection: one request."""
        self.selector.unregister(connection)
        descriptors: list[int] = []
        try:
            asked = self.receive(connection, descriptors)
            pid = self.start(asked, descriptors)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.say(connection, {"error": str(error), "errno": getattr(error, "errno", None) or 0})
            connection.close()
            return
        finally:
            for number in descriptors:
                os.close(number)
        self.say(connection, {"pid": pid})
        self.connections[pid] = connection
        self.kept[pid] = bool(asked.get("keep"))
        self.selector.register(connection, selectors.EVENT_READ, lambda _: self.hang_up(pid))
        self.reap(None)

    def receive(self, connection: socket.socket, descriptors: list[int]) -> dict[str, Any]:
        """Read one request line; the descriptors that came with it are appended to *descriptors*."""
        text = b""
        while not text.endswith(b"\n"):
            room = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
            data, ancillary, _, _ = connection.recvmsg(65536, room)
            for _level, kind, payload in ancillary:
                if kind == socket.SCM_RIGHTS:
                    numbers = array.array("i")
                    numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                    descriptors.extend(numbers)
            if not data or len(text) > MAX_REQUEST_BYTES:
                raise ValueError("no whole request came")
            text += data
        asked: dict[str, Any] = json.loads(text)
        return asked

    def start(self, asked: dict[str, Any], descriptors: list[int]) -> int:
        """Start the process that was asked for; return its pid."""
        if asked.get("log"):
            Path(asked["log"]).parent.mkdir(parents=True, exist_ok=True)
            log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            descriptors[:0] = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), log, os.dup(log)]
        # Move them above the targets first, so that no dup2 overwrites one that is still to be used.
        high = [os.dup(number) for number in descriptors]
        while high and min(high) < len(high):
            high = [os.dup(number) if number < len(high) else number for number in high]
        actions = [(os.POSIX_SPAWN_DUP2, number, place) for place, number in enumerate(high)]
        try:
            return os.posix_spawnp(
                asked["argv"][0],
                asked["argv"],
                asked.get("env", {}),
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD),
            )
        finally:
            for number in high:
                with contextlib.suppress(OSError):
                    os.close(number)

    def hang_up(self, pid: int) -> None:
        """The requester went away before the process ended."""
        connection = self.connections.pop(pid, None)
        if connection is None:
            return
        self.selector.unregister(connection)
        connection.close()
        if not self.kept.pop(pid, False):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def reap(self, _: object) -> None:
        """Collect every child that has ended; orphans are re-parented to pid 1, so to us."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_read, 4096)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self.finished(*ended)

    def finished(self, pid: int, status: int) -> None:
        """Tell the requester how its process ended."""
        self.kept.pop(pid, None)
        connection = self.connections.pop(pid, None)
        if connection is not None:
            self.selector.unregister(connection)
            self.say(connection, {"exit": os.waitstatus_to_exitcode(status)})
            connection.close()

    def say(self, connection: socket.socket, answer: dict[str, Any]) -> None:
        """Answer; a requester that went away is no error."""
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(answer).encode() + b"\n")

    def end(self, _: object) -> None:
        """The controller that this lab was made for is gone: end everything, remove its files, then end."""
        os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        if self.remove:
            shutil.rmtree(self.remove, ignore_errors=True)
        os._exit(0)


def furnish(binds: list[str]) -> None:
    """A private /run for sockets, the shared directories bound into it, and this namespace's own /sys."""
    sources = [(os.open(source, os.O_PATH), target) for source, target in (b.split("=>", 1) for b in binds)]
    mount("limosa", "/run", "tmpfs", data="mode=0755,size=64m")
    Path(RUN).mkdir(mode=0o700)
    for number, target in sources:
        Path(target).mkdir(mode=0o700, parents=True)
        mount(f"/proc/self/fd/{number}", target, flags=MS_BIND)
        os.close(number)
    with contextlib.suppress(OSError):
        mount("sysfs", "/sys", "sysfs")


def main() -> None:
    """Furnish the namespaces, tell the maker that we are ready, then serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lab", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--ready", type=int, required=True, help="descriptor of a connected unix socket")
    parser.add_argument("--lifeline", type=int, help="descriptor whose end of file ends this host")
    parser.add_argument("--remove", default="", help="directory removed when the lifeline breaks")
    parser.add_argument("--bind", action="append", default=[], help="SOURCE=>TARGET")
    options = parser.parse_args()
    os.chdir("/")
    os.umask(0o077)
    ready = socket.socket(fileno=options.ready)
    try:
        socket.sethostname(options.host)
        furnish(options.bind)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(SOCKET)
        listener.listen(64)
        keeper = Keeper(listener, options.lifeline, options.remove)
    except OSError as error:
        ready.sendall(f"{error}\n".encode())
        sys.exit(1)
    # The kernel adds our pid, translated into the receiver's pid namespace.
    ready.sendall(b"ready\n")
    ready.close()
    keeper.serve()


if __name__ == "__main__":
    main()
