"""What the benches share: a lab of their own, guests that stand still while others are measured, a random order."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from limosa import process, requirements, spec
from limosa.bench.recorder import Recorder
from limosa.bench.repetitions import Repetition
from limosa.deadline import Deadline
from limosa.errors import CommandError, LimosaError, MachineError
from limosa.events import Events
from limosa.guest import built_images
from limosa.guest.agent import executable
from limosa.lab import Lab, sweep

HOST = "host1"
PATIENCE_S = 60.0
"""How long a command in the guest may take longer than the time that it was told to work."""

LOGIN_S = 60.0

WARM_UP_S = 2
"""At most this long: caches, translated code and clock rates settle in the first second."""


@asynccontextmanager
async def bench_lab(kind: str, guests: Sequence[str], events: Events) -> AsyncIterator[Lab]:
    """A lab of one host that ends with this context; *guests* are lines of a lab file's section of guests."""
    sweep()
    await requirements.install(await requirements.missing(), events, no_install=True)
    section = "guests:\n" + "".join(f"  {line}\n" for line in guests) if guests else ""
    described = spec.loads(f"name: {kind}-{os.getpid()}\nhosts: {{{HOST}: {{}}}}\n{section}")
    async with Lab.open(described, events=events, ephemeral=True) as lab:
        await lab.up(start=False)
        yield lab


async def image(name: str, events: Events) -> built_images.Image:
    """The image that the guests of a bench are made from."""
    return await built_images.ensure(name, events, agent=await executable.ensure(events))


async def started(lab: Lab, recorder: Recorder, guest: str) -> bool:
    """Start *guest* and let it stand still. A guest that cannot be had here is marked, with the reason."""
    try:
        await lab.start(guest)
        await in_guest(lab, guest, ["true"], LOGIN_S)
    except MachineError as error:
        recorder.change(guest, status="skipped", reason=error.message)
        lab.events.note(f"{guest} is left out: {error.message}")
        return False
    except LimosaError as error:
        recorder.lost(guest, error.message)
        return False
    record = lab.directory.guest_record(guest)
    assert record is not None, "a guest that was started is recorded"
    facts = {"machine": record.machine, "cpu": record.cpu, "image": record.image.get("digest", "")}
    recorder.change(guest, accel=record.accel, accel_reason=record.accel_reason, facts=facts)
    await _halt(lab, guest)
    return True


@asynccontextmanager
async def awake(lab: Lab, guest: str) -> AsyncIterator[None]:
    """Let *guest* run; at other times it stands still, so that it takes nothing from what is measured then."""
    copy = await lab.guests.qemu(guest)
    try:
        await copy.qemu.control.resume()
    finally:
        await copy.qemu.close()
    try:
        yield
    finally:
        # One that died has nothing left to halt; its next turn says so.
        with contextlib.suppress(LimosaError):
            await _halt(lab, guest)


async def _halt(lab: Lab, guest: str) -> None:
    copy = await lab.guests.qemu(guest)
    try:
        await copy.qemu.control.pause()
    finally:
        await copy.qemu.close()


async def in_guest(lab: Lab, guest: str, argv: Sequence[str], limit_s: float) -> str:
    """What *argv* printed in the guest. Raises LimosaError's children with the guest's own words."""
    deadline = Deadline.after(limit_s)
    async for _ in deadline.ticks(0.5):
        try:
            return (await process.run(lab.guests.ssh(guest, argv), timeout_s=limit_s)).text
        except CommandError as error:
            # The agent may answer before the SSH server listens.
            if "Connection refused" in error.stderr and not deadline.passed:
                continue
            if error.returncode == 127:
                raise LimosaError(f"{argv[0]} is missing in the guest {guest}") from error
            raise LimosaError(f"{argv[0]} in {guest}: {_last(error.stderr) or error.message}") from error
    raise LimosaError(f"{guest} refused every SSH login for {limit_s:g} s", hint=f"limosa logs {guest}")


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def schedule(subjects: Sequence[str], repeat: int, seed: int) -> list[tuple[str, int]]:
    """(subject, repetition) in the order in which they are measured: the warm-up of all, then rounds.

    In every round each subject has its turn once, in random order, so that a drift of the machine falls on all alike
    and a bench that is stopped early has nearly as many of each.
    """
    draw = random.Random(seed)
    order = [(subject, 0) for subject in subjects]
    for repetition in range(1, repeat + 1):
        turn = list(subjects)
        draw.shuffle(turn)
        order += [(subject, repetition) for subject in turn]
    return order


Measure = Callable[[str, int], Awaitable[list[tuple[Repetition, str]]]]
"""Given a subject and for how long to work: a value for each metric (unnumbered) with what was printed."""


async def measure_all(lab: Lab, recorder: Recorder, able: list[str], measure: Measure) -> None:
    """Every repetition of every subject, in random order; a subject that dies is left out from then on."""
    settings = recorder.bench.settings
    time_s, dead = int(settings["time_s"]), set[str]()
    order = schedule(able, int(settings["repeat"]), recorder.bench.seed)
    for place, (name, number) in enumerate(order, start=1):
        if name in dead:
            continue
        what = f"measure {name}, " + (f"repetition {number} of {settings['repeat']}" if number else "warm-up")
        try:
            with lab.events.stage(what):
                found = await measure(name, min(time_s, WARM_UP_S) if number == 0 else time_s)
        except LimosaError as error:
            dead.add(name)
            recorder.lost(name, await _cause(lab, name, error))
            continue
        for repetition, raw in found:
            recorder.add(replace(repetition, repetition=number, order=place), raw)


async def _cause(lab: Lab, name: str, error: LimosaError) -> str:
    """What became of a subject; a guest whose QEMU is gone has died, whatever the login said of it."""
    if name in lab.spec.guests:
        try:
            await lab.guests.where(name)
        except LimosaError:
            return "the guest died while it was measured"
    return error.message
