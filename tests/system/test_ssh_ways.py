"""The ways to a machine over SSH that the user's own configuration describes: jump hosts, the agent, aliases, hashes.

Four sshd with a host key each. Three listen inside the machine only, so that nobody gets to them but over the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from limosa.errors import LimosaError, MachineError, UnreachableError
from limosa.hosts.ssh import way_in
from limosa.hosts.ssh.kind import SshKind
from limosa.hosts.ssh.way_in import Machine
from limosa.spec import resolved
from tests import sshd
from tests.ssh_machine import SFTP, SshMachine, let_go, relays_ended, ssh_machine

pytestmark = pytest.mark.system
PORTS = {"jump2": 2201, "inner": 2202, "closed": 2203}
"""Beside ``machine1``, the jump host that the test can get to. ``closed`` forwards no connections."""


@pytest.fixture(scope="module")
def machine(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshMachine]:
    sshd.required()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("s")))
        made = ssh_machine("sshways")
        entered = runner.run(made.__aenter__())
        for name, port in PORTS.items():
            sshd.keygen(entered.ssh / name)
            extra = "AllowTcpForwarding no" if name == "closed" else SFTP
            folder = f"/run/{name}"
            served = sshd.serve(entered.host, entered.ssh, port=port, folder=folder, key=name, extra=extra)
            runner.run(served)
        try:
            yield entered
        finally:
            runner.run(made.__aexit__(None, None, None))


@pytest.fixture
def ssh(machine: SshMachine) -> Iterator[Path]:
    """The user's own folder, as it was afterwards. It knows all four machines by name and port."""
    machine.configure()
    known = machine.ssh / "known_hosts"
    first, other = known.read_text(), (machine.ssh / "config").read_text()
    lines = [f"[127.0.0.1]:{port} {(machine.ssh / f'{name}.pub').read_text()}" for name, port in PORTS.items()]
    known.write_text(first + "".join(lines))
    yield machine.ssh
    known.write_text(first)
    (machine.ssh / "config").write_text(other)


def config(ssh: Path, text: str) -> None:
    """More of the ssh config, before what is there. ``HOSTS``: the three inner machines by name."""
    hosts = "".join(f"Host {name}\nHostName 127.0.0.1\nPort {port}\n" for name, port in PORTS.items())
    common = f"Host *\nUser root\nIdentitiesOnly yes\nIdentityFile {ssh}/id_ed25519\n"
    common += f"UserKnownHostsFile {ssh}/known_hosts\n"
    (ssh / "config").write_text(text.replace("HOSTS", hosts) + "\n" + (ssh / "config").read_text() + "\n" + common)


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


@contextlib.asynccontextmanager
async def to(address: str) -> AsyncIterator[SshKind]:
    host = resolved.Host("host1", kind="ssh", machine=address)
    async with let_go(SshKind(resolved.Lab("ways", {}, {}, {"host1": host}, {}), "this test")) as made:
        yield made


async def arrives(address: str) -> str:
    """Log in, and say at which port we came in."""
    connection = await way_in.log_in("host1", Machine.parse(address))
    try:
        return str((await connection.run("echo $SSH_CONNECTION", check=True)).stdout).split()[-1]
    finally:
        await way_in.hang_up(connection)
        await relays_ended()


async def refusal(address: str) -> LimosaError:
    with pytest.raises(LimosaError) as caught:
        await way_in.log_in("host1", Machine.parse(address))
    await relays_ended()
    assert "\n" not in caught.value.message and caught.value.hint
    return caught.value


# -- jump hosts -------------------------------------------------------------------------------------------------------


