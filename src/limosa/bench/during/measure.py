"""CPU, throughput and round trips before, during and after a live migration, each load in a migration of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from limosa import process
from limosa.bench.bed import Beds, Mover, Track
from limosa.bench.during.load import Load
from limosa.bench.during.parse import iperf_line, sysbench_line
from limosa.bench.during.parts import DURING, IPERF_COLUMNS, KIND, LOADS, SYSBENCH_COLUMNS, During, Part
from limosa.bench.programs import program
from limosa.deadline import Deadline
from limosa.errors import LimosaError, SpecError, StateError
from limosa.events import Events
from limosa.hosts.host import CLIENT
from limosa.migration.settings import Settings
from limosa.probes import vcpu
from limosa.probes.pace import Probing
from limosa.results.store import RunDirectory
from limosa.spec.migration_options import Value

METHODS: dict[str, Mapping[str, Value]] = {"precopy": {}}
"""Ways of migrating by name, and the options that make them."""

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


async def measure(options: Options, beds: Beds, events: Events) -> RunDirectory:
    """Measure every method under every load on a track; return the run, with what could be measured.

    A migration or a load that fails is in the run. Raises LimosaError's children when there is nothing to measure.
    """
    options.check()
    async with (
        beds.track("during", memory_bytes=options.memory_bytes) as track,
        track.recorded(KIND, failures=_broken, told=True) as run,
    ):
        await _parts(track, beds, run, options)
    return run


def _broken(run: RunDirectory) -> list[str]:
    return [f"{part.load}: {part.reason}" for part in run.read(DURING).parts if part.status != "measured"]


async def _parts(track: Track, beds: Beds, run: RunDirectory, options: Options) -> None:
    found = During(
        guest=track.guest,
        before_s=options.before_s,
        after_s=options.after_s,
        memory_bytes=options.memory_bytes,
        max_bandwidth_bytes_per_s=options.max_bandwidth_bytes_per_s,
    )
    run.write(DURING, found)
    async with track.agent(track.guest) as agent:
        if options.memory_bytes:
            await agent.region_fill(REGION, options.memory_bytes)
    wanted = [(m, load, n + 1) for n in range(options.repeat) for m in options.methods for load in options.loads]
    for method, load, number in wanted:
        part = Part(method=method, load=load, repetition=number)
        with track.events.stage(f"measure {LOADS[load]}, {method}") as step:
            recording = _PartRecord(track, beds, run, options, part)
            try:
                await recording.measure()
            except LimosaError as error:
                track.events.note(error.message, level="warning")
                recording.fail(error.message)
            finally:
                found = replace(found, parts=[*found.parts, recording.part])
                run.write(DURING, found)
            if recording.part.status != "measured":
                step.fail()
    run.write(DURING, replace(found, complete=True))
    if all(part.status == "failed" for part in found.parts):
        raise LimosaError(f"nothing could be measured: {found.parts[0].reason}")


class _PartRecord:
    """One part as it is made; ``part`` tells how far it came, whatever happens."""

    def __init__(self, track: Track, beds: Beds, run: RunDirectory, options: Options, part: Part) -> None:
        self.track, self.beds, self.run, self.options, self.part = track, beds, run, options, part

    def fail(self, reason: str) -> None:
        """What was measured until now is kept."""
        begun = self.part.begin_ns > 0
        self.part = replace(self.part, status="partial" if begun else "failed", reason=reason)

    async def measure(self) -> None:
        """The load, its time before, the migration, its time after. Raises LimosaError when it breaks off."""
        base = self.run.path / "parts"
        async with self.track.recorded(f"{self.part.method}-{self.part.load}", base=base) as own:
            self.part = replace(self.part, directory=str(own.path.relative_to(self.run.path)))
            noted = {"load": self.part.load, "random bytes in memory": self.options.memory_bytes}
            async with (
                self.track.measured(own, _PROBING[self.part.load], dict(noted)) as mover,
                _loaded(self.track, self.beds, self.part.load, own) as load,
            ):
                await self._through(mover, load)

    async def _through(self, mover: Mover, load: Load | None) -> None:
        events = self.track.events
        await asyncio.sleep(SETTLE_S)
        self.part = replace(self.part, begin_ns=time.time_ns())
        try:
            with events.stage(f"before: {self.options.before_s:g} s"):
                await self._wait(self.options.before_s, load)
            here = await self.track.where(self.track.guest)
            target = next(name for name in self.track.hosts if name != here)
            asked: dict[str, Value | None] = dict(METHODS[self.part.method])
            if self.options.max_bandwidth_bytes_per_s is not None:
                asked["max-bandwidth"] = self.options.max_bandwidth_bytes_per_s
            settings = Settings(options=asked)
            outcome = await mover.migrate(target, settings)
            with events.stage(f"after: {self.options.after_s:g} s"):
                await self._wait(self.options.after_s, load)
        except asyncio.CancelledError:
            self.fail("interrupted")
            raise
        self.part = replace(self.part, finish_ns=time.time_ns())
        if outcome.failure is not None:
            self.fail(f"the migration failed: {outcome.failure.message}")
        elif load is not None and not load.alive:
            self.fail("the load ended before the measurement did")

    async def _wait(self, length_s: float, load: Load | None) -> None:
        """For *length_s*, or until the guest is gone or *load* cannot be recorded any more: raises LimosaError then."""
        deadline = Deadline.after(length_s)
        while not deadline.passed:
            await asyncio.sleep(min(WATCH_S, deadline.left_s))
            if load is not None:
                load.require_whole()
            try:
                await self.track.where(self.track.guest)
            except StateError as error:
                raise LimosaError("the guest died while it was measured") from error


@asynccontextmanager
async def _loaded(track: Track, beds: Beds, load: str, own: RunDirectory) -> AsyncIterator[Load | None]:
    """The guest at work, from the load's first figure on."""
    if load == "latency":
        yield None
        return
    said = own.samples / "load.txt"
    async with AsyncExitStack() as stack:
        if load == "cpu":
            argv = track.command(track.guest, ["sysbench", "cpu", f"--time={LONG_S}", "--report-interval=1", "run"])
            stack.push_async_callback(_end_in_guest, track, "sysbench")
            table = own.samples / "sysbench.csv"
            opening = Load.open("sysbench", argv, sysbench_line, table, SYSBENCH_COLUMNS, said)
            running = await stack.enter_async_context(opening)
            await running.wait_first()
            for host in track.hosts:
                await stack.enter_async_context(_virtual_cpus(track, host, own))
        else:
            stack.push_async_callback(_end_in_guest, track, "iperf3")
            await _serve(track)
            running = await _streaming(stack, track, beds, load, own)
        yield running


