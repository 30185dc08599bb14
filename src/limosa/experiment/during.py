"""CPU, throughput and round trips before, during and after a live migration, each load in a migration of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from limosa import process, requirements, spec
from limosa.bench.during.parse import iperf_line, sysbench_line
from limosa.bench.during.parts import DURING, IPERF_COLUMNS, KIND, LOADS, SYSBENCH_COLUMNS, VCPU_COLUMNS, During, Part
from limosa.bench.programs import program
from limosa.deadline import Deadline
from limosa.errors import LimosaError, SpecError, StateError
from limosa.events import Events
from limosa.experiment import bed
from limosa.experiment.demo import EXAMPLE
from limosa.experiment.load import Load
from limosa.experiment.measurement import Measurement, measure, recorded_run
from limosa.hosts.host import CLIENT
from limosa.lab import Lab, sweep
from limosa.migration.settings import Settings
from limosa.probes import vcpu
from limosa.probes.pace import Probing
from limosa.results.store import RunDirectory

METHODS: dict[str, tuple[str, ...]] = {"precopy": ()}
"""Ways of migrating by name, and the capabilities that make them."""

SETTLE_S = 2.0
"""After a load's first figure: caches are warm and TCP has found its rate."""

WATCH_S = 5.0
"""How often the guest is looked for while it is measured: each look costs some 20 ms of CPU time."""

REGION = "during"
IPERF_PORT = 5201
LOGIN_S = 30.0
LISTEN_S = 15.0
LONG_S = 36_000
"""What a load is told to last; it is ended when the measurement is."""

