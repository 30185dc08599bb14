"""The keeper, run in this process's namespaces on a socket of the test: nothing that it is told may end or block it."""

from __future__ import annotations

import array
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limosa.hosts.namespaces import first_process, keeper, marks

SERVE = """
import runpy, socket, sys
names = runpy.run_path(sys.argv[1])
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[2])
listener.listen(64)
print("listens", flush=True)
names["Keeper"](listener, None, None).serve()
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lk") as folder:
        path = Path(folder, "k")
        argv = [sys.executable, "-I", "-S", "-c", SERVE, keeper.__file__, str(path)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"listens\n"
            yield path
            assert process.poll() is None, "the keeper is alive after everything that it was told"
            process.kill()


@contextlib.contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        yield connection


def answer(connection: socket.socket) -> dict[str, Any]:
    text = b""
    while not text.endswith(b"\n"):
        if not (data := connection.recv(1)):
            raise EOFError
        text += data
    return dict(json.loads(text))


def works(path: Path) -> None:
    with connected(path) as connection:
        connection.sendall(b'{"argv": ["sh", "-c", "exit 7"], "env": {}}\n')
        assert answer(connection)["pid"] > 1
        assert answer(connection) == {"exit": 7}


GARBAGE = [
    b"\n", b"[]\n", b"null\n", b"7\n", b'"x"\n', b"{}\n", b"{\n", b"\xff\xfe\n", b"\0\n", b"[" * 100_000 + b"\n",
    b'{"argv": []}\n', b'{"argv": "sh"}\n', b'{"argv": [1]}\n', b'{"argv": [""]}\n', b'{"argv": {}}\n',
    b'{"argv": ["sh"], "env": 1}\n', b'{"argv": ["sh"], "env": {"a": 1}}\n',
    b'{"argv": ["a\\u0000b"], "env": {}}\n', b'{"argv": ["\\ud800"], "env": {}}\n', b'{"argv": ["/"], "env": {}}\n',
    b'{"argv": ["true"], "env": {}, "log": "/dev/null/x"}\n', b'{"argv": ["true"], "env": {}, "log": 7}\n',
]  # fmt: skip


@pytest.mark.parametrize("data", GARBAGE, ids=lambda data: repr(data[:30]))
def test_garbage_is_answered_by_an_error(place: Path, data: bytes) -> None:
    with connected(place) as connection:
        connection.sendall(data)
        assert "error" in answer(connection)
        assert connection.recv(1) == b""
    works(place)


def test_random_bytes_do_not_end_it(place: Path) -> None:
    chance = random.Random(4)
    for _ in range(50):
        with connected(place) as connection, contextlib.suppress(OSError):
            connection.sendall(chance.randbytes(chance.randrange(1, 2000)) + b"\n" * chance.randrange(2))
    works(place)


def test_whoever_says_nothing_or_half_blocks_nobody(place: Path) -> None:
    with connected(place), connected(place) as half, connected(place) as slow:
        half.sendall(b'{"argv": ["tr')
        started = time.monotonic()
        works(place)
        assert time.monotonic() - started < 5
        for byte in b'{"argv": ["true"], "env": {}}\n':
            slow.sendall(bytes([byte]))
        assert "pid" in answer(slow)
        assert answer(slow) == {"exit": 0}


def test_too_many_descriptors_are_refused_and_closed(place: Path) -> None:
    with connected(place) as connection:
        request = b'{"argv": ["true"], "env": {}}\n'
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 40))]
        connection.sendmsg([request], rights)
        assert "descriptors" in answer(connection)["error"]
    works(place)


def test_hanging_up_ends_the_process_and_more_words_do_not(place: Path) -> None:
    with connected(place) as connection:
        connection.sendall(b'{"argv": ["sleep", "600"], "env": {"PATH": "/usr/bin:/bin"}}\n')
        pid = answer(connection)["pid"]
        connection.sendall(b"more words\n")
        works(place)
        assert Path(f"/proc/{pid}").exists()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not Path(f"/proc/{pid}").exists()


def test_its_descriptors_do_not_grow(place: Path) -> None:
    with connected(place) as connection:
        connection.sendall(b'{"argv": ["sh", "-c", "exit $(ls /proc/$PPID/fd | wc -l)"], "env": {}}\n')
        answer(connection)
        before = answer(connection)["exit"]
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        for _ in range(30):
            with connected(place) as connection:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [nothing.fileno()] * 5))]
                connection.sendmsg([b'{"argv": ["true"], "env": {}}\n'], rights)
                answer(connection)
                answer(connection)
    with connected(place) as connection:
        connection.sendall(b'{"argv": ["sh", "-c", "exit $(ls /proc/$PPID/fd | wc -l)"], "env": {}}\n')
        answer(connection)
        assert answer(connection)["exit"] <= before + 1


async def test_a_pid_without_the_mark_is_no_keeper() -> None:
    assert not await first_process.Keeper(os.getpid(), "host1", "/nowhere").alive()
    assert not marks.bears_mark(os.getpid(), "/nowhere")


async def test_what_ends_with_another_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper ends with its ``unshare``, and has no command line, thus no mark, as it does."""
    words = ["/limosa/hosts/namespaces/keeper.py", "--lab", str(tmp_path)]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", *words]))  # noqa: ASYNC220
            for _ in range(2)
        ]
        for process in processes:
            stack.callback(process.kill)
        first, second = sorted(processes, key=lambda process: process.pid)
        real = marks.bears_mark

        def while_the_first_lives(pid: int, lab: str, host: str = "") -> bool:
            return real(pid, lab, host) and real(first.pid, lab)

        monkeypatch.setattr(marks, "bears_mark", while_the_first_lives)
        assert await marks.end_marked(str(tmp_path))
        assert first.poll() is not None and second.poll() is not None
