"""The agent in a real guest: virtio-serial, clients that come and go, and a live migration."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from limosa.deadline import Deadline
from limosa.errors import LimosaError, StateError
from limosa.events import Events
from limosa.guest.agent import PORT_NAME, AgentClient, build
from limosa.guest.micro import kernel

pytestmark = pytest.mark.system

MEBIBYTE = 1 << 20
BOOT_LIMIT_S = 90.0
INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox ip link set lo up
/limosa-agent &
for module in $(/bin/busybox cat /order); do /bin/busybox insmod /modules/$module; done
wait
"""


@dataclass(frozen=True)
class Image:
    """What a guest boots from."""

    kernel: Path
    initramfs: Path


def _unpack_kernel(folder: Path) -> Path:
    """The distribution's cloud kernel, downloaded and unpacked but not installed; skips where that fails."""
    for program in ("qemu-system-x86_64", "apt-get", "dpkg-deb", "busybox", "gcc"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    shown = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True)
    found = re.search(r"Depends: (linux-image-\S+)", shown.stdout)
    if not found:
        pytest.skip("apt knows no package linux-image-cloud-amd64")
    got = subprocess.run(["apt-get", "download", found[1]], cwd=folder, capture_output=True, text=True)
    if got.returncode:
        pytest.skip(f"the kernel package cannot be downloaded: {got.stderr.strip()[-200:]}")
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder / "kernel"], check=True)
    return folder / "kernel"


def _pack(folder: Path, unpacked: Path) -> Path:
    tree = folder / "tree"
    order = asyncio.run(kernel.load_order(kernel.find(unpacked), unpacked, ("virtio_pci", "virtio_console")))
    for directory in ("bin", "dev", "proc", "sys", "modules"):
        (tree / directory).mkdir(parents=True)
    for module in order:
        (tree / "modules" / module.name).write_bytes(module.data)
    (tree / "order").write_text("\n".join(module.name for module in order))
    shutil.copy(shutil.which("busybox") or "", tree / "bin/busybox")
    asyncio.run(build(tree / "limosa-agent", Events()))
    (tree / "init").write_bytes(INIT)
    (tree / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*"))).encode()
    packed = subprocess.run(
        ["busybox", "cpio", "-o", "-H", "newc", "-R", "0:0"],
        cwd=tree,
        input=names,
        capture_output=True,
        check=True,
    )
    (folder / "initramfs").write_bytes(gzip.compress(packed.stdout, 1))
    return folder / "initramfs"


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with tempfile.TemporaryDirectory(prefix="limosa-agent-image-") as name:
        unpacked = _unpack_kernel(Path(name))
        yield Image(kernel.find(unpacked).file, _pack(Path(name), unpacked))


@dataclass
class Machine:
    """A QEMU; its sockets for QMP and the agent's port are in ``folder``, named after ``name``."""

    folder: Path
    name: str
    process: asyncio.subprocess.Process
    clients: list[AgentClient] = field(default_factory=list)

    def connect(self, end: str) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX)
        try:
            connected.connect(str(self.folder / f"{self.name}-{end}"))
        except OSError:
            connected.close()
            raise
        return connected

    async def client(self) -> AgentClient:
        self.clients.append(await AgentClient.open(self.connect("agent")))
        return self.clients[-1]

    async def qmp(self, *commands: dict[str, Any]) -> Any:
        """Run commands over a connection of their own; returns what the last one returned."""
        reader, writer = await asyncio.open_unix_connection(sock=self.connect("qmp"))
        answer: Any = None
        await reader.readline()
        for command in ({"execute": "qmp_capabilities"}, *commands):
            writer.write(json.dumps(command).encode() + b"\n")
            while "return" not in (answer := json.loads(await reader.readline())):
                assert "error" not in answer, answer
        writer.close()
        await writer.wait_closed()
        return answer["return"]


@contextlib.asynccontextmanager
async def machine(image: Image, folder: Path, name: str, *extra: str) -> AsyncIterator[Machine]:
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35,accel=tcg", "-m", "256M"]
    argv += ["-display", "none", "-kernel", str(image.kernel), "-initrd", str(image.initramfs)]
    argv += ["-append", "console=ttyS0 quiet panic=-1", "-serial", f"file:{folder / name}-console"]
    argv += ["-qmp", f"unix:{folder / name}-qmp,server=on,wait=off", "-device", "virtio-serial-pci,id=vs"]
    argv += ["-chardev", f"socket,id=agent,path={folder / name}-agent,server=on,wait=off"]
    argv += ["-device", f"virtserialport,bus=vs.0,chardev=agent,name={PORT_NAME}", *extra]
    process = await asyncio.create_subprocess_exec(*argv)
    started = Machine(folder, name, process)
    try:
        async for _ in Deadline.after(10).ticks(0.02):
            # Each is bound a moment before it listens, one after the other.
            with contextlib.suppress(OSError), started.connect("qmp"), started.connect("agent"):
                break
        yield started
    finally:
        for client in started.clients:
            await client.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="limosa-agent-vm-") as name:
        yield Path(name)


