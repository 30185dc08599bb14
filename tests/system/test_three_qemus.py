"""Guests that go from each QEMU to the next one and back: one lab, a host for each QEMU that can be had here."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from move_bench import check_pages

from limosa import spec
from limosa.deadline import Deadline
from limosa.lab import Lab
from limosa.migration.settings import Settings
from tests.qemu_versions import QEMUS

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]

AMPLE = Settings(options={"downtime-limit": 5000})
"""The guests write all the time."""
WORKING_SET_BYTES = 32 << 20
LAB = """\
name: versions3
hosts: {{{hosts}}}
guests:
  bare: {{host: {first}, image: bare, memory: 64 MiB, accel: tcg}}
  micro: {{host: {first}, image: micro, memory: 256 MiB, accel: tcg}}
"""


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Lab, list[str]]]:
    """The lab, and its hosts from the oldest QEMU to the newest; skips where one of the QEMUs cannot be had."""
    found = {}
    for label, have in QEMUS.items():
        qemu, why = have()
        found[label] = qemu or pytest.skip(why)
    hosts = [f"{q.label}: {{qemu: {q.path}, qemu_firmware: [{', '.join(q.firmware)}]}}" for q in found.values()]
    text = LAB.format(hosts=", ".join(hosts), first=next(iter(found)))
    async with Lab.open(spec.loads(text), ephemeral=True, rootless=os.geteuid() != 0) as lab:
        await lab.up()
        yield lab, list(found)


async def test_guests_go_from_the_oldest_to_the_newest_and_back() -> None:
    """One machine type for all; after each move every page and every record is as it was last written."""
    async with running() as (lab, hosts):
        versions = {(await lab.hosts.features(host)).version for host in hosts}
        assert len(versions) == len(hosts)
        async with lab.guests.agent("micro") as agent:
            await agent.memory_start(WORKING_SET_BYTES, rate_bytes_per_s=WORKING_SET_BYTES)
            await agent.wait_memory_filled(Deadline.after(60))
        passes = [await check_pages(lab.host(hosts[0]))]
        for source, target in pairwise([*hosts, *hosts[-2::-1]]):
            for guest in ("bare", "micro"):
                outcome = await lab.migrate(guest, target, AMPLE)
                assert outcome.failure is None, (guest, source, target, outcome)
                assert await lab.guests.where(guest) == target
            passes.append(await check_pages(lab.host(target)))
            async with lab.guests.agent("micro") as agent:
                found = await agent.memory_verify()
            assert found.sound, (source, target, found)
        assert passes == sorted(passes) and passes[-1] > passes[0]