async def test_a_host_behind_a_jump_host_is_one_as_any_other(ssh: Path, tmp_path: Path) -> None:
    config(ssh, "HOSTS\nHost inner\nProxyJump machine1\n")
    assert await arrives("inner") == "2202"
    (tmp_path / "here").write_bytes(data := bytes(range(256)) * 4096)
    async with to("inner") as kind:
        host = await kind.make("host1")
        await host.put(tmp_path / "here", f"{host.runtime_directory}/file")
        await host.get(f"{host.runtime_directory}/file", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == data
        assert (await host.run(["wc", "-c", f"{host.runtime_directory}/file"])).text.startswith(str(len(data)))
        await kind.remove()


async def test_two_jumps_in_one_line(ssh: Path, machine: SshMachine) -> None:
    config(ssh, "HOSTS\nHost inner\nProxyJump machine1,ssh://root@127.0.0.1:2201\n")
    before = (await sshd.log(machine.host, "/run/jump2")).count("Accepted publickey")
    assert await arrives("inner") == "2202"
    assert (await sshd.log(machine.host, "/run/jump2")).count("Accepted publickey") == before + 1


async def test_two_jumps_one_behind_the_other(ssh: Path) -> None:
    config(ssh, "HOSTS\nHost inner\nProxyJump jump2\nHost jump2\nProxyJump machine1\n")
    assert await arrives("inner") == "2202"


async def test_the_connections_of_jumps_end_with_it(ssh: Path, machine: SshMachine) -> None:
    config(ssh, "HOSTS\nHost inner\nProxyJump machine1,jump2\n")
    assert await arrives("inner") == "2202"
    left = [
        "sh",
        "-c",
        f"for _ in $(seq 100); do pgrep -f '{sshd.SESSIONS}' >/dev/null || exit 0; sleep 0.1; done; exit 1",
    ]
    assert (await machine.host.run(left, check=False)).returncode == 0


async def test_the_key_of_a_jump_host_is_checked(ssh: Path) -> None:
    config(ssh, "StrictHostKeyChecking no\nHOSTS\nHost inner\nProxyJump machine1,jump2\n")
    known = ssh / "known_hosts"
    text = known.read_text()
    known.write_text("".join(line for line in text.splitlines(keepends=True) if ":2201" not in line))
    error = await refusal("inner")
    assert isinstance(error, MachineError)
    assert error.message == "the host key of jump2 (jump host jump2 of host host1) is not known here"
    assert "ssh jump2" in error.hint and "ssh-keyscan" not in error.hint, "which could not get there"
    wrong = (ssh / "inner.pub").read_text()
    known.write_text(re.sub(r"\[127.0.0.1\]:2201 .*\n", f"[127.0.0.1]:2201 {wrong}", text))
    error = await refusal("inner")
    assert "jump2 (jump host jump2 of host host1) is not the one that" in error.message
    assert f"ssh-keygen -f {known} -R '[127.0.0.1]:2201'" in error.hint


async def test_no_check_is_switched_off_for_a_jump_host(ssh: Path) -> None:
    config(ssh, "HOSTS\nHost jump2\nUserKnownHostsFile none\nHost inner\nProxyJump machine1,jump2\n")
    text = (ssh / "config").read_text().replace(f"{ssh}/known_hosts", f"{ssh}/known_elsewhere")
    (ssh / "config").write_text(f"StrictHostKeyChecking no\n{text}")
    (ssh / "known_hosts").rename(ssh / "known_elsewhere")
    assert "jump2 (jump host jump2 of host host1) is not known" in (await refusal("inner")).message


async def test_a_jump_host_that_lets_us_not_in(ssh: Path, tmp_path: Path) -> None:
    sshd.keygen(tmp_path / "wrong")
    config(ssh, f"Host jump2\nIdentityFile {tmp_path}/wrong\nHOSTS\nHost inner\nProxyJump machine1,jump2\n")
    (ssh / "config").write_text((ssh / "config").read_text().replace(f"IdentityFile {ssh}/id_ed25519\nUserK", "UserK"))
    error = await refusal("inner")
    assert isinstance(error, MachineError)
    assert "jump2 (jump host jump2 of host host1) does not let root log in" in error.message
    assert "ssh jump2 true" in error.hint


async def test_a_jump_host_that_is_off(ssh: Path) -> None:
    config(ssh, "HOSTS\nHost off\nHostName 127.0.0.1\nPort 2299\nHost inner\nProxyJump machine1,off\n")
    error = await refusal("inner")
    assert isinstance(error, UnreachableError)
    assert "jump host off of host host1 cannot be reached" in error.message


async def test_a_machine_behind_a_jump_host_that_is_off(ssh: Path) -> None:
    config(ssh, "HOSTS\nHost off\nHostName 127.0.0.1\nPort 2299\nProxyJump machine1\n")
    error = await refusal("off")
    assert isinstance(error, UnreachableError)
    assert error.message.startswith("host host1 cannot be reached") and "jump host" in error.message


async def test_a_jump_host_that_forwards_nothing(ssh: Path) -> None:
    config(ssh, "HOSTS\nHost inner\nProxyJump machine1,closed\n")
    error = await refusal("inner")
    assert isinstance(error, MachineError)
    assert "the jump host before host host1 does not forward" in error.message and "AllowTcpForwarding" in error.hint


@pytest.mark.parametrize(
    ("way", "wanted"), [("inner", "from inner to inner again"), ("machine1,a b", "which is no machine")]
)
async def test_jumps_that_lead_nowhere(ssh: Path, way: str, wanted: str) -> None:
    config(ssh, f'HOSTS\nHost inner\nProxyJump "{way}"\n')
    error = await refusal("inner")
    assert isinstance(error, MachineError) and wanted in error.message


# -- keys of ours -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def agent(folder: Path, *keys: Path) -> Iterator[str]:
    """A real ssh-agent that has these keys."""
    path = str(folder / "agent")
    child = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline(), "it says so when it listens"
        for key in keys:
            subprocess.run(["ssh-add", "-q", key], env={"SSH_AUTH_SOCK": path, "PATH": "/usr/bin"}, check=True)
        yield path
    finally:
        child.terminate()
        child.communicate()


@pytest.fixture
def away(ssh: Path, tmp_path: Path) -> Iterator[Path]:
    """The private key, taken out of the user's folder; its public half stays."""
    (ssh / "id_ed25519").rename(tmp_path / "key")
    yield tmp_path / "key"
    (tmp_path / "key").rename(ssh / "id_ed25519")


@pytest.mark.usefixtures("ssh")
async def test_a_key_that_only_the_agent_has(away: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "log in" in (await refusal("machine1")).message, "without the agent there is no way in"
    with agent(tmp_path, away) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        assert await arrives("machine1") == "22"


@pytest.mark.parametrize("written", ["{path}", "$MY_AGENT", "${{MY_AGENT}}", "SSH_AUTH_SOCK", "none"])
async def test_the_agent_that_the_configuration_names(
    ssh: Path, away: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    with agent(tmp_path, away) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK" if written in ("SSH_AUTH_SOCK", "none") else "MY_AGENT", path)
        config(ssh, f"IdentityAgent {written.format(path=path)}\n")
        if written == "none":
            assert "log in" in (await refusal("machine1")).message
        else:
            assert await arrives("machine1") == "22"


@pytest.mark.usefixtures("away")
async def test_an_agent_that_is_gone_is_no_trap(ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nobody"))
    assert "log in" in (await refusal("machine1")).message


async def test_a_key_with_a_passphrase_goes_by_the_agent_or_is_said(
    ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = ssh / "locked"
    locked.write_text((ssh / "id_ed25519").read_text())
    locked.chmod(0o600)
    (ssh / "locked.pub").write_text((ssh / "id_ed25519.pub").read_text())
    run("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(locked))
    text = (ssh / "config").read_text()
    (ssh / "config").write_text(text.replace(f"{ssh}/id_ed25519", str(locked)))
    error = await refusal("machine1")
    assert isinstance(error, MachineError) and "ssh-add" in error.hint
    with agent(tmp_path, ssh / "id_ed25519") as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        assert await arrives("machine1") == "22"


# -- keys of machines, and the configuration --------------------------------------------------------------------------


async def test_hashed_names_of_known_hosts(ssh: Path) -> None:
    config(ssh, "HOSTS\nHost inner\nProxyJump machine1\n")
    run("ssh-keygen", "-q", "-H", "-f", str(ssh / "known_hosts"))
    assert "127.0.0.1" not in (ssh / "known_hosts").read_text()
    assert await arrives("inner") == "2202"


async def test_an_alias_is_looked_up_without_a_port(ssh: Path) -> None:
    config(ssh, "HOSTS\nHost inner\nProxyJump machine1\nHostKeyAlias the-inner-one\n")
    error = await refusal("inner")
    assert "is not known here" in error.message, "its address is known, but not by that name"
    with (ssh / "known_hosts").open("a") as file:
        file.write(f"the-inner-one {(ssh / 'inner.pub').read_text()}")
    assert await arrives("inner") == "2202"


async def test_the_address_does_not_vouch_for_a_name(ssh: Path) -> None:
    """The name has another key than the one that whoever answers at the address had."""
    text = (ssh / "known_hosts").read_text().replace("machine1 ", "127.0.0.1 ")
    (ssh / "known_hosts").write_text(f"{text}machine1 {(ssh / 'inner.pub').read_text()}")
    assert "is not the one that" in (await refusal("machine1")).message


@pytest.mark.parametrize("name", ["of-machine1", "known"])
async def test_files_of_known_hosts_with_tokens(ssh: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    config(ssh, "UserKnownHostsFile %d/.ssh/of-%n ${ELSEWHERE}/known\n")
    monkeypatch.setenv("ELSEWHERE", str(ssh))
    (ssh / "known_hosts").rename(ssh / name)
    assert await arrives("machine1") == "22"


async def test_included_and_conditional_parts(ssh: Path) -> None:
    (ssh / "config.d").mkdir(exist_ok=True)
    (ssh / "config.d" / "inner").write_text("Match originalhost deep user root\nPort 2202\nHostName 127.0.0.1\n")
    config(ssh, "Include config.d/*\nMatch final host 127.0.0.1\nProxyJump machine1\n")
    assert await arrives("deep") == "2202"


@pytest.mark.parametrize("way", ['"{home}"/"relay" 2>/dev/null && true', "sh -c 'echo a word >&2; {home}/relay'"])
async def test_a_proxy_command_goes_through_a_shell(ssh: Path, machine: SshMachine, way: str) -> None:
    before = (ssh / "config").read_text()
    after = before.replace(f"ProxyCommand {machine.home}/relay", f"ProxyCommand {way.format(home=machine.home)}")
    assert after != before
    (ssh / "config").write_text(after)
    assert await arrives("machine1") == "22"


def hangs_up(ssh: Path, machine: SshMachine, times: int) -> Path:
    """Have the way to ``machine1`` end in the middle of the first *times* handshakes; the file counts them."""
    tried = machine.home / "tried"
    tried.write_text("")
    lines = [f"echo >>{tried}", f"[ $(wc -l <{tried}) -gt {times} ] && exec {machine.home}/relay", "echo SSH-2.0-busy"]
    (machine.home / "hangs-up").write_text("\n".join(["#!/bin/sh", *lines, "read -r _", ""]))
    (machine.home / "hangs-up").chmod(0o700)
    before = (ssh / "config").read_text()
    (ssh / "config").write_text(before.replace(f"{machine.home}/relay", f"{machine.home}/hangs-up"))
    return tried


async def test_a_machine_that_hangs_up_once_is_tried_again(ssh: Path, machine: SshMachine) -> None:
    tried = hangs_up(ssh, machine, 1)
    assert await arrives("machine1") == "22"
    assert tried.read_text() == "\n" * 2


async def test_a_machine_that_hangs_up_again_cannot_be_reached(ssh: Path, machine: SshMachine) -> None:
    tried = hangs_up(ssh, machine, 9)
    error = await refusal("machine1")
    assert isinstance(error, UnreachableError) and "ssh machine1" in error.hint
    assert tried.read_text() == "\n" * 2