def _virtual_cpus(track: Track, host: str, own: RunDirectory) -> AbstractAsyncContextManager[Load]:
    """Watch on *host* what CPU time the guest's virtual CPUs get there: a host without the guest has no figure."""
    argv = track.host(host).interactive(vcpu.command(f"{track.name}/{track.guest}"))
    table, said = own.samples / f"vcpu-{host}.csv", own.samples / f"vcpu-{host}.txt"
    return Load.open(f"the watch on {host}", argv, vcpu.parse, table, vcpu.COLUMNS, said)


async def _streaming(stack: AsyncExitStack, track: Track, beds: Beds, load: str, own: RunDirectory) -> Load:
    """iperf3 from the client. The server has detached before it listens, so a refusal is tried again until LISTEN_S."""
    reverse = ["--reverse"] if load == "send" else []
    address = track.address(track.guest)
    iperf3 = await program(await beds.image(track.image), "iperf3")
    words = ["--client", address, "--port", str(IPERF_PORT), "--time", str(LONG_S), *reverse]
    argv = track.host(CLIENT).interactive(iperf3.command(*words, "--interval", "0.1", "--format", "k", "--forceflush"))
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
    raise LimosaError(f"iperf3 in {track.guest} did not listen within {LISTEN_S:g} s")


async def _serve(track: Track) -> None:
    """iperf3 as a server in the guest; it detaches by itself and listens when the command has ended."""
    argv = ["iperf3", "--server", "--one-off", "--daemon", "--port", str(IPERF_PORT)]
    await process.run(track.command(track.guest, argv), timeout_s=LOGIN_S)


async def _end_in_guest(track: Track, program: str) -> None:
    """What a broken connection left running."""
    try:
        await track.where(track.guest)
    except LimosaError:
        return  # a guest that is gone runs nothing, and a login would wait for it in vain
    try:
        await process.run(track.command(track.guest, ["killall", program]), check=False, timeout_s=LOGIN_S)
    except LimosaError as error:
        track.events.note(f"{program} could not be ended in {track.guest}: {error.message}", level="warning")
