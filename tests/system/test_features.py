"""Real QEMUs: what they answer, that they take our command lines, and that a guest moves between two versions."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from msgspec.structs import replace

from limosa.accel import prove_kvm
from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError, StateError
from limosa.events import Events
from limosa.guest.bare import build
from limosa.guest.bare.provision import subject
from limosa.process import Completed
from limosa.qemu import firmware
from limosa.qemu.argv import Launch, command_line
from limosa.qemu.features import Features, common_cpu, common_machine, host_identity, local_identity, probe
from limosa.qemu.qmp import Ended, Qmp
from tests.launches import LAUNCHES, MICRO
from tests.local_host import LocalHost, start
from tests.qemu_versions import QEMUS, QemuBinary, machine_qemu
from tests.qmp_socket import met
from tests.tiny_linux import TinyLinux, tiny_linux

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", params=QEMUS)
def qemu(request: pytest.FixtureRequest) -> QemuBinary:
    found, why = QEMUS[request.param]()
    return found or pytest.skip(why)


@pytest.fixture(scope="module", params=["second", pytest.param("newest", marks=pytest.mark.slow)])
def both(request: pytest.FixtureRequest) -> list[QemuBinary]:
    """The machine's QEMU and another."""
    found = []
    for binary, why in (machine_qemu(), QEMUS[request.param]()):
        found.append(binary or pytest.skip(why))
    return found


@pytest.fixture(scope="module")
def linux() -> TinyLinux:
    found, why = tiny_linux()
    return found or pytest.skip(why)


@pytest.fixture
def in_network() -> list[str]:
    """What to put before a command so that it has a network of its own where it may make a TAP."""
    prefix = ["unshare", "-rn"] if os.getuid() else ["unshare", "-n"]
    tried = subprocess.run([*prefix, "ip", "tuntap", "add", "t0", "mode", "tap"], capture_output=True, text=True)
    return prefix if tried.returncode == 0 else pytest.skip(f"no TAP can be made: {tried.stderr.strip()}")


@dataclass(frozen=True, slots=True)
class Running:
    """A QEMU that was started, its control monitor, and the folder of its sockets and logs."""

    child: subprocess.Popen[bytes]
    monitor: Qmp
    folder: Path

    @property
    def printed(self) -> str:
        return (self.folder / "serial.log").read_text(errors="replace")

    @property
    def complaints(self) -> str:
        return (self.folder / "qemu.log").read_text(errors="replace")


@contextlib.asynccontextmanager
async def started(
    launch: Launch, folder: Path, *, before: list[str], extra: tuple[str, ...] = ()
) -> AsyncIterator[Running]:
    folder.mkdir()
    argv = command_line(replace(launch, runtime_directory=str(folder), serial_log=str(folder / "serial.log")))
    child = start([*before, *argv, *extra], folder / "qemu.log")
    monitor: Qmp | None = None
    try:
        async for _ in Deadline.after(20).ticks(0.02):
            with contextlib.suppress(StateError, Ended):  # it may end as soon as it listens
                monitor = await met(folder / "control.qmp")
                break
            assert child.poll() is None, (folder / "qemu.log").read_text()
        assert monitor is not None, "it does not answer"
        yield Running(child, monitor, folder)
    finally:
        if monitor is not None:
            await monitor.close()
        child.kill()
        child.wait()


async def wait_until(condition: Callable[[], bool], limit_s: float) -> None:
    async for _ in Deadline.after(limit_s).ticks(0.05):
        if condition():
            return
    raise AssertionError("the condition was not met in time")


async def fitted(launch: Launch, qemu: QemuBinary, linux: TinyLinux, disk: Path | None) -> Launch:
    """*launch* with real files in place of the golden text's."""
    features = await probe(LocalHost(), qemu.path, qemu.firmware)
    fitting = replace(launch, qemu=qemu.path, firmware=qemu.firmware, features=features)
    kernel = str(linux.kernel) if launch.kernel else ""
    fitting = replace(fitting, kernel=kernel, initrd=str(linux.initrd) if launch.initrd else "")
    if fitting.disk and disk:
        fitting = replace(fitting, disk=replace(fitting.disk, path=str(disk)))
    return _with_files(fitting, disk.parent) if disk else fitting


