"""A lab's record that is lost or wrong: what runs is found by its mark and goes on; what is half made is made anew."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from limosa import spec
from limosa.deadline import Deadline
from limosa.hosts.namespaces import marks
from limosa.hosts.namespaces.first_process import Keeper
from limosa.hosts.namespaces.host import NamespaceHost
from limosa.hosts.namespaces.marks import is_first, marked
from limosa.hosts.namespaces.traces import observed
from limosa.lab import Lab
from limosa.lab.construction import Construction
from limosa.lab.record import LabDirectory, Record
from tests import leftovers, namespaces

pytestmark = pytest.mark.system
TWO = """
name: two
networks:
  guests: {subnet: 10.99.1.0/24}
hosts:
  host1: {}
  host2: {}
"""


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[LabDirectory]:
    """The lab's; nothing of it is left afterwards."""
    namespaces.required(rootless=os.geteuid() != 0)
    with tempfile.TemporaryDirectory(prefix="ll") as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        before = leftovers.snapshot([folder])
        found = LabDirectory.named("two")
        yield found
        ended = list(marked(found.mark))
        for pid in ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in ended:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        # Of other children those that have ended: Python has one that lasts as long as it does (multiprocessing's).
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        assert not [line for line in leftovers.wait_settled(before) if not line.startswith("folder")]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run([sys.executable, "-m", "limosa", *words], capture_output=True, text=True, env=env, timeout=60)


def keepers(directory: LabDirectory) -> dict[str, int]:
    seen = observed(directory.mark)
    return {} if seen is None else {"client": seen.client_pid} | seen.hosts


def deleted(record: Record, path: Path) -> None:
    path.unlink()


def written(**fields: object) -> Callable[[Record, Path], None]:
    """The record with other *fields*, its own and those of its namespaces."""

    def damage(record: Record, path: Path) -> None:
        told = json.loads(path.read_bytes())
        part = told["kinds"].setdefault(namespaces.NAME, {})
        for name, value in fields.items():
            (told if name in Record.__struct_fields__ else part)[name] = value
        path.write_text(json.dumps(told))

    return damage


def exchanged(record: Record, path: Path) -> None:
    """Each host has the other's pid."""
    hosts = namespaces.processes(record).hosts
    written(hosts=dict(zip(hosts, reversed(hosts.values()), strict=True)))(record, path)


@pytest.mark.parametrize("damage", [
    deleted, exchanged, written(client_pid=1), written(client_pid=0, hosts={}), written(hosts={}),
    written(hosts={"host1": os.getpid()}), written(off=["host1"], hosts={}), written(rootless=True, client_pid=0),
])  # fmt: skip
async def test_what_runs_goes_on(directory: LabDirectory, damage: Callable[[Record, Path], None]) -> None:
    """As the commands see it, one after the other: nothing is ended, and the record is right again."""
    async with Lab.open(spec.loads(TWO)) as lab:
        await lab.up()
        for host in ("host1", "host2"):  # stands for what a user has running there
            await lab.host(host).spawn(["sleep", "600"], log="/run/sleep.log")
        whole, there = directory.record(), keepers(directory)
        assert whole is not None
        damage(whole, directory.path / "record.json")
    status = json.loads(command("status", "--lab", "two", "--json").stdout)
    assert (status["up"], [host["state"] for host in status["hosts"]]) == (True, ["on", "on"])
    assert command("exec", "host1", "--", "pgrep", "sleep").returncode == 0, "found without a name too"
    done = command("up", "--lab", "two")
    assert (done.returncode, done.stdout) == (0, "nothing to do: the lab is up\n"), done
    assert (keepers(directory), directory.record()) == (there, whole)


