"""The lab's hosts on a real machine: up, down, and up again after every kind of accident; nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from limosa import paths, spec
from limosa.deadline import Deadline
from limosa.errors import BusyError, LimosaError, MachineError, StateError
from limosa.hosts.namespaces.marks import marked
from limosa.lab import Lab, sweep
from limosa.lab.record import LabDirectory, Record
from tests import leftovers, namespaces

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.system

TWO = """
name: {name}
networks:
  guests: {{subnet: 10.99.1.0/24}}
  fast: {{subnet: 10.99.2.0/24, purpose: migration}}
hosts:
  host1: {{}}
  host2: {{}}
"""


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of its own, of which nothing may be left afterwards."""
    with tempfile.TemporaryDirectory(prefix="ll") as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        before = leftovers.snapshot([folder])
        yield Path(folder)
        for directory in Path(folder).glob("**/limosa/labs/*"):
            for pid in marked(os.path.realpath(directory)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        collect()
        left = leftovers.wait_settled(before)
        assert not [line for line in left if not line.startswith("folder")], "\n".join(left)


def collect() -> None:
    """Ended children of this process: fabrics made here that another command took down."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@pytest.fixture(params=["root", "rootless"])
def rootless(request: pytest.FixtureRequest) -> bool:
    namespaces.required(rootless=request.param == "rootless")
    return request.param == "rootless"


def two(name: str = "two", text: str = TWO) -> spec.Lab:
    return spec.loads(text.format(name=name))


def pids(directory: LabDirectory) -> tuple[int, dict[str, int]]:
    record = directory.record()
    assert record is not None
    known = namespaces.processes(record)
    return known.client_pid, known.hosts


def environment(env: dict[str, str] | None = None) -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | (env or {})


def command(
    *words: str, env: dict[str, str] | None = None, before: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """The real command line."""
    argv = [*before, sys.executable, "-m", "limosa", *words]
    return subprocess.run(argv, capture_output=True, text=True, env=environment(env), timeout=60)


@contextlib.contextmanager
def child(argv: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the latest when the context ends."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment()) as process:
        try:
            yield process
        finally:
            process.kill()


_ports = itertools.count(4000)


async def reaches(lab: Lab, source: str, address: str) -> bool:
    """Whether *source* gets a datagram to *address* and back; ping would need a raw socket."""
    port = next(_ports)
    owner = next((name for name, host in lab.spec.hosts.items() if address in host.addresses.values()), "client")
    echo = "import socket; s = socket.socket(2, 2); s.bind((%r, %d)); s.settimeout(3); s.sendto(*s.recvfrom(9))"
    ask = """
import socket, time
s = socket.socket(2, 2)
s.settimeout(0.1)
for _ in range(12):
    try:
        s.sendto(b"hello", (%r, %d))
        print(s.recv(9).decode())
        break
    except OSError:
        time.sleep(0.05)
"""
    answering = asyncio.create_task(
        lab.host(owner).run(["/usr/bin/python3", "-c", echo % (address, port)], check=False)
    )
    try:
        said = await lab.host(source).run(["/usr/bin/python3", "-c", ask % (address, port)])
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
    return said.text == "hello"


# -- up and down ------------------------------------------------------------------------------------------------------


async def test_up_again_changes_nothing_and_down_leaves_nothing(state: Path, rootless: bool) -> None:
    before = leftovers.snapshot([state])
    async with Lab.open(two(), rootless=rootless) as lab:
        assert await lab.up() == ["fabric", "host host1", "host host2"]
        seen = leftovers.difference(before, leftovers.snapshot([state]))
        for kind in ("process", "namespace", "folder"):
            assert any(line.startswith(kind) for line in seen), f"the counter would see a {kind}"
        there = pids(lab.directory)
        assert await lab.up() == []
        assert pids(lab.directory) == there
    async with Lab.open(two()) as lab:
        assert namespaces.processes(lab.record).rootless is rootless
        assert await lab.up() == []
        assert pids(lab.directory) == there
        assert await lab.down() is True
        assert await lab.down() is False
    assert leftovers.wait_settled(before) == []
    async with Lab.open(two(), rootless=rootless) as lab:
        assert len(await lab.up()) == 3, "up after down"
        await lab.down()


async def test_every_address_is_reached_from_everywhere(state: Path, rootless: bool) -> None:
    async with Lab.open(two(), rootless=rootless, ephemeral=True) as lab:
        await lab.up()
        clients = [network.client_address for network in lab.spec.networks.values()]
        places = {"client": clients} | {name: list(host.addresses.values()) for name, host in lab.spec.hosts.items()}
        pairs = [(a, address) for a in places for b in places if a != b for address in places[b]]
        assert len(pairs) == 12
        assert await asyncio.gather(*(reaches(lab, *pair) for pair in pairs)) == [True] * 12


async def test_cut_power_off_and_restore(state: Path, rootless: bool) -> None:
    async with Lab.open(two(), rootless=rootless, ephemeral=True) as lab:
        await lab.up()
        one, other = (list(host.addresses.values()) for host in lab.spec.hosts.values())
        await lab.hosts.cut("host2")
        assert not any(await asyncio.gather(*(reaches(lab, "host1", address) for address in other)))
        assert not await reaches(lab, "client", other[0])
        assert await reaches(lab, "client", one[0])
        assert (await lab.host("host2").run(["hostname"])).text == "host2", "what runs on it goes on"
        assert [host.state for host in (await lab.status()).hosts] == ["on", "cut"]
        async for _ in Deadline.after(10).ticks(0.05):
            if await unanswered(lab, "client") and await unanswered(lab, "host1"):
                break
        await lab.hosts.restore("host2")
        assert [await unanswered(lab, place) for place in ("client", "host1")] == ["", ""]
        assert await reaches(lab, "host1", other[1])
        for _ in range(5):  # the kernel clears the old links away in the background
            await lab.hosts.power_off("host2")
            assert [host.state for host in (await lab.status()).hosts] == ["on", "off"]
            assert await lab.up() == [], "what was switched off on purpose stays off"
            with pytest.raises(StateError, match="host host2 is off"):
                lab.host("host2")
            await lab.hosts.restore("host2")
        assert await reaches(lab, "host1", other[0])
        assert await reaches(lab, "host2", one[1])


async def unanswered(lab: Lab, place: str) -> str:
    """Whom *place* asks for, or asked for in vain: a connection to one of these may fail although it is back."""
    return (await lab.host(place).run(["ip", "-4", "neigh", "show", "nud", "failed", "nud", "incomplete"])).text


# -- accidents --------------------------------------------------------------------------------------------------------


async def test_up_repairs_a_host_that_was_killed(state: Path, rootless: bool) -> None:
    async with Lab.open(two(), rootless=rootless) as lab:
        await lab.up()
        for _ in range(5):
            client, hosts = pids(lab.directory)
            os.kill(hosts["host1"], signal.SIGKILL)
            await wait_ended(hosts["host1"])
            assert await lab.up() == ["host host1"]
            after, again = pids(lab.directory)
            assert (after, again["host2"]) == (client, hosts["host2"])
        assert await reaches(lab, "host2", next(iter(lab.spec.hosts["host1"].addresses.values())))
        await lab.down()


async def wait_ended(pid: int) -> None:
    """A process is killed some moments after it was told to be."""
    async for _ in Deadline.after(5).ticks(0.01):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state in "ZX":
            return
    raise AssertionError(f"{pid} does not end")


@pytest.mark.parametrize("which", ["client", "outer"])
async def test_up_repairs_a_fabric_that_was_killed(state: Path, rootless: bool, which: str) -> None:
    async with Lab.open(two(), rootless=rootless) as lab:
        await lab.up()
        known = namespaces.processes(lab.record)
        os.kill(known.client_pid if which == "client" else known.outer_pid, signal.SIGKILL)
        async for _ in Deadline.after(5).ticks(0.01):
            if not marked(lab.directory.mark):
                break
        assert await lab.up() == ["fabric", "host host1", "host host2"]
        assert await reaches(lab, "client", next(iter(lab.spec.hosts["host1"].addresses.values())))
        await lab.down()


async def test_what_is_not_on_record_is_found_and_goes_on(state: Path, rootless: bool) -> None:
    async with Lab.open(two(), rootless=rootless) as lab:
        await lab.up()
        there, whole = marked(lab.directory.mark), lab.directory.record()
        (lab.directory.path / "record.json").unlink()
    async with Lab.open(two(), rootless=rootless) as lab:
        assert await lab.up() == []
        assert (marked(lab.directory.mark), lab.directory.record()) == (there, whole)
        (lab.directory.path / "record.json").unlink()
    assert command("down", "--lab", "two").returncode == 0
    assert not marked(LabDirectory.named("two").mark)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"format": 1}', bytes(100)])
async def test_a_damaged_record_is_made_again_from_what_runs(state: Path, rootless: bool, damage: bytes) -> None:
    async with Lab.open(two(), rootless=rootless) as lab:
        await lab.up()
        there = pids(lab.directory)
        whole = lab.directory.record()
        (lab.directory.path / "record.json").write_bytes(damage)
    async with Lab.open("two") as lab:
        assert lab.record == whole
        assert [host.state for host in (await lab.status()).hosts] == ["on", "on"]
        os.kill(there[1]["host1"], signal.SIGKILL)
        await wait_ended(there[1]["host1"])
        assert await lab.up() == ["host host1"]
        assert pids(lab.directory)[0] == there[0]
        (lab.directory.path / "record.json").write_bytes(damage)
    assert command("down", "--lab", "two").returncode == 0


async def test_a_record_that_points_at_innocents_harms_nobody(state: Path, rootless: bool) -> None:
    """After a reboot, pids belong to others: to any program, or to the keepers of another lab."""
    with child(["sleep", "600"]) as innocent:
        async with Lab.open(two("other"), rootless=rootless, ephemeral=True) as other:
            await other.up()
            client, hosts = pids(other.directory)
            outer = namespaces.processes(other.record).outer_pid
            for numbers in (
                {"outer_pid": innocent.pid, "client_pid": innocent.pid, "hosts": {"host1": innocent.pid, "host2": 1}},
                {"outer_pid": outer, "client_pid": client, "hosts": hosts},
                {"outer_pid": innocent.pid, "client_pid": client, "hosts": {"host1": hosts["host2"]}},
                {"outer_pid": 0, "client_pid": 4_194_304, "hosts": {"host1": os.getpid()}},
            ):
                for verb, version in itertools.product(("down", "up", "sweep"), (1, 2)):
                    directory = LabDirectory.named("two")
                    directory.create(two())
                    known: dict[str, object] = {"rootless": rootless} | numbers
                    parts = known if version == 1 else {"kinds": {namespaces.NAME: known}}
                    record = {"format": version, "ephemeral": verb == "sweep"} | parts
                    (directory.path / "record.json").write_text(json.dumps(record))
                    async with Lab.open("two") as lab:
                        assert not (await lab.status()).up
                        if verb == "sweep":
                            assert sweep() == ["two"]
                            continue
                        if verb == "up":
                            assert len(await lab.up()) == 3
                        assert await lab.down()
            assert await other.up() == [], "the other lab is whole"
            assert pids(other.directory) == (client, hosts)
        assert innocent.poll() is None


# -- several commands -------------------------------------------------------------------------------------------------


async def test_two_labs_of_one_file_in_two_state_directories(state: Path, rootless: bool, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(TWO.format(name="two"))
    places = [{"XDG_STATE_HOME": str(state / name)} for name in "ab"]
    made = await asyncio.gather(*(asyncio.to_thread(command, "up", str(file), env=env) for env in places))
    assert [done.returncode for done in made] == [0, 0], made
    assert command("down", str(file), env=places[0]).returncode == 0
    assert '"on"' in command("status", "--lab", "two", "--json", env=places[1]).stdout
    assert command("down", str(file), env=places[1]).returncode == 0


async def test_concurrent_ups_make_one_lab(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(TWO.format(name="two"))
    with LabDirectory.named("two").locked("limosa up"):
        busy = await asyncio.to_thread(command, "up", str(file))
    assert busy.returncode == BusyError.exit_code == 5, busy
    assert "limosa up" in busy.stderr and "is at work on it" in busy.stderr
    done = await asyncio.gather(*(asyncio.to_thread(command, "up", str(file)) for _ in range(4)))
    assert {each.returncode for each in done} <= {0, 5} and 0 in {each.returncode for each in done}
    mark = LabDirectory.named("two").mark
    assert len(marked(mark)) == 6, "three keepers, each with the process that waits for it"
    assert command("down", str(file)).returncode == 0


async def test_down_while_up_waits_never_loses_the_lock(state: Path) -> None:
    directory = LabDirectory.named("two")
    with directory.locked("one"):
        directory.remove()
        with directory.locked("another"):  # a new lab of that name
            directory.create(two())
        lock = (directory.path / "lock").stat().st_ino
    assert (directory.path / "lock").stat().st_ino == lock
    directory.remove()
    assert not list(paths.labs().iterdir())


async def test_a_rootless_lab_serves_the_command_line(state: Path, rootless: bool) -> None:
    async with Lab.open(two(), rootless=rootless) as lab:
        await lab.up()
    assert command("up", "--lab", "two").stdout == "nothing to do: the lab is up\n"
    assert command("host", "power-off", "host1").returncode == 0
    assert command("host", "restore", "host1").returncode == 0
    status = command("status", "--json")
    assert status.stdout.count('"on"') == 2, status
    assert command("down").returncode == 0


# -- ephemeral labs ---------------------------------------------------------------------------------------------------

EPHEMERAL = """
import asyncio, sys
from limosa import spec
from limosa.lab import Lab
async def work():
    async with Lab.open(spec.loads(sys.argv[1]), ephemeral=True, rootless=sys.argv[2] == "True") as lab:
        await lab.up()
        await lab.host("client").spawn(["sleep", "600"], log="/run/sleep.log")
        print("up", flush=True)
        await asyncio.sleep(600)
asyncio.run(work())
"""


@pytest.mark.parametrize("text", [TWO, "name: {name}\nhosts: {{only: {{}}}}"])
async def test_an_ephemeral_lab_dies_with_its_process(state: Path, rootless: bool, text: str) -> None:
    before = leftovers.snapshot([state])
    argv = [sys.executable, "-c", EPHEMERAL, text.format(name="brief"), str(rootless)]
    with child(argv) as other:
        assert other.stdout is not None
        assert await asyncio.to_thread(other.stdout.readline) == b"up\n"
        assert leftovers.difference(before, leftovers.snapshot([state]))
        other.kill()
    assert leftovers.wait_settled(before) == []
    assert not list(paths.labs().iterdir()), "its directory is gone too"


async def test_an_ephemeral_lab_ends_with_its_context_even_after_an_error(state: Path, rootless: bool) -> None:
    before = leftovers.snapshot([state])
    with pytest.raises(ZeroDivisionError):
        async with Lab.open(two(), ephemeral=True, rootless=rootless) as lab:
            await lab.up()
            raise ZeroDivisionError
    assert leftovers.wait_settled(before) == []


async def test_an_ephemeral_lab_does_not_take_over_one_that_is_up(state: Path) -> None:
    async with Lab.open(two()) as lab:
        await lab.up()
        with pytest.raises(StateError, match="is up already"):
            async with Lab.open(two(), ephemeral=True):
                pass
        assert await lab.up() == []
        await lab.down()


async def test_sweep_deletes_what_a_killed_pair_left_and_nothing_else(state: Path) -> None:
    async with Lab.open(two("kept")) as kept, Lab.open(two("brief"), ephemeral=True) as brief:
        await kept.up()
        await brief.up()
        dead = LabDirectory.named("dead")
        dead.create(two("dead"))
        dead.save(Record(ephemeral=True, kinds=namespaces.kinds(outer_pid=os.getpid(), client_pid=os.getpid())))
        (paths.labs() / ".old.1.gone").mkdir()
        with dead.locked("another command"):
            assert sweep() == []
        assert sweep() == ["dead"]
        assert sorted(path.name for path in paths.labs().iterdir()) == ["brief", "kept"]
        await kept.down()


# -- limits -----------------------------------------------------------------------------------------------------------


async def test_names_as_long_as_they_may_be(state: Path, rootless: bool) -> None:
    text = (
        "name: abcdefghijklmno\nnetworks:\n  abcdefghijkl: {subnet: 10.99.1.0/24}\n"
        "  abcdefghijkm: {subnet: 10.99.2.0/24, purpose: migration}\n"
        "hosts:\n  abcdefghijklmno: {}\n  abcdefghijklmnp: {}\n"
    )
    async with Lab.open(spec.loads(text), rootless=rootless, ephemeral=True) as lab:
        await lab.up()
        for address in lab.spec.hosts["abcdefghijklmnp"].addresses.values():
            assert await reaches(lab, "abcdefghijklmno", address)
        assert (await lab.host("abcdefghijklmno").run(["hostname"])).text == "abcdefghijklmno"


async def test_a_state_directory_that_takes_no_file(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(TWO.format(name="two"))
    for place in ("/proc/limosa-test", "/dev/null"):
        done = command("up", str(file), env={"XDG_STATE_HOME": place})
        assert done.returncode == MachineError.exit_code == 3, done
        assert "XDG_STATE_HOME" in done.stderr
    user = ["--user", "--map-root-user"] if os.geteuid() else []
    script = 'mount -t tmpfs -o ro none "$1" && shift && exec "$@"'
    readonly = ["unshare", *user, "--mount", "sh", "-c", script, "sh", str(state)]
    ro = command("up", str(file), before=readonly)
    assert ro.returncode == 3, ro
    assert "Read-only file system" in ro.stderr


async def test_a_state_directory_reached_by_another_name_is_the_same(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Lab.open(two()) as lab:
        await lab.up()
    (tmp_path / "link").symlink_to(state)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "link"))
    async with Lab.open("two") as lab:
        assert await lab.up() == []
        await lab.down()


async def test_a_state_directory_in_run(tmp_path: Path) -> None:
    """Hosts cover /run by one of their own; a lab whose files are there has to work, and to go, all the same."""
    place = Path("/run/user") / str(os.geteuid())
    if not os.access(place, os.W_OK):
        place = Path("/run")
    if not os.access(place, os.W_OK):
        pytest.skip("nothing below /run is ours to write")
    with tempfile.TemporaryDirectory(prefix="limosa-test", dir=place) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", folder)
        argv = [sys.executable, "-c", EPHEMERAL, TWO.format(name="brief"), str(os.geteuid() != 0)]
        with child(argv) as other:
            assert other.stdout is not None
            assert await asyncio.to_thread(other.stdout.readline) == b"up\n"
            other.kill()
        async for _ in Deadline.after(5).ticks(0.05):
            if not list(paths.labs().iterdir()):
                return
        raise AssertionError("the directory is left")


async def test_no_namespaces_is_said_and_leaves_nothing(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that forbids namespaces, made by an ``unshare`` that fails as there."""
    (state / "bin").mkdir()
    fake = state / "bin" / "unshare"
    fake.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o700)
    monkeypatch.setenv("PATH", f"{state}/bin:{os.environ['PATH']}")
    for rootless in (True, False):
        with pytest.raises(MachineError, match="Operation not permitted") as caught:
            async with Lab.open(two(), rootless=rootless) as lab:
                await lab.up()
        assert caught.value.hint
    with pytest.raises(LimosaError):
        async with Lab.open("nosuch"):
            pass
