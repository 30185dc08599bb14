"""One suite for every kind of host: what the rest of limosa may rely on when it commands one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import kinds
import pytest
import pytest_asyncio

from limosa.deadline import Deadline
from limosa.errors import CommandError, LimosaError, MachineError, StateError
from limosa.hosts import counter
from limosa.hosts.host import Host

ROOT = Path(__file__).parents[2]
# One event loop for all: a host may keep a connection, as it does for a command's whole life.
pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(kinds.KINDS))
async def made(request: pytest.FixtureRequest) -> AsyncIterator[kinds.Made]:
    with tempfile.TemporaryDirectory(prefix="lc") as state, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", state)
        async with kinds.KINDS[request.param]() as made:
            yield made


@pytest.fixture
def host(made: kinds.Made) -> Host:
    return made.host()


@pytest_asyncio.fixture(loop_scope="module")
async def folder(host: Host) -> AsyncIterator[str]:
    """An empty folder on the host, in which whoever is logged in there may write."""
    path = (await host.run(["mktemp", "-d"])).text
    yield path
    await host.run(["rm", "-r", path])


@pytest.fixture
def seconds() -> str:
    """How long a process sleeps that nobody else started: also its mark."""
    return f"9{secrets.randbelow(10**9):09}"


async def sleeps(host: Host, seconds: str) -> bool:
    """Whether a process with that mark lives on the host (``[9]`` keeps the search from finding itself)."""
    found = await host.run(["pgrep", "-f", f"[9]{seconds[1:]}"], check=False)
    return found.returncode == 0


async def wait_sleeps(host: Host, seconds: str, wanted: bool) -> None:
    async for _ in Deadline.after(10).ticks(0.02):
        if await sleeps(host, seconds) is wanted:
            return
    raise AssertionError(f"sleep {seconds} is {'not ' if wanted else ''}there after 10 s")


def open_files() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def controller(made: kinds.Made, body: str) -> subprocess.Popen[bytes]:
    """Another process that does *body* with the same host and then says ``done``."""
    script = f"{made.attach}\nimport asyncio\nasync def work():\n  async with attach() as host:\n    {body}\n"
    script += "    print('done', flush=True)\n    await asyncio.sleep(600)\nasyncio.run(work())\n"
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env)


def end(other: subprocess.Popen[bytes]) -> None:
    """SIGKILL; more than once is no error."""
    other.kill()
    other.wait()
    assert other.stdout is not None
    other.stdout.close()


# -- run --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 2, 77, 127, 255])
async def test_run_tells_exit_statuses(host: Host, status: int) -> None:
    done = await host.run(["sh", "-c", f"exit {status}"], check=False)
    assert done.returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_run_tells_signals_as_negative_statuses(host: Host, number: signal.Signals) -> None:
    done = await host.run(["sh", "-c", f"kill -{number.value} $$; sleep 5"], check=False)
    assert done.returncode == -number


async def test_run_checks_and_quotes_what_was_said(host: Host) -> None:
    with pytest.raises(CommandError) as caught:
        await host.run(["sh", "-c", "echo out; echo the reason >&2; exit 3"])
    assert (caught.value.returncode, caught.value.stderr) == (3, "the reason\n")
    assert "the reason" in caught.value.message and caught.value.replay in caught.value.hint


async def test_run_keeps_the_streams_apart_and_tells_the_time(host: Host) -> None:
    done = await host.run(["sh", "-c", "echo out; echo err >&2; sleep 0.2"])
    assert (done.stdout, done.stderr, done.text) == (b"out\n", b"err\n", "out")
    assert 0.2 <= done.duration_s < 10


async def test_run_is_binary_safe_both_ways(host: Host) -> None:
    data = bytes(range(256)) * 64 + b"\0\xff\n\r\x04"
    assert (await host.run(["cat"], stdin=data)).stdout == data


async def test_run_moves_megabytes_both_ways_at_once(host: Host) -> None:
    data = secrets.token_bytes(12 * 2**20)
    done = await host.run(["tee", "/dev/stderr"], stdin=data, timeout_s=60)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    assert hashlib.sha256(done.stderr).digest() == hashlib.sha256(data).digest()


async def test_run_does_not_mind_unread_input(host: Host) -> None:
    done = await host.run(["sh", "-c", "exec <&-; echo ok"], stdin=bytes(4 * 2**20), timeout_s=20)
    assert done.text == "ok"
    assert (await host.run(["true"], stdin=bytes(4 * 2**20), timeout_s=20)).returncode == 0


async def test_run_without_input_is_at_its_end_at_once(host: Host) -> None:
    assert (await host.run(["cat"], timeout_s=10)).stdout == b""


@pytest.mark.parametrize("word", ["", " ", "a b", "'", '"', "$HOME", "*", "\n", "-", "--", "\\", "ä→🐦", "\udcff"])
async def test_run_hands_words_over_as_they_are(host: Host, word: str) -> None:
    assert (await host.run(["printf", "%s", word])).stdout == os.fsencode(word)


async def test_run_hands_over_many_words(host: Host) -> None:
    words = [f"{number:05}" * 20 for number in range(5000)]  # 500 kB, more than a socket buffer holds
    done = await host.run(["sh", "-c", 'echo $#; for last; do :; done; echo "$last"', "sh", *words], timeout_s=30)
    assert done.text.split() == ["5000", words[-1]]


async def test_the_environment_is_explicit(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMOSA_SECRET_OF_THE_CALLER", "x")
    said = (await host.run(["env"], env={"GIVEN": "a b=c"})).text.splitlines()
    assert "GIVEN=a b=c" in said
    assert not [line for line in said if "LIMOSA_SECRET" in line]
    assert any(line.startswith("PATH=") and "/usr/sbin" in line for line in said)


async def test_programs_are_found_by_the_path_that_is_given(host: Host) -> None:
    await host.run(["mkdir", "-p", "/tmp/limosa-contract"])
    try:
        await host.run(["sh", "-c", "printf '#!/bin/sh\\necho mine\\n' > /tmp/limosa-contract/own-program"])
        await host.run(["chmod", "700", "/tmp/limosa-contract/own-program"])
        path = {"PATH": "/tmp/limosa-contract:/usr/bin:/bin"}
        assert (await host.run(["own-program"], env=path)).text == "mine"
        with pytest.raises(MachineError, match="own-program is not installed"):
            await host.run(["own-program"])
    finally:
        await host.run(["rm", "-r", "/tmp/limosa-contract"])


@pytest.mark.parametrize("program", ["limosa-no-such-program", "/no/such/program", "no/such"])
async def test_a_missing_program_is_the_machines_fault(host: Host, program: str) -> None:
    with pytest.raises(MachineError, match=f"the program {program} is not installed on {host.name}"):
        await host.run([program])
    with pytest.raises(MachineError, match="is not installed"):
        await host.spawn([program], log="/dev/null")


@pytest.mark.parametrize("argv", [["/etc"], ["a\0b"], ["/etc/hostname"]])
async def test_what_cannot_be_started_is_said(host: Host, argv: list[str]) -> None:
    with pytest.raises(LimosaError):
        await host.run(argv)
    assert (await host.run(["echo", "still there"])).text == "still there"


async def test_nothing_but_its_streams_is_open_in_a_process(host: Host) -> None:
    for _ in range(2):
        done = await host.run(["ls", "-l", "/proc/self/fd"], stdin=b"x")
        numbers = {int(line.split(" -> ")[0].split()[-1]) for line in done.text.splitlines() if " -> " in line}
        assert numbers == {0, 1, 2, 3}, f"3 is the directory itself:\n{done.text}"


async def test_signals_are_as_in_a_new_shell(host: Host) -> None:
    done = await host.run(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])
    internal = 3 << 31  # 32 and 33 belong to the C library's threads (nptl(7))
    assert [int(line.split()[1], 16) & ~internal for line in done.text.splitlines()] == [0, 0]


# -- ending -----------------------------------------------------------------------------------------------------------


async def test_a_timeout_leaves_no_process(host: Host, seconds: str) -> None:
    with pytest.raises(LimosaError, match=r"did not finish within 0\.3 s"):
        await host.run(["sh", "-c", f"trap '' TERM HUP INT; sleep {seconds}; true"], timeout_s=0.3)
    await wait_sleeps(host, seconds, False)


async def test_a_timeout_counts_while_output_floods_in(host: Host) -> None:
    started = time.monotonic()
    with pytest.raises(LimosaError, match="did not finish"):
        await host.run(["yes"], timeout_s=0.3)
    assert time.monotonic() - started < 5


async def test_cancellation_leaves_no_process(host: Host, seconds: str) -> None:
    task = asyncio.create_task(host.run(["sh", "-c", f"sleep {seconds} & sleep {seconds}; true"]))
    await wait_sleeps(host, seconds, True)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_sleeps(host, seconds, False)


async def test_cancellation_at_any_moment_leaves_nothing(host: Host, seconds: str) -> None:
    await host.run(["true"])  # a connection that is kept is no leak
    files = open_files()
    for delay_ms in (0, 0, 1, 2, 3, 5, 8, 13, 21):
        task = asyncio.create_task(host.run(["sleep", seconds], stdin=b"x" * 10**6))
        await asyncio.sleep(delay_ms / 1000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await wait_sleeps(host, seconds, False)
    assert open_files() == files


async def test_run_dies_with_its_controller(made: kinds.Made, host: Host, seconds: str) -> None:
    other = controller(made, f"await host.run(['sh', '-c', 'sleep {seconds} | cat; true'])")
    try:
        await wait_sleeps(host, seconds, True)
    finally:
        end(other)
    await wait_sleeps(host, seconds, False)


async def test_spawn_survives_its_controller(made: kinds.Made, host: Host, seconds: str) -> None:
    body = f"await host.spawn(['sh', '-c', 'echo begun; exec sleep {seconds}'], log='/tmp/limosa-{seconds}/a.log')"
    other = controller(made, body)
    try:
        assert other.stdout is not None
        assert await asyncio.to_thread(other.stdout.readline) == b"done\n"
        end(other)
        await asyncio.sleep(0.3)
        assert await sleeps(host, seconds)
        assert (await host.run(["cat", f"/tmp/limosa-{seconds}/a.log"])).text == "begun"
    finally:
        end(other)
        await host.run(["pkill", "-KILL", "-f", f"[9]{seconds[1:]}"], check=False)
        await host.run(["rm", "-r", f"/tmp/limosa-{seconds}"])


async def test_spawn_gives_the_pid_there_and_appends_to_the_log(host: Host, seconds: str) -> None:
    log = f"/tmp/limosa-{seconds}.log"
    for _ in range(2):
        pid = await host.spawn(["sh", "-c", f"echo $$; echo err >&2; cat; exec sleep {seconds}"], log=log)
        await wait_sleeps(host, seconds, True)
        assert (await host.run(["tail", "-n2", log])).text.split() == [str(pid), "err"]
        await host.run(["kill", "-9", str(pid)])
        await wait_sleeps(host, seconds, False)
    assert len((await host.run(["cat", log])).text.splitlines()) == 4
    await host.run(["rm", log])


async def test_a_background_child_that_lets_go_of_the_output_is_no_obstacle(host: Host, seconds: str) -> None:
    done = await host.run(["sh", "-c", f"sleep {seconds} <&- >/dev/null 2>&1 & echo $!"], timeout_s=10)
    assert done.duration_s < 0.9, "the output ends with the command, nothing else holds it open"
    await host.run(["kill", "-9", done.text])


async def test_a_background_child_that_holds_the_output_is_an_error(host: Host, seconds: str) -> None:
    started = time.monotonic()
    with pytest.raises(LimosaError, match="keeps its output open"):
        await host.run(["sh", "-c", f"sleep {seconds} & echo begun"], stdin=bytes(2**20))
    assert time.monotonic() - started < 10
    await host.run(["pkill", "-KILL", "-f", f"[9]{seconds[1:]}"], check=False)


# -- sockets, files, facts --------------------------------------------------------------------------------------------

LISTENER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(1)
print("listens", flush=True)
while True:
    with listener.accept()[0] as connection:
        while data := connection.recv(65536):
            connection.sendall(data.upper())
"""