async def test_a_process_that_a_host_is_about_to_start_is_no_host(directory: LabDirectory) -> None:
    """Between its making and its program's execution it has the command line of its maker."""
    async with Lab.open(spec.loads(TWO)) as lab:
        await lab.up()
        there, host = keepers(directory), lab.host("host1")
        words = ["--lab", directory.mark, "--host", "host1"]
        await host.spawn(
            ["sh", "-c", "sleep 600; :", "/limosa/hosts/namespaces/keeper.py", *words], log="/run/sleep.log"
        )
        seen = 0
        async for _ in Deadline.after(20).ticks(0.01):
            seen = len(marked(directory.mark, "host1"))  # what the shell makes is one too, for a moment
            if seen == 3:
                break
        assert seen == 3, "its unshare, its first process, and this one"
        assert keepers(directory) == there


def as_a_keeper(directory: LabDirectory) -> subprocess.Popen[bytes]:
    """A process of this machine that bears the mark of the lab's host1; the caller ends its group."""
    words = ["/limosa/hosts/namespaces/keeper.py", "--lab", directory.mark, "--host", "host1"]
    return subprocess.Popen(["sh", "-c", "sleep 600; :", *words], process_group=0)


async def test_what_one_made_while_it_was_ended_is_ended_too(
    directory: LabDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = [as_a_keeper(directory) for _ in range(2)]
    both = [child.pid for child in children]
    async for _ in Deadline.after(20).ticks(0.01):  # the kernel shows the command line of a new program a little later
        if marked(directory.mark) == both:
            break
    looks: list[list[int]] = []

    def look(lab: str, host: str = "") -> list[int]:
        """The first look is too early for one of them."""
        looks.append(marked(lab, host) if looks else both[:1])
        return looks[-1]

    monkeypatch.setattr(marks, "marked", look)
    try:
        assert await marks.end_marked(directory.mark)
        assert looks == [both[:1], both[1:], []]
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_running_guest_goes_on(directory: LabDirectory) -> None:
    file = directory.path.parents[2] / "two.yaml"
    file.write_text(TWO + "guests: {web: {image: bare, host: host1, memory: 32 MiB, accel: tcg}}\n")
    assert (made := command("up", str(file))).returncode == 0, made
    record = directory.record()
    assert record is not None
    qemu = guest_pids(directory)
    assert len(qemu) == 1
    for damage in (deleted, exchanged, written(client_pid=0, hosts={})):
        damage(record, directory.path / "record.json")
        done = command("up", str(file))
        assert (done.returncode, done.stdout) == (0, "nothing to do: the lab is up\n"), done
        assert guest_pids(directory) == qemu
    assert command("down", "--lab", "two").returncode == 0
    assert guest_pids(directory) == []


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_guests_damaged_record_hides_nothing_and_stops_no_other(directory: LabDirectory) -> None:
    file = directory.path.parents[2] / "two.yaml"
    bare = "{image: bare, host: host1, memory: 32 MiB, accel: tcg}"
    file.write_text(TWO + f"guests: {{web: {bare}, other: {bare}}}\n")
    assert (made := command("up", "--no-start", str(file))).returncode == 0, made
    assert (made := command("start", "web")).returncode == 0, made
    (directory.guest("web") / "record.json").write_text("{")
    told = json.loads(command("status", "--json").stdout)["guests"]
    assert [guest["state"] for guest in told] == ["running", "stopped"]
    assert "record.json is damaged" in told[0]["unfinished"]
    qemu = guest_pids(directory)
    assert (done := command("start", "other")).returncode == 0, done
    assert set(qemu) < set(guest_pids(directory))
    assert command("down", "--lab", "two").returncode == 0


def test_a_host_that_does_not_answer_is_not_made_anew_over_what_runs_there(directory: LabDirectory) -> None:
    file = directory.path.parents[2] / "two.yaml"
    file.write_text(TWO)
    assert command("up", str(file)).returncode == 0
    there = keepers(directory)
    assert command("exec", "host1", "--", "rm", "/run/limosa/keeper.sock").returncode == 0
    for words in (("host", "restore", "host1"), ("up", str(file))):
        done = command(*words)
        assert done.returncode == 4 and "does not answer" in done.stderr, done
        assert keepers(directory) == there
    assert command("down", "--lab", "two").returncode == 0


def guest_pids(directory: LabDirectory) -> list[int]:
    """The QEMUs that run on the lab's hosts."""
    spaces = {Path(f"/proc/{pid}/ns/pid").readlink() for pid in marked(directory.mark)}
    spaces.discard(Path("/proc/self/ns/pid").readlink())  # that of the processes that only wait
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            runs = b"qemu-system" in (entry / "cmdline").read_bytes().split(b"\0")[0]
            if runs and (entry / "ns/pid").readlink() in spaces:
                found.append(int(entry.name))
    return sorted(found)


async def test_a_host_that_died_too_is_made_again_and_no_other(directory: LabDirectory) -> None:
    async with Lab.open(spec.loads(TWO)) as lab:
        await lab.up()
        there = keepers(directory)
        (directory.path / "record.json").unlink()
        os.kill(there["host1"], signal.SIGKILL)
        wait_for(lambda: "host1" not in keepers(directory))
    async with Lab.open("two") as lab:
        assert await lab.up() == ["host host1"]
        after = keepers(directory)
        assert (after["client"], after["host2"]) == (there["client"], there["host2"])


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("files", [("spec.json",), ("record.json", "spec.json"), ("record.json", "spec.json", "place")])
def test_with_its_description_lost_too_down_takes_it_away(
    directory: LabDirectory, files: Sequence[str], by_name: bool
) -> None:
    """Every verb says how, and that leads out."""
    lab = directory.path.parents[2] / "two.yaml"
    lab.write_text(TWO)
    assert command("up", str(lab)).returncode == 0
    for file in files:
        (directory.path / file).unlink()
    way_out = ["down", "--lab", "two"] if by_name else ["down", str(lab)]
    for words in ([], ["--lab", "two"]) if by_name else (["--lab", str(lab)],):
        told = command("status", *words)
        assert told.returncode == 4 and "lab two is up" in told.stderr, told
        assert f"hint: limosa {' '.join(way_out)} ends" in told.stderr
    done = command(*way_out)
    assert (done.returncode, marked(directory.mark), directory.path.exists()) == (0, [], False), done


async def test_a_lost_record_is_told_once(directory: LabDirectory) -> None:
    async with Lab.open(spec.loads(TWO)) as lab:
        await lab.up()
    (directory.path / "record.json").unlink()
    assert command("up", "--lab", "two").stderr.count("is lost; made again from what runs") == 1
    assert command("down", "--lab", "two").returncode == 0


async def test_another_description_does_not_pass_for_a_lab_whose_record_is_lost(directory: LabDirectory) -> None:
    async with Lab.open(spec.loads(TWO)) as lab:
        await lab.up()
    there = keepers(directory)
    (directory.path / "record.json").unlink()
    other = directory.path.parent / "two.yaml"
    other.write_text(TWO.replace("host2", "host3"))
    done = command("up", str(other))
    assert done.returncode == 4 and "made from another description" in done.stderr, done
    assert keepers(directory) == there


HALF = """
import asyncio, os, signal, sys
from limosa import spec
from limosa.lab import Lab
from limosa.network import ip
seen = 0
async def killed(*_):
    global seen
    seen += 1
    if seen == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return await real(*_)
real = getattr(ip, sys.argv[2])
setattr(ip, sys.argv[2], killed)
async def work():
    async with Lab.open(spec.loads(sys.argv[1])) as lab:
        await lab.up()
asyncio.run(work())
"""


@pytest.mark.parametrize(
    ("step", "time_of_it", "kept"), [("make_fabric", 1, []), ("join", 1, []), ("join", 2, ["host1"])]
)
async def test_what_a_killed_command_left_half_made_is_made_anew(
    directory: LabDirectory, step: str, time_of_it: int, kept: list[str]
) -> None:
    """Killed before a fabric has its bridges, or a host its links; what was whole by then stays."""
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-c", HALF, TWO, step, str(time_of_it)]
    assert (await asyncio.to_thread(subprocess.run, words, env=env, timeout=60)).returncode == -signal.SIGKILL
    half = marked(directory.mark)
    assert half, "something was made"
    before = keepers(directory)
    assert sorted(set(before) - {"client"}) == kept
    async with Lab.open(spec.loads(TWO)) as lab:
        made = await lab.up()
        assert [name for name in ("host1", "host2") if f"host {name}" not in made] == kept
        address = lab.spec.hosts["host2"].addresses["guests"]
        assert (await lab.host("host1").run(["ip", "-4", "addr", "show", "to", "10.99.1.0/24"])).text
        assert (await lab.host("client").run(["ip", "-4", "route", "get", address])).text
        after = keepers(directory)
        assert sorted(after) == ["client", "host1", "host2"]
        assert {name: after[name] for name in before} == before
        await lab.down()


def test_a_terminal_that_is_closed_ends_a_command_in_order(directory: LabDirectory) -> None:
    """As a window of tmux, or a lost login: what it had made is in order, and another command goes on from there."""
    file = directory.path.parents[2] / "two.yaml"
    file.write_text(TWO)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm"}
    pid, terminal = pty.fork()
    if not pid:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it may be ignored here, as below ``nohup``
        os.execve(sys.executable, [sys.executable, "-m", "limosa", "up", str(file)], environment)
    wait_for(lambda: bool(marked(directory.mark)))
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    with directory.locked("this test"):
        pass
    assert command("up", str(file)).returncode == 0
    assert sorted(keepers(directory)) == ["client", "host1", "host2"]
    assert command("down", "--lab", "two").returncode == 0


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come to that")


async def test_a_host_with_a_guest_in_it_is_whole_whatever_it_says(directory: LabDirectory) -> None:
    async with Lab.open(spec.loads(TWO)) as lab:
        await lab.up()
        host = lab.host("host1")
        assert isinstance(host, NamespaceHost) and isinstance(host.keeper, Keeper)
        await host.run(["rm", "/run/limosa/whole"])
        assert not host.keeper.whole()
        await host.spawn(["tail", "-f", "/dev/null", "--", "/run/limosa/guests"], log="/run/tail.log")
        assert not host.keeper.whole(), "that is no guest's"
        guest = "exec -a /run/limosa/guests/web/qemu.pid sleep 600"
        await host.spawn(["bash", "-c", guest], log="/run/guest.log")
        wait_for(host.keeper.whole)
        await lab.down()


async def test_the_unshare_that_outlives_a_host_is_not_taken_for_it(directory: LabDirectory) -> None:
    """It sees the fabric's files, by which the fabric is whole: a host that has just ended would be "no answer"."""
    async with Lab.open(spec.loads(TWO)) as lab:
        await lab.up()
        keeper = namespaces.processes(lab.record).hosts["host1"]
        whole = {pid: Keeper(pid, "host1", directory.mark).whole() for pid in marked(directory.mark, "host1")}
        assert len(whole) == 2 and [pid for pid in whole if whole[pid]] == [keeper]
        await lab.down()


async def test_a_host_that_ends_meanwhile_keeps_no_other_from_coming_back(
    directory: LabDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may ask anew for a host that is back is a comfort: a host that has just ended cannot, and is no error."""
    forget = Construction.forget_silence

    async def ended(self: Construction) -> None:
        os.kill(namespaces.processes(self.hosts.record).hosts["host1"], signal.SIGKILL)
        wait_for(lambda: not any(map(is_first, marked(directory.mark, "host1"))))
        await forget(self)

    async with Lab.open(spec.loads(TWO)) as lab:
        await lab.up()
        await lab.hosts.cut("host2")
        monkeypatch.setattr(Construction, "forget_silence", ended)
        await lab.hosts.restore("host2")
        assert lab.record.cut == []
        monkeypatch.undo()
        assert await lab.up() == ["host host1"]
        await lab.down()
