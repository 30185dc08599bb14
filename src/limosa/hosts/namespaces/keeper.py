"""The first process (pid 1) of a namespace host: starts what it is asked to, reaps, and ends everything when it ends.

Run by path with ``python3 -I -S``; standard library only, so that it starts in about 20 ms and stays small.
It listens on ``/run/limosa/keeper.sock`` inside its own mount namespace, on a tmpfs that vanishes with it:
no socket or pid file can be left behind, however the host ends.

A request is one line of JSON, sent with up to eight file descriptors: ``{"do": "start", "argv": [...], "env": {...},
"keep": bool, "log": path}``. The descriptors become 0, 1, 2, ... of the process. Answers are lines of JSON:
``{"pid": n}`` or ``{"error": text, "errno": n}``, later ``{"exit": status}``. Unless ``keep`` is set, the process
group is killed when the requester hangs up, so nothing outlives a controller that was itself killed. When this process
ends the whole host ends, so nothing that comes over the socket may end it or hold it up.
"""

import argparse
import array
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

RUN = "/run/limosa"
SOCKET = f"{RUN}/keeper.sock"
MAX_REQUEST_BYTES = 8 << 20
"""Above what the kernel takes as arguments and environment (execve(2): a quarter of the stack limit, so 2 MiB)."""
MAX_DESCRIPTORS = 8
REQUEST_S = 30.0
"""How long a requester may take to say what it wants."""
PAUSE_S = 0.1
"""How long nobody is accepted when descriptors have run out."""
DEFAULT_SIGNALS = tuple(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP})
"""What a new process handles as the system does: Python itself ignores SIGPIPE and SIGXFSZ, and that is inherited."""
MS_BIND = 4096

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2), raising OSError."""
    if _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


class Requester:
    """A connection: first a request comes in, piece by piece; then it stands for the process that was started."""

    __slots__ = ("descriptors", "keep", "pid", "since_s", "socket", "text")

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self.text, self.descriptors = connection, b"", list[int]()
        self.pid, self.keep, self.since_s = 0, False, time.monotonic()

    def receive(self) -> bool:
        """Take what has come; whether the request is whole. Raises EOFError when the other side is gone, ValueError."""
        room = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
        # Close-on-exec, or each process would inherit further ends of its own pipes, which then never end.
        data, ancillary, flags, _ = self.socket.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
        for _level, kind, payload in ancillary:
            if kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self.descriptors.extend(numbers)
        if flags & socket.MSG_CTRUNC or len(self.descriptors) > MAX_DESCRIPTORS:
            raise ValueError("descriptors of the request were too many, or got lost")
        if not data:
            raise EOFError
        self.text += data
        if len(self.text) > MAX_REQUEST_BYTES:
            raise ValueError("the request is too long")
        return self.text.endswith(b"\n")

    def say(self, answer: dict[str, Any]) -> None:
        """Answer; a requester that went away, or that does not listen, is no error."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(answer).encode() + b"\n")

    def drop_descriptors(self) -> None:
        """Close what came with the request."""
        while self.descriptors:
            os.close(self.descriptors.pop())