_PROBING = {
    "cpu": Probing(
        tick_interval_us=10_000, echo_rate_hz=0, service_interval_ms=0, cpu_interval_ms=20, progress_interval_ms=100
    ),
    "receive": Probing(
        tick_interval_us=10_000, echo_rate_hz=0, service_interval_ms=0, cpu_interval_ms=0, progress_interval_ms=100
    ),
    "latency": Probing(
        tick_interval_us=10_000, echo_rate_hz=50, service_interval_ms=0, cpu_interval_ms=0, progress_interval_ms=100
    ),
}
_PROBING["send"] = _PROBING["receive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked for. Seconds, bytes, bytes per second."""

    before_s: float = 20.0
    after_s: float = 30.0
    methods: tuple[str, ...] = ("precopy",)
    loads: tuple[str, ...] = ("cpu", "receive", "latency")
    repeat: int = 1
    memory_bytes: int = 256 << 20
    """Random bytes in the guest's memory: an empty guest is gone before anything can be seen."""
    max_bandwidth_bytes_per_s: int | None = None

    def check(self) -> None:
        """Raises SpecError for what cannot be measured."""
        for name, value, known in (("--method", self.methods, METHODS), ("--load", self.loads, LOADS)):
            if not value:
                raise SpecError(f"{name} names nothing to measure", hint=f"known: {', '.join(known)}")
            for each in value:
                if each not in known:
                    raise SpecError(f"{name} {each} is not known", hint=f"known: {', '.join(known)}")
        if self.before_s < 1 or self.after_s < 1:
            raise SpecError("at least 1 s has to be measured before and after the migration", hint="--before '20 s'")
        if self.repeat < 1:
            raise SpecError("--repeat is at least 1")


async def during_migration(
    options: Options,
    *,
    events: Events,
    file: Path | None = None,
    no_install: bool = False,
    base: Path | None = None,
) -> RunDirectory:
    """Measure every method under every load in a lab that ends with it; return the run, with what could be measured.

    A migration or a load that fails is in the run. Raises LimosaError's children when there is nothing to measure.
    """
    options.check()
    sweep()
    await requirements.install(await requirements.missing(), events, no_install=no_install)
    described = msgspec.structs.replace(spec.load(file or EXAMPLE), name=f"during-{os.getpid()}")
    guest = next((g for g in described.guests.values() if g.image_kind.has_agent), None)
    if guest is None or len(described.hosts) < 2:
        raise SpecError("this bench needs two hosts and a guest with an operating system", file=described.file)
    if options.memory_bytes >= guest.memory_bytes:
        wanted, there = (f"{size / 2**20:g} MiB" for size in (options.memory_bytes, guest.memory_bytes))
        text = f"--memory {wanted} does not fit into {guest.name}, which has {there}"
        raise SpecError(text, hint="ask for half of it at the most")
    async with Lab.open(described, events=events, ephemeral=True) as lab:
        await lab.up()
        async with recorded_run(lab, guest.name, KIND, base=base) as run:
            try:
                await _parts(lab, guest.name, run, options)
            except asyncio.CancelledError:
                events.note(f"interrupted; what was measured is kept: limosa report {run.id}", level="warning")
                raise
        broken = [f"{part.load}: {part.reason}" for part in run.read(DURING).parts if part.status != "measured"]
        if broken:
            run.finish("failed", "; ".join(broken))
        with contextlib.suppress(StateError):  # a guest that died is stopped already
            await lab.stop(guest.name, force=True)
    return run


async def _parts(lab: Lab, guest: str, run: RunDirectory, options: Options) -> None:
    found = During(
        guest=guest,
        before_s=options.before_s,
        after_s=options.after_s,
        memory_bytes=options.memory_bytes,
        max_bandwidth_bytes_per_s=options.max_bandwidth_bytes_per_s,
    )
    run.write(DURING, found)
    async with lab.guests.agent(guest) as agent:
        if options.memory_bytes:
            await agent.region_fill(REGION, options.memory_bytes)
    wanted = [(m, load, n + 1) for n in range(options.repeat) for m in options.methods for load in options.loads]
    for method, load, number in wanted:
        part = Part(method=method, load=load, repetition=number)
        with lab.events.stage(f"measure {LOADS[load]}, {method}") as step:
            recording = _Recording(lab, guest, run, options, part)
            try:
                await recording.measure()
            except LimosaError as error:
                lab.events.note(error.message, level="warning")
                recording.fail(error.message)
            finally:
                found = replace(found, parts=[*found.parts, recording.part])
                run.write(DURING, found)
            if recording.part.status != "measured":
                step.fail()
    run.write(DURING, replace(found, complete=True))
    if all(part.status == "failed" for part in found.parts):
        raise LimosaError(f"nothing could be measured: {found.parts[0].reason}")


@dataclass(slots=True)
class _Recording:
    """One part as it is made; ``part`` tells how far it came, whatever happens."""

    lab: Lab
    guest: str
    run: RunDirectory
    options: Options
    part: Part

    def fail(self, reason: str) -> None:
        """What was measured until now is kept."""
        begun = self.part.begin_ns > 0
        self.part = replace(self.part, status="partial" if begun else "failed", reason=reason)

    async def measure(self) -> None:
        """The load, its time before, the migration, its time after. Raises LimosaError when it breaks off."""
        base = self.run.path / "parts"
        async with recorded_run(self.lab, self.guest, f"{self.part.method}-{self.part.load}", base=base) as own:
            self.part = replace(self.part, directory=str(own.path.relative_to(self.run.path)))
            noted = {"load": self.part.load, "random bytes in memory": self.options.memory_bytes}
            async with (
                measure(self.lab, self.guest, own, _PROBING[self.part.load], dict(noted)) as measurement,
                _loaded(self.lab, self.guest, self.part.load, own) as load,
            ):
                await self._through(measurement, load)

    async def _through(self, measurement: Measurement, load: Load | None) -> None:
        events = self.lab.events
        await asyncio.sleep(SETTLE_S)
        self.part = replace(self.part, begin_ns=time.time_ns())
        try:
            with events.stage(f"before: {self.options.before_s:g} s"):
                await self._wait(self.options.before_s)
            here = await self.lab.guests.where(self.guest)
            target = next(name for name in self.lab.spec.hosts if name != here)
            settings = Settings(
                max_bandwidth_bytes_per_s=self.options.max_bandwidth_bytes_per_s,
                capabilities=METHODS[self.part.method],
            )
            outcome = await measurement.migrate(target, settings)
            with events.stage(f"after: {self.options.after_s:g} s"):
                await self._wait(self.options.after_s)
        except asyncio.CancelledError:
            self.fail("interrupted")
            raise
        self.part = replace(self.part, finish_ns=time.time_ns())
        if outcome.failure is not None:
            self.fail(f"the migration failed: {outcome.failure.message}")
        elif load is not None and not load.alive:
            self.fail("the load ended before the measurement did")

    async def _wait(self, length_s: float) -> None:
        """For *length_s*, or until the guest is gone: raises LimosaError then."""
        deadline = Deadline.after(length_s)
        while not deadline.passed:
            await asyncio.sleep(min(WATCH_S, deadline.left_s))
            try:
                await self.lab.guests.where(self.guest)
            except StateError as error:
                raise LimosaError("the guest died while it was measured") from error


@asynccontextmanager
async def _loaded(lab: Lab, guest: str, load: str, own: RunDirectory) -> AsyncIterator[Load | None]:
    """The guest at work, from the load's first figure on."""
    if load == "latency":
        yield None
        return
    said = own.samples / "load.txt"
    async with AsyncExitStack() as stack:
        if load == "cpu":
            argv = lab.guests.ssh(guest, ["sysbench", "cpu", f"--time={LONG_S}", "--report-interval=1", "run"])
            stack.push_async_callback(_end_in_guest, lab, guest, "sysbench")
            table = own.samples / "sysbench.csv"
            opening = Load.open("sysbench", argv, sysbench_line, table, SYSBENCH_COLUMNS, said)
            running = await stack.enter_async_context(opening)
            await running.wait_first()
            for host in lab.spec.hosts:
                await stack.enter_async_context(_virtual_cpus(lab, guest, host, own))
        else:
            stack.push_async_callback(_end_in_guest, lab, guest, "iperf3")
            await _serve(lab, guest)
            running = await _streaming(stack, lab, guest, load, own)
        yield running


def _virtual_cpus(lab: Lab, guest: str, host: str, own: RunDirectory) -> AbstractAsyncContextManager[Load]:
    """Watch on *host* what CPU time the guest's virtual CPUs get there: a host without the guest has no figure."""
    argv = lab.host(host).interactive(vcpu.command(f"{lab.name}/{guest}"))
    table, said = own.samples / f"vcpu-{host}.csv", own.samples / f"vcpu-{host}.txt"
    return Load.open(f"the watch on {host}", argv, vcpu.parse, table, VCPU_COLUMNS, said)


async def _streaming(stack: AsyncExitStack, lab: Lab, guest: str, load: str, own: RunDirectory) -> Load:
    """iperf3 from the client. The server has detached before it listens, so a refusal is tried again until LISTEN_S."""
    reverse = ["--reverse"] if load == "send" else []
    address = lab.guest(guest).address
    iperf3 = await program(await bed.image(lab.guest(guest).image, lab.events), "iperf3")
    words = ["--client", address, "--port", str(IPERF_PORT), "--time", str(LONG_S), *reverse]
    argv = lab.hosts.interactive(CLIENT, iperf3.command(*words, "--interval", "0.1", "--format", "k", "--forceflush"))
    table, said = own.samples / "iperf.csv", own.samples / "load.txt"
    deadline = Deadline.after(LISTEN_S)
    async for _ in deadline.ticks(0.3):
        async with AsyncExitStack() as trial:
            running = await trial.enter_async_context(Load.open("iperf3", argv, iperf_line, table, IPERF_COLUMNS, said))
            try:
                await running.wait_first()
            except LimosaError as error:
                if deadline.passed or "refused" not in error.message:
                    raise
                continue
            stack.push_async_exit(trial.pop_all())
            return running
    raise LimosaError(f"iperf3 in {guest} did not listen within {LISTEN_S:g} s")


async def _serve(lab: Lab, guest: str) -> None:
    """iperf3 as a server in the guest; it detaches by itself and listens when the command has ended."""
    argv = ["iperf3", "--server", "--one-off", "--daemon", "--port", str(IPERF_PORT)]
    await process.run(lab.guests.ssh(guest, argv), timeout_s=LOGIN_S)


async def _end_in_guest(lab: Lab, guest: str, program: str) -> None:
    """What a broken connection left running."""
    try:
        await lab.guests.where(guest)
    except LimosaError:
        return  # a guest that is gone runs nothing, and a login would wait for it in vain
    try:
        await process.run(lab.guests.ssh(guest, ["killall", program]), check=False, timeout_s=LOGIN_S)
    except LimosaError as error:
        lab.events.note(f"{program} could not be ended in {guest}: {error.message}", level="warning")