def _with_files(launch: Launch, folder: Path) -> Launch:
    """What a disk that boots by itself takes, made in *folder*."""
    if launch.disk and launch.disk.base:
        (folder / "base").mkdir()
        base = image(folder / "base", launch.disk.base_format)
        over = ["-b", str(base), "-F", launch.disk.base_format, launch.disk.path]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *over], check=True)
        launch = replace(launch, disk=replace(launch.disk, base=str(base)))
    if launch.seed:
        launch = replace(launch, seed=str(image(folder, "raw")))
    if launch.firmware_code:
        found = firmware.uefi()
        copy = folder / "vars.fd"
        copy.write_bytes(found.variables.read_bytes())
        launch = replace(launch, firmware_code=str(found.code), firmware_vars=str(copy))
    return launch


def image(folder: Path, kind: str) -> Path:
    path = folder / f"disk.{kind}"
    if kind == "raw":
        path.write_bytes(b"")
        os.truncate(path, 4 << 20)
    elif program := shutil.which("qemu-img"):
        subprocess.run([program, "create", "-q", "-f", kind, str(path), "4M"], check=True)
    else:
        pytest.skip("qemu-img is not installed")
    return path


async def test_probe_of_a_real_qemu(qemu: QemuBinary, tmp_path: Path) -> None:
    host = LocalHost()
    found = await probe(host, qemu.path, qemu.firmware, cache=tmp_path)
    assert found.missing() == []
    assert {"multifd", "postcopy-ram"} <= found.migration_capabilities
    assert {"max-bandwidth", "downtime-limit"} <= found.migration_parameters
    assert found.identity == local_identity(qemu.path) == await host_identity(host, qemu.path)
    before = len(host.ran)
    again = await probe(host, qemu.path, qemu.firmware, identity=local_identity(qemu.path), cache=tmp_path)
    assert again == found and len(host.ran) == before


class LateReader(LocalHost):
    """A host whose answers are read late, as on a busy machine: a pipe holds a part of them meanwhile."""

    async def run(self, argv: Sequence[str], **how: Any) -> Completed:
        return await super().run(["sh", "-c", '"$@" | (sleep 1; cat)', "sh", *argv], **how)


async def test_answers_that_are_read_late_are_whole(qemu: QemuBinary, tmp_path: Path) -> None:
    late = await probe(LateReader(), qemu.path, qemu.firmware, cache=tmp_path / "late")
    assert late == await probe(LocalHost(), qemu.path, qemu.firmware, cache=tmp_path / "at once")


async def test_what_an_aborting_qemu_said_last_is_told(tmp_path: Path) -> None:
    aborting = tmp_path / "qemu"
    aborting.write_text("#!/bin/sh\necho the reason >&2\nkill -ABRT $$\n")
    aborting.chmod(0o755)
    with pytest.raises(MachineError, match=r"does not start: the reason$"):
        await probe(LocalHost(), str(aborting), cache=tmp_path)


@pytest.mark.parametrize("both", ["second", "newest"], indirect=True)
async def test_two_versions_share_a_machine_and_a_cpu(both: list[QemuBinary], tmp_path: Path) -> None:
    features = {q.label: await probe(LocalHost(), q.path, q.firmware, cache=tmp_path) for q in both}
    assert len({f.version for f in features.values()}) == 2
    machine = common_machine(features)
    assert all(f.machine(machine) for f in features.values())
    assert {common_machine({name: f}) for name, f in features.items()} > {machine}
    assert common_cpu(features, "tcg") == "Nehalem-v1"