class Keeper:
    """One selector loop that never waits for any single requester: whoever says nothing, or nonsense, is dropped."""

    def __init__(self, listener: socket.socket, lifeline: int | None, remove: tuple[int, str] | None) -> None:
        self.listener, self.remove = listener, remove
        self.selector = selectors.DefaultSelector()
        self.waiting: set[Requester] = set()
        self.started: dict[int, Requester] = {}
        self.paused = False
        self.wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, self.accept)
        self.selector.register(self.wake_read, selectors.EVENT_READ, self.reap)
        if lifeline is not None:
            self.selector.register(lifeline, selectors.EVENT_READ, self.end)

    def serve(self) -> None:
        """Until the lifeline breaks or a signal ends it."""
        while True:
            ready = self.selector.select(PAUSE_S if self.paused else 1.0 if self.waiting else None)
            self.resume()
            for key, _ in ready:
                key.data()
            for requester in [r for r in self.waiting if time.monotonic() - r.since_s > REQUEST_S]:
                self.drop(requester)

    def accept(self) -> None:
        """A new requester. Without a free descriptor it has to wait until another one has gone."""
        try:
            connection, _ = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError:
            self.selector.unregister(self.listener)
            self.paused = True
            return
        connection.setblocking(False)
        requester = Requester(connection)
        self.waiting.add(requester)
        self.selector.register(connection, selectors.EVENT_READ, lambda: self.readable(requester))

    def resume(self) -> None:
        """Listen again."""
        if self.paused:
            self.paused = False
            self.selector.register(self.listener, selectors.EVENT_READ, self.accept)

    def readable(self, requester: Requester) -> None:
        """A piece of the request; after that, only the hang-up is of interest."""
        try:
            if requester.pid:
                if not requester.socket.recv(65536):
                    self.hang_up(requester)
            elif requester in self.waiting and requester.receive():
                self.perform(requester)
        except BlockingIOError:
            return
        except (EOFError, ConnectionError):
            self.hang_up(requester)
        except Exception as error:  # this is pid 1: whatever it is told, it must not end of it
            requester.say({"error": getattr(error, "strerror", None) or str(error), "errno": _number(error)})
            self.drop(requester)

    def perform(self, requester: Requester) -> None:
        """Do what a whole request asks for."""
        asked = json.loads(requester.text)
        requester.text = b""
        keep = bool(asked.get("keep"))
        try:
            pid = self.start(asked, requester.descriptors)
        finally:
            requester.drop_descriptors()
        requester.pid, requester.keep = pid, keep
        self.waiting.discard(requester)
        self.started[pid] = requester
        requester.say({"pid": pid})

    def start(self, asked: dict[str, Any], descriptors: list[int]) -> int:
        """Start the process that was asked for; return its pid."""
        argv, env = asked["argv"], asked.get("env", {})
        program = _found(argv[0], env.get("PATH", os.defpath))
        if asked.get("log"):
            Path(asked["log"]).parent.mkdir(parents=True, exist_ok=True)
            descriptors.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            descriptors.append(os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
            descriptors[:] = [*descriptors[-2:], os.dup(descriptors[-1]), *descriptors[:-2]]
        high: list[int] = []
        try:
            # Move them above the targets first, so that no dup2 overwrites one that is still to be used.
            for number in descriptors:
                high.append(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 2 * MAX_DESCRIPTORS))
            actions = [(os.POSIX_SPAWN_DUP2, number, place) for place, number in enumerate(high)]
            return os.posix_spawn(
                program, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=DEFAULT_SIGNALS
            )
        finally:
            for number in high:
                os.close(number)

    def hang_up(self, requester: Requester) -> None:
        """The requester went away, perhaps before its process ended."""
        if requester.pid and not requester.keep:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(requester.pid, signal.SIGKILL)
        self.drop(requester)

    def drop(self, requester: Requester) -> None:
        """Have no more to do with it; more than once is no error."""
        self.waiting.discard(requester)
        self.started.pop(requester.pid, None)
        requester.drop_descriptors()
        if requester.socket.fileno() >= 0:
            self.selector.unregister(requester.socket)
            requester.socket.close()

    def reap(self) -> None:
        """Collect every child that has ended; orphans are re-parented to pid 1, so to us."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_read, 4096)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self.finished(*ended)

    def finished(self, pid: int, status: int) -> None:
        """Tell the requester how its process ended."""
        requester = self.started.get(pid)
        if requester is not None:
            requester.say({"exit": os.waitstatus_to_exitcode(status)})
            self.drop(requester)

    def end(self) -> None:
        """The controller that this lab was made for is gone: end everything, remove its files, then end."""
        with contextlib.suppress(ProcessLookupError):  # nothing else runs here
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        if self.remove:
            folder, name = self.remove
            shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
        os._exit(0)


def _number(error: Exception) -> int:
    return getattr(error, "errno", None) or 0


def _found(program: str, path: str) -> str:
    """The file to execute, by the PATH of the process that is to be, not by our own."""
    if not isinstance(program, str) or not program:
        raise ValueError("there is no program to start")
    found = program if "/" in program else shutil.which(program, path=path)
    if not found or not Path(found).exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return found


def furnish(binds: list[list[str]]) -> None:
    """A private /run for sockets, the shared directories bound into it, and this namespace's own /sys."""
    sources = [(os.open(source, os.O_PATH), target) for source, target in binds]
    mount("limosa", "/run", "tmpfs", data="mode=0755,size=64m")
    Path(RUN).mkdir(mode=0o700)
    for number, target in sources:
        Path(target).mkdir(mode=0o700, parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{number}", target, flags=MS_BIND)
        os.close(number)
    with contextlib.suppress(OSError):
        mount("sysfs", "/sys", "sysfs")


def _folder(path: str) -> tuple[int, str]:
    """What is to be removed, by its parent's descriptor: it may be in the /run that ``furnish`` covers."""
    return os.open(Path(path).parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), Path(path).name


def close_others(kept: set[int]) -> None:
    """Close what was inherited from whoever made the lab: a pipe held here would hold up its reader for ever."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own descriptor
                os.close(int(name))


def main() -> None:
    """Furnish the namespaces, tell the maker that we are ready, then serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lab", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--ready", type=int, required=True, help="descriptor of a connected unix socket")
    parser.add_argument("--lifeline", type=int, help="descriptor whose end of file ends this host")
    parser.add_argument("--hold", type=int, help="descriptor that is kept open for the lock that it holds")
    parser.add_argument("--remove", default="", help="directory removed when the lifeline breaks")
    parser.add_argument("--bind", action="append", nargs=2, default=[], metavar=("SOURCE", "TARGET"))
    options = parser.parse_args()
    kept = {number for number in (options.ready, options.lifeline, options.hold) if number is not None}
    close_others(kept)
    os.chdir("/")
    os.umask(0o077)
    ready = socket.socket(fileno=options.ready)
    for number in kept:
        os.set_inheritable(number, False)
    try:
        socket.sethostname(options.host)
        remove = _folder(options.remove) if options.remove else None
        furnish(options.bind)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(SOCKET)
        listener.listen(4096)  # the kernel lowers it to its net.core.somaxconn
        keeper = Keeper(listener, options.lifeline, remove)
    except OSError as error:
        ready.sendall(f"{error}\n".encode())
        sys.exit(1)
    # The kernel adds our pid, translated into the receiver's pid namespace.
    ready.sendall(b"ready\n")
    ready.close()
    keeper.serve()


if __name__ == "__main__":
    main()