async def test_connect_reaches_a_socket_of_the_host(host: Host, folder: str) -> None:
    path, log = f"{folder}/listener.sock", f"{folder}/log"
    pid = await host.spawn(["/usr/bin/python3", "-c", LISTENER, path], log=log)
    async for _ in Deadline.after(20).ticks(0.05):
        if (await host.run(["cat", log])).text == "listens":
            break
    loop = asyncio.get_running_loop()
    for _ in range(2):
        with await host.connect(path) as connection:
            await loop.sock_sendall(connection, b"a" * 100)
            assert await loop.sock_recv(connection, 100) == b"A" * 100
    await host.run(["kill", "-9", str(pid)])
    # It listens until the kernel has taken it apart.
    async for _ in Deadline.after(10).ticks(0.02):
        try:
            connection = await host.connect(path)
        except StateError as error:
            assert "nothing listens" in error.message
            break
        connection.close()
    else:
        pytest.fail("a killed listener still listens after 10 s")


@pytest.mark.parametrize("path", ["/run/nobody.sock", "/no/such/folder/a.sock", "/etc/hostname", "/" + "a" * 300])
async def test_connect_to_nobody_is_an_error_of_state(host: Host, path: str) -> None:
    with pytest.raises(StateError, match="nothing listens"):
        await host.connect(path)


