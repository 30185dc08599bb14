"""What a trial says of each QEMU that can be had, and a Linux guest that is moved over many rounds while it writes."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from limosa import paths, spec, tasks
from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError, QmpError
from limosa.events import Events
from limosa.guest import bare
from limosa.lab import Lab
from limosa.migration.settings import Settings
from limosa.qemu import dirty_log, features, trial
from limosa.qemu.argv import SCREEN_SOCKET
from limosa.qemu.launches import runtime_directory
from limosa.qemu.monitor import Monitor
from tests.local_host import LocalHost
from tests.qemu_versions import QEMUS, QemuBinary, machine_qemu, second_qemu

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]

MIB = 1 << 20
EVEN_BYTES = 192 * MIB
WORKING_SET_BYTES = 4 * MIB
HELD = Settings(options={"max-bandwidth": 100 * MIB, "downtime-limit": 1})
"""A limit that cannot be met as long as the guest writes."""
SLOW_BYTES_PER_S = 8 * MIB
"""After the first round: one lasts half a second then, in which a guest on a crowded machine has its turn."""
ROUNDS = 6
"""QEMU 7.2 with a memory of whole words of pages wrecked a guest like this one in every such move."""
MOVES = 3
TRIALS = 5
"""On a crowded machine one may show nothing: it ends in time."""


@pytest.fixture(params=["machine", "second", pytest.param("newest", marks=pytest.mark.slow)])
def qemu(request: pytest.FixtureRequest) -> QemuBinary:
    found, why = QEMUS[request.param]()
    if found is None:
        pytest.skip(why)
    return found


def version(offers: features.Features) -> tuple[int, ...]:
    return tuple(int(number) for number in offers.version.split()[0].split("."))


@pytest.mark.parametrize("qemu", QEMUS, indirect=True)
async def test_a_trial_tells_a_sound_qemu(qemu: QemuBinary) -> None:
    """QEMU has had the fix since 9.0; whatever the machine is busy with, no QEMU before it may be taken for sound."""
    built = await bare.build(paths.cache() / "images", Events())
    with tempfile.TemporaryDirectory(prefix="limosa-") as folder:
        host = LocalHost()
        host.runtime_directory = folder
        offers = await features.probe(host, qemu.path, qemu.firmware)
        for _ in range(TRIALS):
            verdict = await trial.hold(host, qemu.path, qemu.firmware, offers, built.kernel)
            assert list(Path(folder).iterdir()) == [], "nothing is left of the trial"
            if verdict.clear:
                break
    assert verdict.sound == (version(offers) >= (9, 0)), verdict
    assert verdict.clear, verdict


async def test_a_trial_that_cannot_be_held_shows_nothing(tmp_path: Path) -> None:
    """Its QEMU ends at once."""
    found, why = machine_qemu()
    if found is None:
        pytest.skip(why)
    broken = tmp_path / "no-kernel"
    broken.write_text("this is no kernel")
    with tempfile.TemporaryDirectory(prefix="limosa-") as folder:
        host = LocalHost()
        host.runtime_directory = folder
        offers = await features.probe(host, found.path)
        verdict = await trial.hold(host, found.path, (), offers, broken)
        assert list(Path(folder).iterdir()) == []
    assert not verdict.sound and not verdict.clear


async def test_a_trial_that_is_broken_off_leaves_nothing() -> None:
    """Neither files nor processes, whatever it was at."""
    found, why = machine_qemu()
    if found is None:
        pytest.skip(why)
    built = await bare.build(paths.cache() / "images", Events())
    with tempfile.TemporaryDirectory(prefix="limosa-") as folder:
        host = LocalHost()
        host.runtime_directory = folder
        offers = await features.probe(host, found.path)
        async with tasks.beside(trial.hold(host, found.path, (), offers, built.kernel)) as (held,):
            async for _ in Deadline.after(20).ticks(0.01):
                if list(Path(folder).glob("trial-*/t/serial.sock")) or held.done():
                    break
            assert not held.done() and runs_in(folder) == 2
        assert held.cancelled()
        assert list(Path(folder).iterdir()) == [] and runs_in(folder) == 0


def runs_in(folder: str) -> int:
    """How many processes have that folder in their command lines."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += f"{folder}/".encode() in path.read_bytes()
    return found


def text(name: str, first: QemuBinary, second: QemuBinary, guest: str) -> str:
    hosts = [f"{{qemu: {q.path}, qemu_firmware: [{', '.join(q.firmware)}]}}" for q in (first, second)]
    return f"name: {name}\nhosts: {{host1: {hosts[0]}, host2: {hosts[1]}}}\nguests: {{guest1: {guest}}}\n"


