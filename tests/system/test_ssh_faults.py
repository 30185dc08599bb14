"""What goes wrong with a machine over SSH: each case is one sentence with a hint, and nothing hangs or is left."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError, SpecError, StateError
from limosa.hosts.kind import HostState
from limosa.hosts.ssh import way_in
from limosa.hosts.ssh.host import SshHost
from limosa.hosts.ssh.kind import SshKind
from limosa.hosts.ssh.way_in import Machine
from limosa.spec import resolved
from tests.ssh_machine import SshMachine, let_go, ssh_machine
from tests.sshd import SESSIONS, USER, keygen, required

pytestmark = pytest.mark.system
ACCEPTS = "import socket,sys,time; s=socket.socket(1); s.bind(sys.argv[1]); s.listen(); c,_=s.accept()"


@pytest.fixture(scope="module", params=[USER])
def machine(
    request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshMachine]:
    required()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("s")))
        made = ssh_machine("sshfaults", request.param)
        entered = runner.run(made.__aenter__())
        try:
            yield entered
        finally:
            runner.run(made.__aexit__(None, None, None))


@contextlib.asynccontextmanager
async def kind(owner: str = "this test", lab: str = "faults", address: str = "machine1") -> AsyncIterator[SshKind]:
    host = resolved.Host("host1", kind="ssh", machine=address)
    async with let_go(SshKind(resolved.Lab(lab, {}, {}, {"host1": host}, {}), owner)) as made:
        yield made


@contextlib.contextmanager
def replaced(file: Path, text: str) -> Iterator[None]:
    """Another text in a file for a while."""
    before = file.read_text()
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(before)


async def refusal() -> LimosaError:
    """The error that making the host ends with."""
    async with kind() as made:
        with pytest.raises(LimosaError) as caught:
            await made.make("host1")
    assert "\n" not in caught.value.message and caught.value.hint
    return caught.value


# -- logging in -------------------------------------------------------------------------------------------------------


async def test_an_unknown_host_key_is_refused(machine: SshMachine) -> None:
    with replaced(machine.ssh / "known_hosts", ""):
        error = await refusal()
    assert isinstance(error, MachineError)
    assert "not known" in error.message and "ssh-keyscan" in error.hint


async def test_a_changed_host_key_is_refused(machine: SshMachine, tmp_path: Path) -> None:
    with replaced(machine.ssh / "known_hosts", f"machine1 {keygen(tmp_path / 'other')}"):
        error = await refusal()
    assert isinstance(error, MachineError)
    assert "not the one" in error.message and "ssh-keygen -f" in error.hint and "-R machine1" in error.hint


async def test_checking_cannot_be_switched_off(machine: SshMachine) -> None:
    config = machine.ssh / "config"
    text = config.read_text().replace(f"UserKnownHostsFile {machine.ssh}/known_hosts", "UserKnownHostsFile none")
    with replaced(machine.ssh / "known_hosts", ""), replaced(config, "StrictHostKeyChecking no\n" + text):
        assert "not known" in (await refusal()).message


async def test_a_wrong_key_is_said(machine: SshMachine, tmp_path: Path) -> None:
    own, public = machine.ssh / "id_ed25519", keygen(tmp_path / "wrong")
    with replaced(own, (tmp_path / "wrong").read_text()), replaced(own.with_suffix(".pub"), public):
        error = await refusal()
    assert isinstance(error, MachineError)
    assert "log in" in error.message and "ssh-copy-id" in error.hint


async def test_a_machine_that_refuses_connections_is_not_taken_for_off(machine: SshMachine) -> None:
    with socket.socket() as listener, replaced(machine.ssh / "config", ""):
        listener.bind(("127.0.0.1", 0))  # bound, so that nobody else answers there; not listening
        async with kind(address=f"127.0.0.1:{listener.getsockname()[1]}") as made:
            found = (await made.find(["host1"]))["host1"]
            assert (found.state, found.host) == (HostState.NO_ANSWER, None), "it may go on with its guests"
            with pytest.raises(StateError, match="host1 cannot be reached"):
                await made.make("host1")


async def test_a_machine_that_says_nothing_is_not_waited_for(
    machine: SshMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert way_in.CONNECT_S <= 10
    monkeypatch.setattr(way_in, "CONNECT_S", 1.0)
    started = time.monotonic()
    with socket.socket() as listener, replaced(machine.ssh / "config", ""):
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        async with kind(address=f"127.0.0.1:{listener.getsockname()[1]}") as made:
            with pytest.raises(StateError, match="no answer within 1 s"):
                await made.make("host1")
    assert time.monotonic() - started < 5


async def test_a_broken_configuration_is_said(machine: SshMachine) -> None:
    with replaced(machine.ssh / "config", "Port twenty-two\n"):
        assert "ssh config" in (await refusal()).message


@pytest.mark.parametrize("text", ["", "-oProxyCommand=x", "a b", "host:0", "host:99999", "user@", "@host", "a\nb"])
def test_what_is_no_machine_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        Machine.parse(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("host", Machine("host")),
        ("me@host:2222", Machine("host", "me", 2222)),
        ("[::1]:22", Machine("::1", "", 22)),
        ("me@[fe80::1%eth0]", Machine("fe80::1%eth0", "me")),
    ],
)
def test_machines_are_taken_apart(text: str, wanted: Machine) -> None:
    assert Machine.parse(text) == wanted


# -- the machine lacks something --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def covered(machine: SshMachine, there: str, text: str, mode: str = "0755") -> AsyncIterator[None]:
    """Another file over *there*, in the mounts of that machine only."""
    await machine.host.run(["tee", "/run/cover"], stdin=text.encode())
    await machine.host.run(["chmod", mode, "/run/cover"])
    await machine.host.run(["mount", "--bind", "/run/cover", there])
    try:
        yield
    finally:
        await machine.host.run(["umount", there])


@contextlib.asynccontextmanager
async def login_shell(machine: SshMachine, text: str) -> AsyncIterator[None]:
    """Another login shell: *text* comes before the command that sshd hands to it."""
    await machine.host.run(["tee", "/run/shell"], stdin=f'#!/bin/sh\n{text}\nshift; eval "$@"\n'.encode())
    await machine.host.run(["chmod", "0755", "/run/shell"])
    passwd = (await machine.host.run(["cat", "/etc/passwd"])).text + "\n"
    async with covered(machine, "/etc/passwd", passwd.replace("/run/home:/bin/sh", "/run/home:/run/shell"), "0644"):
        yield


async def test_a_machine_without_python_is_said(machine: SshMachine) -> None:
    async with login_shell(machine, "PATH=/nowhere"):
        error = await refusal()
    assert isinstance(error, MachineError)
    assert "there is no python3" in error.message and "apk add python3" in error.hint


async def test_a_python_that_is_too_old_is_said(machine: SshMachine) -> None:
    old = "#!/bin/sh\nread line\necho 'python3 is older than 3.8: it is 3.6.9' >&2\nexit 1\n"
    async with covered(machine, str(Path("/usr/bin/python3").resolve()), old):
        error = await refusal()
    assert "older than 3.8" in error.message


async def test_chatter_of_the_login_is_no_obstacle(machine: SshMachine) -> None:
    async with login_shell(machine, "echo 'welcome to this machine'"), kind() as made:
        host = await made.make("host1")
        assert (await host.run(["echo", "clear"])).stdout == b"clear\n"


async def test_sudo_that_wants_a_password_is_said(machine: SshMachine) -> None:
    async with kind() as made:
        host = await made.make("host1")
        with pytest.raises(MachineError, match="sudo on host1 does not let limosa work as root") as caught:
            await host.run(["id", "-u"], as_root=True)
        assert "NOPASSWD" in caught.value.hint
        assert (await host.run(["id", "-u"])).text == "12345", "the login itself goes on"


async def test_sudo_that_lets_us_makes_us_root(machine: SshMachine) -> None:
    rules = (await machine.host.run(["cat", "/etc/sudoers"])).text + f"\n{USER} ALL=(ALL) NOPASSWD: ALL\n"
    async with covered(machine, "/etc/sudoers", rules, mode="0440"), kind() as made:
        host = await made.make("host1")
        data = bytes(range(256)) * 4096
        done = await host.run(["sh", "-c", "id -u >&2; cat"], stdin=data, as_root=True)
        assert (done.stderr, done.stdout) == (b"0\n", data)


# -- a connection that breaks -----------------------------------------------------------------------------------------


async def end_sessions(machine: SshMachine) -> None:
    """Kill the processes of sshd that serve connections, not the one that listens."""
    await machine.host.run(["pkill", "-KILL", "-f", SESSIONS])


async def test_a_connection_that_is_cut_says_so_and_comes_back(machine: SshMachine) -> None:
    async with kind() as made:
        host = await made.make("host1")
        kept = await host.spawn(["sleep", "987651"], log="/dev/null")
        running = asyncio.create_task(host.run(["sleep", "987652"]))
        async for _ in Deadline.after(10).ticks(0.02):
            if (await host.run(["pgrep", "-f", "[9]87652"], check=False)).text:
                break
        await end_sessions(machine)
        with pytest.raises(StateError, match="the connection to host1 was lost") as caught:
            await running
        assert "guests there go on" in caught.value.hint
        assert (await host.run(["echo", "again"])).text == "again"
        async for _ in Deadline.after(10).ticks(0.05):
            if not (await host.run(["pgrep", "-f", "[9]87652"], check=False)).text:
                break
        assert not (await host.run(["pgrep", "-f", "[9]87652"], check=False)).text
        assert (await host.run(["pgrep", "-f", "[9]87651"], check=False)).text == str(kept)
        await made.remove()
        assert await made.left() == []
        assert not (await host.run(["pgrep", "-f", "[9]87651"], check=False)).text


async def test_a_cut_connection_ends_forwarded_sockets(machine: SshMachine) -> None:
    async with kind() as made:
        host = await made.make("host1")
        path = f"{host.runtime_directory}/a.sock"
        program = (
            "import socket,sys,time; s=socket.socket(1); s.bind(sys.argv[1]); s.listen(); c=s.accept(); time.sleep(99)"
        )
        await host.spawn(["/usr/bin/python3", "-c", program, path], log=f"{host.runtime_directory}/log")
        async for _ in Deadline.after(20).ticks(0.05):
            with contextlib.suppress(StateError):
                connection = await host.connect(path)
                break
        with connection:
            await end_sessions(machine)
            async with asyncio.timeout(10):
                assert await asyncio.get_running_loop().sock_recv(connection, 10) == b""
        await made.remove()


async def test_sockets_are_reached_where_sshd_forwards_none(
    machine: SshMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kind() as made:
        host = await made.make("host1")
        assert isinstance(host, SshHost)
        path = f"{host.runtime_directory}/b.sock"
        await host.spawn(
            ["/usr/bin/python3", "-c", f"{ACCEPTS}; c.sendall(c.recv(9))", path], log=f"{host.runtime_directory}/log"
        )
        async for _ in Deadline.after(20).ticks(0.05):
            if (await host.run(["test", "-S", path], check=False)).returncode == 0:
                break
        monkeypatch.setattr(host._ssh, "forwards", False)
        with await host.connect(path) as connection:
            await asyncio.get_running_loop().sock_sendall(connection, b"as it is")
            assert await asyncio.get_running_loop().sock_recv(connection, 9) == b"as it is"
        await made.remove()


# -- what is the lab's ------------------------------------------------------------------------------------------------


async def test_another_labs_directory_is_left_alone(machine: SshMachine) -> None:
    async with kind("one") as ours, kind("two") as theirs:
        host = await ours.make("host1")
        with pytest.raises(StateError, match="belongs to lab faults of one"):
            await theirs.make("host1")
        assert (await theirs.find(["host1"]))["host1"].state is HostState.OFF
        assert await theirs.remove() == {}
        assert await ours.left() == [f"{host.runtime_directory} on host1"]
        await ours.remove()
        assert await ours.left() == []


async def test_a_directory_that_was_put_in_the_way_is_not_used(machine: SshMachine) -> None:
    way = f"/tmp/limosa-{12345}-faults"
    await machine.host.run(["mkdir", "-m", "0777", way])
    try:
        error = await refusal()
        assert isinstance(error, MachineError) and "belongs to somebody else" in error.message
    finally:
        await machine.host.run(["rm", "-r", way])


async def test_nothing_is_removed_with_a_disk_mounted_in_it(machine: SshMachine) -> None:
    async with kind() as made:
        host = await made.make("host1")
        inside = f"{host.runtime_directory}/disks"
        await host.run(["mkdir", inside])
        await machine.host.run(["mount", "-t", "tmpfs", "limosa", inside])
        await machine.host.run(["touch", f"{inside}/disk"])
        assert "still mounted" in (await made.remove())["host1"].message
        await machine.host.run(["test", "-e", f"{inside}/disk"])
        await machine.host.run(["umount", inside])
        await made.remove()
        assert await made.left() == []


async def test_a_real_machine_is_not_switched_off() -> None:
    async with kind() as made:
        for verb in (made.power_off, made.power_on):
            with pytest.raises(StateError, match="limosa does not switch"):
                await verb("host1")