@pytest.mark.parametrize("name", ["plain", "with space", "-", "-rf", "new\nline", "of=x", "ä→", "*", "$(id)", "'"])
@pytest.mark.parametrize("size", [0, 3])
async def test_files_go_there_and_come_back(host: Host, tmp_path: Path, folder: str, name: str, size: int) -> None:
    here, back = tmp_path / name, tmp_path / "back"
    here.write_bytes(data := secrets.token_bytes(size))
    # A name alone is the hardest; on a namespace host it stands in the machine's root directory.
    alone = size and (await host.run(["test", "-w", "."], check=False)).returncode == 0
    for path in (f"{folder}/{name}", name) if alone else (f"{folder}/{name}",):
        await host.put(here, path)
        await host.get(path, back)
        assert back.read_bytes() == data
        await host.run(["rm", "--", path])


async def test_a_large_file_goes_there_and_comes_back(host: Host, tmp_path: Path, folder: str) -> None:
    (tmp_path / "here").write_bytes(data := secrets.token_bytes(20_000_001))
    await host.put(tmp_path / "here", f"{folder}/large")
    await host.get(f"{folder}/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


async def test_files_that_are_not_there_are_limosas_errors(host: Host, tmp_path: Path) -> None:
    for local, path in ((tmp_path / "none", "/run/a"), (ROOT / "LICENSE", "/no/such/folder/a")):
        with pytest.raises(LimosaError):
            await host.put(local, path)
    for path, local in (("/no/such", tmp_path / "a"), ("/etc/passwd", tmp_path / "no" / "such")):
        with pytest.raises(LimosaError):
            await host.get(path, local)


async def test_facts_are_plausible(host: Host) -> None:
    facts = await host.facts()
    assert facts.kernel == (await host.run(["uname", "-r"])).text
    assert facts.cpus == int((await host.run(["nproc"])).text)
    assert 2**27 < facts.memory_available_bytes < facts.memory_bytes < 2**50
    assert facts.cpu_model


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the time stamp counter is an x86 thing")
async def test_the_rate_of_the_counter_is_measured_alike_twice(host: Host) -> None:
    program = Path(counter.__file__).read_bytes()
    runs = [await host.run([host.python, "-I", "-S", "-"], stdin=program) for _ in range(2)]
    first, second = (int(done.text) for done in runs)
    assert 500_000 < first < 10_000_000
    assert first == pytest.approx(second, rel=1e-3)


async def test_interactive_runs_there(host: Host) -> None:
    argv: Sequence[str] = host.interactive(["sh", "-c", "hostname; echo $$; exit 4"])
    child = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    out, _ = await child.communicate()
    assert child.returncode == 4
    assert out.decode().split()[0] == (await host.run(["hostname"])).text == host.name


# -- many -------------------------------------------------------------------------------------------------------------


async def test_a_thousand_small_commands_leak_nothing(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    await host.run(["true"])
    files = open_files()
    started = time.monotonic()
    for number in range(1000):
        assert (await host.run(["/bin/echo", str(number)])).text == str(number)
    with capsys.disabled():
        print(f" [1,000 commands on {type(host).__name__}: {time.monotonic() - started:.1f} s]", end="")
    assert open_files() == files


@pytest.mark.parametrize("count", [50, 300])
async def test_many_at_once_do_not_mix(host: Host, count: int) -> None:
    words = [f"{number}" * 100 for number in range(count)]
    done = await asyncio.gather(*(host.run(["cat"], stdin=word.encode(), timeout_s=60) for word in words))
    assert [result.text for result in done] == words


async def test_power_off_ends_everything_and_is_said(made: kinds.Made, seconds: str) -> None:
    if made.power_off is None or made.restore is None:
        pytest.skip("nobody switches off the machine that the test runs on")
    host = made.host()
    pid = await host.spawn(["sleep", seconds], log="/dev/null")
    assert pid > 1
    running = asyncio.create_task(host.run(["sleep", seconds]))
    await wait_sleeps(host, seconds, True)
    await made.power_off()
    try:
        with pytest.raises(StateError, match="went away"):
            await running
        with pytest.raises(StateError, match=f"host {host.name} (is off|cannot be reached)"):
            await host.run(["true"])
        with pytest.raises(StateError):
            await host.spawn(["true"], log="/dev/null")
        with pytest.raises(StateError):
            await host.connect("/run/a.sock")
    finally:
        await made.restore()
    assert not await sleeps(made.host(), seconds)