@asynccontextmanager
async def running(text: str) -> AsyncIterator[Lab]:
    async with Lab.open(spec.loads(text), ephemeral=True, rootless=os.geteuid() != 0) as lab:
        await lab.up()
        yield lab


async def test_a_linux_guest_lives_through_many_rounds(qemu: QemuBinary) -> None:
    """On each QEMU, with the size that its verdict gives: after each move every page is as it was last written."""
    # The screen's monitor is one that no move uses: through it the test lets a move end.
    guest = f"{{host: host1, image: micro, memory: {EVEN_BYTES // MIB} MiB, accel: tcg, display: vga}}"
    async with running(text("rounds", qemu, qemu, guest)) as lab:
        verdict = dirty_log.recall(await lab.hosts.features("host1"))
        record = lab.directory.guest_record("guest1")
        assert verdict is not None and record is not None and record.ram_bytes is not None
        assert (record.ram_bytes == EVEN_BYTES) == verdict.sound
        async with lab.guests.agent("guest1") as agent:
            await agent.memory_start(WORKING_SET_BYTES)
            await agent.wait_memory_filled(Deadline.after(60))
        counted, source, target = 0, "host1", "host2"
        for _ in range(3 * MOVES):
            async with tasks.beside(_let_end(lab, source)) as (rounds,):
                outcome = await lab.migrate("guest1", target, HELD)
                assert outcome.failure is None
                # On a crowded machine a guest may have written so little that the move ended before.
                counted += await rounds >= ROUNDS
            async with lab.guests.agent("guest1") as agent:
                found = await agent.memory_verify()
                assert found.sound, f"after {await rounds} rounds: {found}"
            source, target = target, source
            if counted == MOVES:
                break
        assert counted == MOVES, "the guest wrote too little for moves of many rounds"


async def _let_end(lab: Lab, source: str) -> int:
    """Hold the move in pre-copy for ROUNDS rounds, then allow the pause that it needs; the rounds that were seen."""
    host = lab.host(source)
    path = f"{runtime_directory(host, 'guest1')}/{SCREEN_SOCKET}"
    monitor = await Monitor.open(host, path, "guest1", Events(), "observe")
    begun, slow, rounds = False, False, 0
    try:
        async for _ in Deadline.after(60).ticks(0.02):
            info = await monitor.migrate_info()
            begun = begun or info.status in ("setup", "active")  # before, it speaks of the move by which it came here
            if begun and info.ram is not None:
                rounds = info.ram.dirty_sync_count
            if rounds >= ROUNDS:
                await monitor.set_parameters({"downtime-limit": 5000, "max-bandwidth": 0})
                return rounds
            if rounds > 1 and not slow:
                await monitor.set_parameters({"max-bandwidth": SLOW_BYTES_PER_S})
                slow = True
            if begun and info.status == "completed":
                return rounds
    except QmpError:  # it ended when the target had taken over
        return rounds
    finally:
        await monitor.close()
    raise LimosaError("the move had not that many rounds within a minute")


async def test_an_exact_size_is_given_among_sound_qemus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """And such a guest stays where it is rather than go to a QEMU that nobody has tried."""
    (older, _), (newer, why) = machine_qemu(), second_qemu()
    if older is None or newer is None:
        pytest.skip(why or "the machine has no QEMU")
    sizes = {}
    for name, other in (("mixed", older), ("alike", newer)):
        async with running(text(name, newer, other, "{host: host1, image: bare, memory: 64 MiB, accel: tcg}")) as lab:
            verdicts = [dirty_log.recall(await lab.hosts.features(host)) for host in ("host1", "host2")]
            all_sound = all(verdict is not None and verdict.sound for verdict in verdicts)
            record = lab.directory.guest_record("guest1")
            assert record is not None and record.ram_bytes is not None
            assert (record.ram_bytes == 64 * MIB) == all_sound
            sizes[name] = record.ram_bytes
            if name == "alike":
                with monkeypatch.context() as patch:
                    patch.setattr(dirty_log, "recall", lambda *_: None)
                    with pytest.raises(MachineError, match="was not tried") as raised:
                        await lab.migrate("guest1", "host2")
                assert "stop and start guest1" in raised.value.hint
                assert await lab.guests.where("guest1") == "host1"
                outcome = await lab.migrate("guest1", "host2", Settings(options={"downtime-limit": 5000}))
                assert outcome.failure is None
    assert sizes["alike"] == 64 * MIB, "the newer QEMU is sound"
