"""The disk that holds a lab's state fills up while it is up: nothing is lost, and what cannot be done says so."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import micro_image
from tests.limosa_command import Command, Traces

pytestmark = pytest.mark.system

LAB = """\
name: full
hosts: {host1: {}, host2: {}}
guests:
  bare: {host: host1, image: bare, memory: 64 MiB, accel: tcg}
  micro: {host: host1, memory: 256 MiB}
"""
WATCH = """
import asyncio, sys
from limosa import Lab, Workload, watch
from limosa.errors import LimosaError

async def work():
    async with Lab.open("full") as lab, watch(lab, "micro", workload=Workload()):
        await asyncio.sleep(1)

try:
    asyncio.run(work())
except LimosaError as error:
    print(error.message, error.hint)
    sys.exit(error.exit_code)
"""
EXPECT = "no space left in {}"


@dataclass
class Disk:
    """A small file system in a mount namespace that goes on, and the command line there."""

    command: Command
    state: Path

    def inside(self, script: str) -> str:
        words = [*self.command.prefix, "sh", "-ec", script]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not one more block, and no more inodes than a block holds."""
        filler = shlex.quote(str(self.state / "filler"))
        self.inside(f"cat /dev/zero >{filler} 2>/dev/null || true")
        try:
            yield
        finally:
            self.make_room()

    def make_room(self) -> None:
        self.inside(f"rm -f {shlex.quote(str(self.state / 'filler'))}")

    def files(self) -> list[str]:
        return sorted(self.inside(f"find {shlex.quote(str(self.state))} -not -name runs").splitlines())

    def guests(self) -> dict[str, tuple[str, str]]:
        found = self.command.ok("status", "--lab", "full", "--json").json["guests"]
        return {guest["name"]: (guest["state"], guest["host"]) for guest in found}


@pytest.fixture(scope="module")
def disk() -> Iterator[Disk]:
    micro_image.at_hand()
    home = Path(tempfile.mkdtemp(prefix="limosa-full-"))
    state = home / "state"
    state.mkdir()
    script = f"mount -t tmpfs -o size=1g none {shlex.quote(str(state))} && echo mounted && read line"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdin is not None and holder.stdout is not None
        if holder.stdout.readline() != "mounted\n":
            pytest.skip("mounts of one's own cannot be made")
        prefix = ("nsenter", "--mount", "--target", str(holder.pid), f"--wd={home}")
        command = Command(home, prefix, {"XDG_STATE_HOME": str(state)})
        (home / "full.yaml").write_text(LAB)
        traces = Traces(home)
        command.ok("up", "full.yaml", timeout_s=300)
        yield Disk(command, state)
        command.ok("down", "--lab", "full")
        traces.assert_gone(within_s=0)
        holder.stdin.close()
    shutil.rmtree(home)


def test_a_move_is_refused_and_the_guest_goes_on(disk: Disk) -> None:
    """Without a journal nobody could settle a move that is broken off: none begins."""
    with disk.full():
        moved = disk.command.run("migrate", "bare", "host2", "--lab", "full")
        assert disk.guests()["bare"] == ("running", "host1")
    moved.refused(6, "journal cannot be written: No space left on device; bare is on host1", hint="make room for")
    disk.command.ok("migrate", "bare", "host2", "--lab", "full")
    assert disk.guests()["bare"] == ("running", "host2")
    disk.command.ok("migrate", "bare", "host1", "--lab", "full")


def test_no_guest_is_started_where_none_can_be_recorded(disk: Disk) -> None:
    disk.command.ok("stop", "bare", "--lab", "full")
    before = disk.files()
    with disk.full():
        for words in (("start", "bare", "--lab", "full"), ("up", "full.yaml")):
            disk.command.run(*words).refused(3, EXPECT.format(disk.state), hint="make room")
        assert disk.guests()["bare"][0] == "stopped"
    assert disk.files() == before
    disk.command.ok("start", "bare", "--lab", "full")


def test_a_guest_whose_disk_is_full_goes_on_when_there_is_room(disk: Disk) -> None:
    write = "dd if=/dev/urandom of=big bs=1M count=64 && sync && rm big && sync"
    with disk.full(), disk.command.begin("ssh", "micro", "--lab", "full", "--", write) as writing:
        for _ in range(600):
            if disk.guests()["micro"] == ("io-error", "host1"):
                break
            time.sleep(0.2)
        else:
            raise AssertionError(f"it wrote where no room was: {writing.poll()}")
        disk.make_room()
        said = disk.command.ok("start", "micro", "--lab", "full")
        assert "micro was stopped on host1, as its disk took no more: it is let go on" in said.errors
        writing.communicate(timeout=120)
        assert writing.returncode == 0
    assert disk.guests()["micro"] == ("running", "host1")


def test_a_watch_with_a_workload_leaves_the_guest_free(disk: Disk) -> None:
    words = [*disk.command.prefix, *disk.command.python, "-c", WATCH]
    before = disk.files()

    def watched() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, env=disk.command.env(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    with disk.full():
        said = watched()
    assert said.returncode == 3, said
    assert said.stdout.startswith(EXPECT.format(disk.state)) and "make room" in said.stdout, said
    assert disk.files() == before
    disk.command.ok("start", "micro", "--lab", "full")
    again = watched()
    assert again.returncode == 0, again