@pytest.mark.parametrize("name", LAUNCHES)
async def test_real_qemu_takes_the_command_line(
    name: str, qemu: QemuBinary, linux: TinyLinux, in_network: list[str], tmp_path: Path
) -> None:
    """Started with -S: both monitors answer, nothing is complained about, and the devices are where they belong."""
    shape = LAUNCHES[name]
    if shape.guest.nic == "vhost-net":
        try:
            Path("/dev/vhost-net").open("r+b", buffering=0).close()
        except OSError as error:
            pytest.skip(f"/dev/vhost-net does not open: {error}")
    disk = image(tmp_path, shape.disk.format) if shape.disk else None
    launch = await fitted(shape, qemu, linux, disk)
    launch = replace(launch, machine=common_machine({"here": launch.features}))
    if launch.accel == "kvm":
        launch = replace(launch, cpu=common_cpu({"here": await kvm_features(qemu)}, "kvm"))
    async with started(launch, tmp_path / "run", before=in_network, extra=("-S",)) as running:
        status = await running.monitor.execute("query-status")
        assert isinstance(status, dict)
        assert status["status"] == ("inmigrate" if launch.incoming else "prelaunch")
        observer = await met(running.folder / "observe.qmp")
        assert await observer.execute("query-name") == {"name": "demo/web"}
        await observer.close()
        assert int((running.folder / "qemu.pid").read_text()) == running.child.pid
        complaints = [line for line in running.complaints.splitlines() if "host doesn't support" not in line]
        assert complaints == []
        with contextlib.suppress(Exception):  # the answer and the end of the connection race
            await running.monitor.execute("quit")
        assert running.child.wait(10) == 0


async def kvm_features(qemu: QemuBinary) -> Features:
    try:
        Path("/dev/kvm").open("r+b", buffering=0).close()
    except OSError as error:
        pytest.skip(f"/dev/kvm does not open: {error}")
    return await probe(LocalHost(), qemu.path, qemu.firmware, accel="kvm")


async def test_second_writer_is_refused_by_the_image_lock(
    linux: TinyLinux, both: list[QemuBinary], in_network: list[str], tmp_path: Path
) -> None:
    disk = image(tmp_path, "raw")
    first = await fitted(MICRO, both[0], linux, disk)
    async with started(first, tmp_path / "one", before=in_network, extra=("-S",)):
        with pytest.raises(AssertionError, match='Failed to get "write" lock'):
            async with started(first, tmp_path / "two", before=in_network, extra=("-S",)):
                pass


@pytest.mark.parametrize("shape", ["micro", "micro-diskless"])
async def test_guest_moves_between_versions_and_back(
    shape: str, both: list[QemuBinary], linux: TinyLinux, in_network: list[str], tmp_path: Path
) -> None:
    """From the newer QEMU to the machine's and back, each started by our command line; the guest's clock only goes on.

    The guest starts on the newer one: what the machine's may have given it, the newer one need not take.
    """
    disk = image(tmp_path, "raw") if LAUNCHES[shape].disk else None
    features = {q.label: await probe(LocalHost(), q.path, q.firmware) for q in both}
    guest = replace(MICRO.guest, cpus=1, memory_bytes=192 << 20)
    places = [
        replace(
            await fitted(LAUNCHES[shape], qemu, linux, disk),
            guest=guest,
            machine=common_machine(features),
            cpu=common_cpu(features, "tcg"),
            append="console=ttyS0 quiet",
        )
        for qemu in (both[1], both[0], both[1])
    ]
    async with contextlib.AsyncExitStack() as stack:
        source = await stack.enter_async_context(started(places[0], tmp_path / "0", before=in_network))
        await wait_until(lambda: source.printed.count("tick") >= 3, 60)
        for step, place in enumerate(places[1:], start=1):
            launch = replace(place, incoming=True)
            target = await stack.enter_async_context(started(launch, tmp_path / str(step), before=in_network))
            await move(source.monitor, target.monitor, f"unix:{tmp_path}/stream{step}")
            await wait_until(lambda to=target: to.printed.count("tick") >= 5, 20)  # type: ignore[misc]
            source.child.kill()
            assert last_tick_s(target.printed) > last_tick_s(source.printed)
            known = place.features.machine(place.machine)
            assert known is not None
            complaints = target.complaints.splitlines()
            assert [line for line in complaints if not (known.deprecated and "Machine type" in line)] == []
            source = target


