"""The micro guest for real: built from the distribution's packages, started under TCG, entered by key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from limosa import process
from limosa.deadline import Deadline
from limosa.errors import MachineError
from limosa.events import Events
from limosa.guest import built_images, lab_keys
from limosa.guest.agent import PORT_NAME, AgentClient
from limosa.guest.lab_keys import LabKeys
from limosa.guest.micro import seed as seeds

pytestmark = pytest.mark.system
QEMU = "qemu-system-x86_64"
BOOT_LIMIT_S = 90.0
MAC = "52:54:00:12:34:56"
REACHED_INIT, READY = "limosa: kernel reached init", "limosa: guest ready"


@dataclass
class Guest:
    """A running micro guest with user-mode networking, reachable on a loopback port."""

    directory: Path
    child: asyncio.subprocess.Process
    keys: LabKeys
    port: int
    ready_s: float

    @property
    def console(self) -> str:
        return (self.directory / "console.log").read_text(errors="replace")

    async def ssh(self, *words: str, options: tuple[str, ...] = (), check: bool = True) -> process.Completed:
        given = (
            *options,
            f"UserKnownHostsFile={self.directory / 'known_hosts'}",
            *("StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes", "ConnectTimeout=20"),
        )
        argv = ["ssh", "-F", "none", *(part for option in given for part in ("-o", option))]
        argv += ["-i", str(self.keys.user_key), "-p", str(self.port), "root@127.0.0.1", *words]
        return await process.run(argv, check=check, timeout_s=60)

    async def qmp(self, command: str) -> None:
        reader, writer = await asyncio.open_unix_connection(self.directory / "qmp")
        try:
            await reader.readline()
            for execute in ("qmp_capabilities", command):
                writer.write(json.dumps({"execute": execute}).encode() + b"\n")
                while b'"return"' not in (line := await reader.readline()):
                    assert b'"event"' in line, line
        finally:
            writer.close()


async def wait_printed(console: Path, text: str, child: asyncio.subprocess.Process) -> None:
    deadline = Deadline.after(BOOT_LIMIT_S)
    async for _ in deadline.ticks(0.05):
        if console.exists() and text in console.read_text(errors="replace"):
            return
        if child.returncode is not None:
            break
    printed = console.read_text(errors="replace") if console.exists() else "nothing"
    raise AssertionError(f"not printed: {text!r}; the console has: {printed}")


@pytest.fixture(scope="module")
def image() -> built_images.Image:
    """From the user's own cache when it is there, so that a second run is quick."""
    try:
        return asyncio.run(built_images.ensure("micro", Events()))
    except MachineError as error:
        pytest.skip(f"the image cannot be built: {error.message}")