def used_ticks(started: Machine) -> int:
    """CPU time of the QEMU in clock ticks: what a busy loop in the guest would burn."""
    fields = Path(f"/proc/{started.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


async def test_clients_come_and_go_on_the_port_and_waiting_is_no_busy_loop(image: Image, folder: Path) -> None:
    async with machine(image, folder, "one") as started:
        first = await started.client()
        hello = await first.wait_ready(Deadline.after(BOOT_LIMIT_S))
        assert hello.cpus == 1
        assert 100 * MEBIBYTE < hello.memory_bytes < 256 * MEBIBYTE
        with pytest.raises(StateError, match="does not quit"):
            await first.quit()
        await first.memory_start(4 * MEBIBYTE, rate_bytes_per_s=MEBIBYTE)
        await first.wait_memory_filled(Deadline.after(20))
        await first.close()
        for _ in range(5):  # half a request, and gone
            with started.connect("agent") as broken:
                broken.sendall(b'{"id":1,"do":"clock"}\n{"id":2,"do":"clo')
        for _ in range(5):
            client = await started.client()
            assert (await client.hello()).pid == hello.pid
            await client.close()
        last = await started.client()
        assert (await last.memory_stop()).phase == "stopped"
        assert (await last.memory_verify()).sound
        await last.close()
        await _wait_without_client(started)


async def _wait_without_client(started: Machine) -> None:
    await asyncio.sleep(1)  # what came before is done
    before = used_ticks(started)
    await asyncio.sleep(2)
    assert used_ticks(started) - before < 100  # of 200
    again = await started.client()
    await again.hello()
    await again.close()


async def _move(source: Machine, target: Machine, folder: Path) -> None:
    uri = f"unix:{folder}/migration"
    await target.qmp({"execute": "migrate-incoming", "arguments": {"uri": uri}})
    limits = {"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 0}}
    await source.qmp(limits, {"execute": "migrate", "arguments": {"uri": uri}})
    async for _ in Deadline.after(60).ticks(0.05):
        status = (await source.qmp({"execute": "query-migrate"})).get("status")
        assert status != "failed"
        if status == "completed":
            return
    raise AssertionError("the migration does not complete")


@pytest.mark.parametrize(
    "early",
    [pytest.param(True, id="connected-before"), pytest.param(False, id="connected-after", marks=pytest.mark.slow)],
)
async def test_it_goes_on_after_a_live_migration(image: Image, folder: Path, early: bool) -> None:
    """The target's port has a new client, connected before the guest arrives or only then."""
    async with (
        machine(image, folder, "s") as source,
        machine(image, folder, "t", "-incoming", "defer") as target,
    ):
        client = await source.client()
        hello = await client.wait_ready(Deadline.after(BOOT_LIMIT_S))
        still = await client.region_fill("still", 8 * MEBIBYTE)
        await client.disk_start("/records", rate_per_s=50)
        await client.cpu_start()
        await client.memory_start(16 * MEBIBYTE, rate_bytes_per_s=8 * MEBIBYTE, pattern="zipf")
        await client.wait_memory_filled(Deadline.after(30))
        beyond = await target.client() if early else None
        before = await client.clock()
        await _move(source, target, folder)
        with contextlib.suppress(LimosaError):
            await client.call("clock", limit_s=0.2)  # a question that the source can no longer answer
        await client.close()
        beyond = beyond or await target.client()
        assert (await beyond.hello()).pid == hello.pid
        assert (await beyond.clock()).monotonic_ns > before.monotonic_ns
        written = (await beyond.memory_status()).bytes_written
        await asyncio.sleep(0.5)
        assert (await beyond.memory_stop()).bytes_written > written
        assert (await beyond.memory_verify()).sound
        assert await beyond.region_checksum("still") == still
        status = await beyond.disk_stop()
        verdict = await beyond.disk_verify()
        assert verdict.sound
        assert (verdict.records, status.errors) == (status.acknowledged, 0)
        assert (await beyond.cpu_read()).last > 10
        await beyond.close()