@pytest.mark.parametrize("both", ["second", "newest"], indirect=True)
@pytest.mark.parametrize("accel", ["tcg", "kvm"])
async def test_bare_guest_moves_between_versions_and_back(
    accel: Literal["tcg", "kvm"], both: list[QemuBinary], in_network: list[str], tmp_path: Path
) -> None:
    """The one guest whose real KVM state can be moved where KVM runs no Linux."""
    try:
        image = await build(tmp_path / "image", Events())
    except LimosaError as error:
        pytest.skip(f"the bare guest cannot be built: {error}")
    ask = kvm_features if accel == "kvm" else features_of
    features = {q.label: await ask(q) for q in both}
    cpu, machine = common_cpu(features, accel), common_machine(features)
    shape = replace(LAUNCHES["bare"], accel=accel, cpu=cpu, machine=machine, append="mode=primes report=20")
    shape = replace(shape, kernel=str(image.kernel), guest=replace(shape.guest, memory_bytes=64 << 20))
    if accel == "kvm":
        shown, runtime = subject(str(image.kernel)), str(tmp_path)
        proof = await prove_kvm(LocalHost(), qemu=both[0].path, subject=shown, cpu=cpu, runtime_directory=runtime)
        if not proof.works:
            pytest.skip(proof.reason)
    async with contextlib.AsyncExitStack() as stack:
        source: Running | None = None
        for step, qemu in enumerate((both[0], both[1], both[0])):
            launch = replace(shape, qemu=qemu.path, firmware=qemu.firmware, features=features[qemu.label])
            launch = replace(launch, incoming=source is not None)
            target = await stack.enter_async_context(started(launch, tmp_path / str(step), before=in_network))
            if source:
                await move(source.monitor, target.monitor, f"unix:{tmp_path}/stream{step}")
            await wait_until(lambda to=target: len(counts(to.printed)) >= 5, 20)  # type: ignore[misc]
            if source:
                source.child.kill()
                assert counts(target.printed) == sorted(counts(target.printed))
                assert counts(target.printed)[-1] > counts(source.printed)[-1]
            source = target


def counts(printed: str) -> list[int]:
    """The guest's count at each whole line; the first line after a move may have begun before it."""
    return [int(n) for n in re.findall(r"^bare: events=(\d+) .*\n", printed, re.MULTILINE)]


async def features_of(qemu: QemuBinary) -> Features:
    return await probe(LocalHost(), qemu.path, qemu.firmware)


async def move(source: Qmp, target: Qmp, uri: str) -> None:
    await target.execute("migrate-incoming", {"uri": uri})
    await source.execute("migrate-set-parameters", {"max-bandwidth": 0})
    await source.execute("migrate", {"uri": uri})
    async for _ in Deadline.after(60).ticks(0.05):
        seen = await source.execute("query-migrate")
        assert isinstance(seen, dict)
        assert seen["status"] != "failed", seen
        if seen["status"] == "completed":
            break
    assert await status(source) == "postmigrate"
    async for _ in Deadline.after(10).ticks(0.05):
        if await status(target) == "running":
            return
    raise AssertionError("the target does not run")


async def status(monitor: Qmp) -> str:
    answer = await monitor.execute("query-status")
    assert isinstance(answer, dict)
    return str(answer["status"])


def last_tick_s(printed: str) -> float:
    """The guest's own clock at its last whole tick."""
    return max(float(line.split()[1]) for line in printed.splitlines()[:-1] if line.startswith("tick "))


@pytest.fixture(autouse=True)
def _no_process_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert str(tmp_path).encode() not in entry.read_bytes()