@contextlib.asynccontextmanager
async def emulated(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A QEMU without KVM that ends with the test."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    common = ("-accel", "tcg", "-M", "q35,hpet=off", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
    argv = ["setpriv", "--pdeathsig", "KILL", QEMU, *common, "-m", "512", *words]
    child = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@contextlib.asynccontextmanager
async def booted(image: built_images.Image) -> AsyncIterator[Guest]:
    with tempfile.TemporaryDirectory(prefix="micro-test-") as folder, socket.socket() as free:
        directory = Path(folder)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        made = await lab_keys.make(directory / "keys")
        (directory / "known_hosts").write_text(made.known_hosts("127.0.0.1", port=port))
        seed = seeds.seed(
            hostname="guest1",
            address_cidr="10.0.2.15/24",
            gateway="10.0.2.2",
            mac=MAC,
            authorized_keys=made.authorized_keys,
            host_key=made.host_key.read_text(),
        )
        (directory / "initrd").write_bytes(image.initrd.read_bytes() + seed)
        await process.run(["cp", "--sparse=always", str(image.disk), str(directory / "disk.raw")])
        disk = {"driver": "raw", "node-name": "disk", "file": {"driver": "file", "filename": f"{directory}/disk.raw"}}
        started = time.monotonic()
        async with emulated(
            *("-kernel", str(image.kernel), "-initrd", f"{directory}/initrd", "-append", image.kernel_arguments),
            *("-blockdev", json.dumps(disk), "-device", "virtio-blk-pci,drive=disk"),
            *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22"),
            *("-device", f"virtio-net-pci,netdev=net,mac={MAC}", "-device", "virtio-rng-pci"),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={directory}/agent,server=on,wait=off"),
            *("-device", f"virtserialport,chardev=agent,name={PORT_NAME}"),
            *("-chardev", f"socket,id=tty,path={directory}/tty,server=on,wait=off,logfile={directory}/console.log"),
            *("-serial", "chardev:tty", "-qmp", f"unix:{directory}/qmp,server=on,wait=off"),
        ) as child:
            await wait_printed(directory / "console.log", READY, child)
            yield Guest(directory, child, made, port, time.monotonic() - started)


async def test_a_guest_is_entered_by_key_alone_has_its_tools_and_powers_off(image: built_images.Image) -> None:
    async with booted(image) as guest:
        print(f"ready after {guest.ready_s:.1f} s")
        assert guest.console.index(REACHED_INIT) < guest.console.index(READY)
        done = await guest.ssh(
            "hostname; sysbench --version; stress-ng --version; iperf3 --version; ip -4 addr show eth0;"
            " cat /sys/class/net/eth0/mtu; ip route; grep ' / ' /proc/mounts; cut -d: -f2 /etc/shadow | sort -u;"
            " cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6"
        )
        for expected in (
            r"^guest1$",
            r"^sysbench 1\.",
            r"^stress-ng, version",
            r"^iperf 3\.",
            r"inet 10\.0\.2\.15/24",
            r"^1500$",
            r"^default via 10\.0\.2\.2 dev eth0",
            r"^/dev/vda / ext4 rw,noatime.*data=ordered",
            r"^\*$",
            r"^1$",
        ):
            assert re.search(expected, done.text, re.MULTILINE), (expected, done.text)

        password = await guest.ssh("true", options=("PubkeyAuthentication=no",), check=False)
        assert password.returncode == 255
        assert b"Permission denied (publickey)." in password.stderr

        known = guest.keys.known_hosts("127.0.0.1", port=guest.port)
        (guest.directory / "known_hosts").write_text(known.replace("AAAAI", "AAAAJ", 1))
        unknown = await guest.ssh("true", check=False)
        assert unknown.returncode == 255, "the host key is checked strictly"
        (guest.directory / "known_hosts").write_text(known)
        await check_power_off(guest, "poweroff")


async def test_tools_work_the_agent_answers_and_the_power_button_is_heard(image: built_images.Image) -> None:
    async with booted(image) as guest:
        prime = await guest.ssh(
            "sysbench cpu --time=1 run; stress-ng --vm 1 --vm-bytes 16M --vm-ops 50 -t 10 --metrics-brief"
        )
        assert re.search(r"events per second:\s+\d", prime.text)
        assert "successful run completed" in prime.text + prime.stderr.decode()
        net = await guest.ssh("iperf3 -s -1 -D; until grep -q ':1451 ' /proc/net/tcp*; do usleep 50000; done;"
                              " iperf3 -c 127.0.0.1 -t 1 -J")  # fmt: skip
        assert json.loads(net.text)["end"]["sum_received"]["bytes"] > 0

        reader, writer = await asyncio.open_unix_connection(guest.directory / "agent")
        try:
            hello = await AgentClient(reader, writer).hello()
        finally:
            writer.close()
        print(hello)

        console = guest.directory / "tty"
        reader, writer = await asyncio.open_unix_connection(console)
        try:
            async with asyncio.timeout(30):
                writer.write(b"echo be''gun; sleep 100\n")
                await reader.readuntil(b"begun\r\n")
                said = b""
                while b"# " not in said:  # one that comes before sleep is running interrupts nothing
                    writer.write(b"\x03")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            said += await reader.read(100)
                writer.write(b"echo sum-$((40 + 2)) $(tty)\n")
                await reader.readuntil(b"sum-42 /dev/ttyS0")
        finally:
            writer.close()
        await check_power_off(guest, "system_powerdown")


async def check_power_off(guest: Guest, how: str) -> None:
    """It ends by itself, and its disk is clean."""
    await guest.ssh("echo kept >/mnt/file")
    if how == "poweroff":
        await guest.ssh("poweroff", check=False)
    else:
        await guest.qmp(how)
    async with asyncio.timeout(20):
        assert await guest.child.wait() == 0
    disk = str(guest.directory / "disk.raw")
    assert "clean" in (await process.run(["dumpe2fs", "-h", disk])).text.split("Filesystem state:")[1][:20]
    assert "needs_recovery" not in (await process.run(["dumpe2fs", "-h", disk])).text
    kept = await process.run(["debugfs", "-R", "cat /mnt/file", disk])
    assert kept.text == "kept"


async def test_without_a_disk_init_says_so_and_stops(image: built_images.Image, tmp_path: Path) -> None:
    words = ("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-serial", f"file:{tmp_path}/console.log")
    async with emulated(*words, "-append", f"{image.kernel_arguments} limosa.diskless=1") as child:
        async with asyncio.timeout(BOOT_LIMIT_S):
            assert await child.wait() == 0
    assert REACHED_INIT in (tmp_path / "console.log").read_text()


async def test_a_missing_disk_is_said_on_the_console(image: built_images.Image, tmp_path: Path) -> None:
    words = ("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-serial", f"file:{tmp_path}/console.log")
    async with emulated(*words, "-append", image.kernel_arguments) as child:
        async with asyncio.timeout(BOOT_LIMIT_S):
            assert await child.wait() == 0
    assert "limosa: no root disk /dev/vda" in (tmp_path / "console.log").read_text()


def test_every_file_on_the_disk_belongs_to_root(image: built_images.Image) -> None:
    assert _foreign(image.disk) == []


def _foreign(disk: Path) -> list[str]:
    """The files on an ext4 disk that are not root's."""
    tree = ["/"]
    foreign = []
    while tree:
        directory = tree.pop()
        listed = subprocess.run(
            ["debugfs", "-R", f"ls -p {directory}", disk], capture_output=True, text=True, check=True
        )
        for line in listed.stdout.splitlines():
            fields = line.split("/")
            if len(fields) >= 6 and fields[5] not in (".", "..", ""):
                path = f"{directory.rstrip('/')}/{fields[5]}"
                if fields[3:5] != ["0", "0"]:
                    foreign.append(path)
                if stat.S_ISDIR(int(fields[2], 8)):
                    tree.append(path)
    return foreign


BUILD = (
    "import asyncio; from limosa.events import Events; from limosa.guest import built_images;"
    "events = Events(lambda event: print(event, flush=True));"
    "print(asyncio.run(built_images.ensure('micro', events)).directory)"
)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; a user's build is the fixture's")
def test_an_ordinary_user_builds_the_same() -> None:
    with tempfile.TemporaryDirectory(prefix="micro-test-", dir="/var/tmp") as folder:
        os.chown(folder, 12345, 12345)
        user = ("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups")
        environment = os.environ | {"XDG_CACHE_HOME": folder, "HOME": folder}
        argv = [*user, sys.executable, "-B", "-c", BUILD]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300)
        if "could not be fetched" in done.stderr:
            pytest.skip("the packages could not be fetched")
        assert done.returncode == 0, done.stderr
        assert _foreign(Path(done.stdout.splitlines()[-1]) / "disk.raw") == []
        assert list(Path(folder).glob("limosa/images/.*")) == []


def test_a_build_killed_with_sigkill_leaves_no_process(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    argv = [sys.executable, "-c", BUILD]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        if not any(b"StageStarted" in line and b"fetch packages" in line for line in child.stdout):
            pytest.skip("the build does not come as far as fetching packages on this machine")
        wait_until(lambda: len(_working_in(tmp_path)) > 0)
        child.kill()
    wait_until(lambda: _working_in(tmp_path) == [])


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = Deadline.after(10)
    while not holds():
        assert not deadline.passed
        time.sleep(0.02)


def _working_in(directory: Path) -> list[str]:
    """The command lines of living processes that name the directory."""
    found = []
    for process_directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process_directory / "cmdline").read_bytes()
            if str(directory).encode() in line:
                found.append(line.decode(errors="replace"))
    return found
