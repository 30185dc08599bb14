"""A person's ssh config is made for sessions of their own: what it says of those does not reach limosa's."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from limosa import process
from limosa.errors import LimosaError, MachineError
from limosa.hosts.ssh import way_in
from limosa.hosts.ssh.kind import SshKind
from limosa.hosts.ssh.way_in import Machine
from limosa.spec import resolved
from tests.ssh_machine import SshMachine, let_go, ssh_machine
from tests.sshd import required

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def machine(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshMachine]:
    required()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("s")))
        made = ssh_machine("sshconf")
        entered = runner.run(made.__aenter__())
        try:
            yield entered
        finally:
            runner.run(made.__aexit__(None, None, None))


@pytest.fixture(autouse=True)
def configured(machine: SshMachine) -> Iterator[None]:
    yield
    machine.configure()


@contextlib.asynccontextmanager
async def kind() -> AsyncIterator[SshKind]:
    host = resolved.Host("host1", kind="ssh", machine="machine1")
    async with let_go(SshKind(resolved.Lab("conf", {}, {}, {"host1": host}, {}), "this test")) as made:
        yield made


OF_SESSIONS = [
    "RequestTTY force",
    "RequestTTY yes",
    "RemoteCommand exec cat",
    "SessionType none",
    "SessionType subsystem",
    "StdinNull yes",
    "ForkAfterAuthentication yes",
    "PermitLocalCommand yes\nLocalCommand echo welcome",
    "ControlMaster auto\nControlPersist 30\nControlPath HOME/mux",
    "ExitOnForwardFailure yes\nLocalForward TAKEN 127.0.0.1:22",
    "ExitOnForwardFailure yes\nDynamicForward TAKEN",
    "ForwardAgent yes\nForwardX11 yes\nForwardX11Trusted yes",
    "SetEnv A=b\nSendEnv LC_* LANG",
]


@pytest.mark.parametrize("lines", OF_SESSIONS, ids=lambda lines: lines.replace("\n", ", "))
async def test_what_a_config_says_of_sessions_does_not_matter(machine: SshMachine, tmp_path: Path, lines: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        machine.configure(lines.replace("HOME", str(machine.home)).replace("TAKEN", str(taken.getsockname()[1])))
        async with kind() as made:
            host = await made.make("host1")
            assert (await host.run(["cat"], stdin=b"\x03as it is\n\x04")).stdout == b"\x03as it is\n\x04"
            (tmp_path / "here").write_bytes(data := bytes(range(256)) * 1024)
            await host.put(tmp_path / "here", f"{host.runtime_directory}/there")
            await host.get(f"{host.runtime_directory}/there", tmp_path / "back")
            assert (tmp_path / "back").read_bytes() == data
            done = await by_hand(host.interactive(["sh", "-c", "cat; exit 7"]))
            assert (done.returncode, done.stdout) == (7, b"typed"), done.stderr
            await made.remove()


async def by_hand(argv: list[str]) -> subprocess.CompletedProcess[bytes]:
    """What the command line for a terminal does, without one; nothing of it outlives the call."""
    return await asyncio.to_thread(subprocess.run, argv, input=b"typed", capture_output=True, timeout=30)


def test_an_older_ssh_is_told_only_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "ssh"
    old.write_text('#!/bin/sh\ncase "$*" in *SessionType*) echo Bad configuration option >&2; exit 255;; esac\n')
    old.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    way_in._is_since_8_7.cache_clear()
    try:
        line = way_in.ssh_line(Machine("there"), ["true"])
    finally:
        way_in._is_since_8_7.cache_clear()
    assert "SessionType" not in shlex.join(line) and "RemoteCommand=none" in line
    assert process.succeeds(line)


@pytest.mark.parametrize(
    ("lines", "option", "ours"),
    [
        ("KexAlgorithms diffie-hellman-group1-sha1", "KexAlgorithms", "diffie-hellman-group1-sha1"),
        ("KexAlgorithms not-yet-invented", "KexAlgorithms", "none that limosa knows"),
        ("Ciphers 3des-cbc", "Ciphers", "3des-cbc"),
        ("MACs hmac-md5\nCiphers aes128-ctr", "MACs", "hmac-md5"),
    ],
)
async def test_no_common_ground_is_no_changed_key(machine: SshMachine, lines: str, option: str, ours: str) -> None:
    machine.configure(lines)
    async with kind() as made:
        with pytest.raises(LimosaError) as caught:
            await made.make("host1")
    error = caught.value
    assert isinstance(error, MachineError) and "\n" not in error.message
    assert "algorithm in common" in error.message and ours in error.message and option in error.hint
    assert "another machine" not in error.message and "ssh-keygen" not in error.hint
    assert len(error.message) < 400
