"""Guests that go there and back many times, by each method: after every move all they wrote is as last written."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from move_bench import TAKES_USERFAULTFD, check_pages

from limosa import accel, spec
from limosa.deadline import Deadline
from limosa.errors import MachineError
from limosa.lab import Lab
from limosa.migration.settings import Settings
from tests.local_host import LocalHost
from tests.qemu_versions import machine_qemu, second_qemu

TIMES = 20
WORKING_SET_BYTES = 32 << 20
METHODS = {
    "pre-copy": Settings(method="pre-copy", options={"downtime-limit": 5000}),
    "post-copy": Settings(method="post-copy", options={"downtime-limit": 1}),
}
"""The guests write all the time: the pause has to hold all that they write, or nothing of it."""
GUESTS = {"bare": "64 MiB", "micro": "256 MiB"}
LAB = """\
name: pendulum
networks: {{lan: {{rate: 1 Gbit/s}}}}
hosts: {{here: {{}}, there: {there}}}
guests: {{{guest}: {{host: here, image: {guest}, memory: {memory}, accel: {accel}}}}}
"""
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
    TAKES_USERFAULTFD,
]


@asynccontextmanager
async def running(guest: str, accel_kind: str, there: str = "{}") -> AsyncIterator[Lab]:
    """The guest writes. Skips where KVM opens, and cannot run it."""
    text = LAB.format(guest=guest, memory=GUESTS[guest], accel=accel_kind, there=there)
    async with Lab.open(spec.loads(text), ephemeral=True, rootless=os.geteuid() != 0) as lab:
        try:
            await lab.up()
        except MachineError as error:
            if accel_kind == "kvm" and "/dev/kvm" in error.message:
                pytest.skip(error.message)
            raise
        if guest == "micro":
            async with lab.guests.agent(guest) as agent:
                await agent.memory_start(WORKING_SET_BYTES, rate_bytes_per_s=WORKING_SET_BYTES)
                await agent.wait_memory_filled(Deadline.after(60))
        yield lab


async def go(lab: Lab, guest: str, method: str, times: int) -> None:
    """There and back so many times; after each move all that it wrote is looked at, and it has gone on since."""
    progress, became = [await written(lab, guest, "here")], 0
    for number in range(2 * times):
        target = ("there", "here")[number % 2]
        outcome = await lab.migrate(guest, target, METHODS[method])
        assert outcome.failure is None and await lab.guests.where(guest) == target, (number, outcome)
        became += "post-copy" in dict(outcome.phases)
        progress.append(await written(lab, guest, target))
    assert progress == sorted(progress) and progress[-1] > progress[0]
    # A guest that a busy machine keeps from writing may have arrived by the end of the first pass.
    assert became >= times if method == "post-copy" else became == 0


async def written(lab: Lab, guest: str, host: str) -> int:
    """How much the guest has written; every page and every record of it is right."""
    if guest == "bare":
        return await check_pages(lab.host(host))
    async with lab.guests.agent(guest) as agent:
        found = await agent.memory_verify()
        assert found.sound, (host, found)
        return (await agent.memory_status()).bytes_written


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("accel_kind", ["tcg", "kvm"])
@pytest.mark.parametrize("guest", GUESTS)
async def test_twenty_times(guest: str, accel_kind: str, method: str) -> None:
    if accel_kind == "kvm" and (refusal := await accel.device_refusal(LocalHost())):
        pytest.skip(refusal)
    async with running(guest, accel_kind) as lab:
        await go(lab, guest, method, TIMES)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("times", [1, pytest.param(TIMES, marks=pytest.mark.slow)])
async def test_between_two_versions(times: int, guest: str, method: str) -> None:
    """Each of the machine's QEMU and another version is source and target by turns."""
    (machine, missing), (second, why) = await asyncio.to_thread(lambda: (machine_qemu(), second_qemu()))
    if machine is None or second is None:
        pytest.skip(missing or why)
    there = f"{{qemu: {second.path}, qemu_firmware: [{', '.join(second.firmware)}]}}"
    async with running(guest, "tcg", there) as lab:
        assert len({(await lab.hosts.features(host)).version for host in ("here", "there")}) == 2
        await go(lab, guest, method, times)
