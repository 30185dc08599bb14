"""A measurement: while it is open, probes watch the guest and everything goes into a run directory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from limosa import tasks
from limosa.errors import BusyError, LimosaError, StateError
from limosa.experiment.session import SshSession
from limosa.experiment.wakefulness import cpus_awake
from limosa.experiment.workload import RunningWorkload, Workload
from limosa.guest.agent.client import AgentClient
from limosa.hosts.host import CLIENT
from limosa.lab import Lab
from limosa.lab.record import MEASURED
from limosa.migration.settings import Settings
from limosa.migration.transfer import Outcome
from limosa.probes import registry, tcp_service
from limosa.probes.client_probe import ClientProbe
from limosa.probes.looks import PROBE as LOOKS
from limosa.probes.looks import ProgressRecorder
from limosa.probes.pace import Probing
from limosa.probes.probe import Place
from limosa.qemu.monitor import Monitor
from limosa.results import environment, rest, store
from limosa.results.format import Check, Decision, Environment, HostEnvironment, LoadReading, Migration, Pause
from limosa.results.kept_run import kept
from limosa.results.store import RunDirectory

CALM_S = 0.25
"""Between taking a guest's monitors and pausing it, and again before hanging up: both keep QEMU's main loop busy,
which runs the guest's timers and its network card, so that the clocks would show the tool instead of the pause."""

WORK_S = 5.0
"""How long a guest may take to tell what its workload has done; after that the reading is left out."""

FREE_S = 30.0
"""How long a guest may take to end its work after a measurement; one that does not is freed before the next."""

UNSEEN_S = 0.1
"""After ``cont`` this process stands still for so long. A 2-core machine has its cores busy then with QEMU's main loop
and the guest's CPU."""
WRITTEN_TURNS = 8
"""Of the event loop, until the command has gone out: the task that sends it has to begin. With too few of them the
pause would be longer by ``UNSEEN_S``, and STOP and RESUME would say so."""


class Measurement:
    """One guest of one lab, watched. Made by ``measure``."""

    def __init__(
        self,
        lab: Lab,
        guest: str,
        run: RunDirectory,
        probing: Probing,
        client: ClientProbe | None,
        recorder: ProgressRecorder,
        session: SshSession | None,
    ) -> None:
        """*client* is None for a guest without an agent, *session* for one that runs no SSH server."""
        self.lab, self.guest, self.run, self.probing = lab, guest, run, probing
        self.client, self.recorder, self.session = client, recorder, session
        self.migrations: list[Migration] = []
        self.pauses: list[Pause] = []
        self.checks: list[Check] = []
        self.load: list[LoadReading] = []
        self.workload: RunningWorkload | None = None
        """What the guest was set to do by ``set_to_work``."""

    async def set_to_work(self, workload: Workload) -> None:
        """Give the guest work; from then on it is read what of it is done, and ``finish_workload`` checks it.

        Raises BusyError when it is at work already, LimosaError when its agent refuses (too little memory, a full
        disk).

        Example::

            async with watch(lab, "guest1") as watched:
                await watched.set_to_work(Workload(working_set_bytes=8 << 20, write_rate_bytes_per_s=4 << 20))
                await asyncio.sleep(1)
                await watched.finish_workload()
            print(watched.checks)
        """
        async with self.lab.guests.agent(self.guest) as agent:
            self.workload = await RunningWorkload.start(agent, workload)
        await self._read_load()

    async def _read_load(self) -> None:
        """Note what the workload has done until now; a guest that does not tell has no reading."""
        if self.workload is None:
            return
        with contextlib.suppress(LimosaError, OSError, TimeoutError):
            async with asyncio.timeout(WORK_S), self.lab.guests.agent(self.guest) as agent:
                self.load.append(await self.workload.read(agent))
            self.run.write(store.LOAD, self.load)

    def _warn_of_shortfall(self) -> None:
        """Before the first migration: whoever asked for more than the guest can do learns it at once."""
        if self.workload is None or len(self.load) != 2:
            return
        between = [(self.load[0].time_ns, self.load[1].time_ns)]
        for rate in rest.rates_of_work(self.workload.workload.described(), self.load, [], between):
            if rest.short(rate):
                self.lab.events.note(f"{rest.shortfall(rate)}: the results are for what was reached", level="warning")

    async def migrate(self, target: str, settings: Settings | None = None) -> Outcome:
        """Migrate and record it, completed or not; a failure is in the outcome. Raises what ``Lab.attempt`` raises.

        Example::

            async with watch(lab, "guest1") as watched:
                outcome = await watched.migrate("host1", Settings(options={"max-bandwidth": "256 MiB/s"}))
            print((outcome.ended_ns - outcome.started_ns) / 1e6, "ms")
        """
        settings = (settings or Settings()).over(self.lab.guest(self.guest).migration)
        settings = msgspec.structs.replace(settings, poll_s=self.probing.progress_interval_ms / 1000)
        index = len(self.migrations) + 1
        self.recorder.migration = index
        if self.client is not None:
            await self.client.mark(f"migration {index}")
        await self._read_load()
        self._warn_of_shortfall()
        outcome = await self.lab.attempt(self.guest, target, settings)
        await self._read_load()
        self.migrations.append(_recorded(outcome, index, self.guest, settings))
        self.run.write(store.MIGRATIONS, self.migrations)
        return outcome

    async def pause(self, duration_ms: float) -> Pause:
        """Stop the guest's processors for *duration_ms* and record when QEMU says that it did: what a clock should
        read.

        Raises StateError when the guest does not run, QmpError when QEMU refuses.

        Example::

            async with watch(lab, "guest1") as watched:
                await asyncio.sleep(1)
                paused = await watched.pause(100.0)
                await asyncio.sleep(1)
            print((paused.resume_ns - paused.stop_ns) / 1e6, "ms by QEMU's events")
        """
        copy = await self.lab.guests.qemu(self.guest)
        try:
            monitor = copy.qemu.control
            monitor.pending_events()
            await asyncio.sleep(CALM_S)
            begun = time.monotonic()
            await monitor.pause()
            try:
                await asyncio.sleep(max(0.0, begun + duration_ms / 1000 - time.monotonic()))
            except asyncio.CancelledError:  # the guest is not left paused
                await tasks.uninterrupted(monitor.resume())
                raise
            await self._resume_unseen(monitor)
            stop = resume = 0
            while not (stop and resume):
                event = await monitor.next_event()
                stop = event.time_ns if event.name == "STOP" else stop
                resume = event.time_ns if event.name == "RESUME" else resume
            await asyncio.sleep(CALM_S)
        finally:
            await copy.qemu.close()
        paused = Pause(requested_ms=duration_ms, stop_ns=stop, resume_ns=resume)
        self.pauses.append(paused)
        self.run.write(store.PAUSES, self.pauses)
        return paused

    async def _resume_unseen(self, monitor: Monitor) -> None:
        """Let the guest run and do nothing else until it does: to read QEMU's answer would take a CPU from it."""
        async with tasks.beside(monitor.resume()) as (answer,):
            for _ in range(WRITTEN_TURNS):
                await asyncio.sleep(0)
            time.sleep(UNSEEN_S)  # noqa: ASYNC251
            await answer

    async def check_alive(self) -> None:
        """Whether guest and clients came through; recorded as checks. ``watch`` does it at its end.

        Raises StateError when the guest runs nowhere.

        Example::

            async with watch(lab, "guest1") as watched:
                await watched.check_alive()
                print([check.name for check in watched.checks if not check.passed])
        """
        if self.session is not None:
            self.checks.append(await self.session.check())
        if self.client is None:
            self.checks.append(await self._check_answering())
        else:
            self.checks += await self._check_watched(self.client)
        self.run.write(store.CHECKS, self.checks)

    async def _check_watched(self, client: ClientProbe) -> list[Check]:
        checks = []
        service = (await client.status()).of(tcp_service.PROBE.name)
        if service is not None:
            passed = service.connected is True and service.connections == 1 and service.broken == 0
            detail = f"{service.answered} of {service.sent} requests answered on {service.connections} connection(s)"
            checks.append(Check(name="tcp-connection", passed=passed, detail=detail))
        try:
            async with self.lab.guests.agent(self.guest) as agent:
                hello = await agent.hello()
            host = await self.lab.guests.where(self.guest)
            detail = f"the agent answers on {host}, {hello.monotonic_ns / 1e9:.1f} s of age"
            return [*checks, Check(name="guest-alive", passed=True, detail=detail)]
        except LimosaError as error:
            return [*checks, Check(name="guest-alive", passed=False, detail=error.message)]

    async def _check_answering(self) -> Check:
        """What can be told from outside alone."""
        spec, host = self.lab.guest(self.guest), await self.lab.guests.where(self.guest)
        if not spec.image_kind.has_devices:
            return Check(name="guest-alive", passed=True, detail=f"it runs on {host}, as its QEMU says")
        address = spec.address
        passed = await self.lab.guests.answers(self.guest)
        said = "answers" if passed else "does not answer"
        return Check(name="guest-alive", passed=passed, detail=f"it runs on {host}, and {address} {said}")

    async def finish_workload(self) -> None:
        """Stop the workload, if there is one, and record what became of it: every page, every acknowledged write.
        ``watch`` does it at its end.

        Raises LimosaError when the guest's agent does not answer.

        Example::

            async with watch(lab, "guest1", workload=Workload(disk_writes_per_s=0)) as watched:
                await watched.finish_workload()
        """
        if self.workload is None:
            return
        await self._read_load()
        async with self.lab.guests.agent(self.guest) as agent:
            self.checks.extend(await self.workload.finish(agent))
            await self.workload.end(agent)
        self.workload = None
        self.run.write(store.CHECKS, self.checks)

    async def _finish_probes(self) -> None:
        """In the reverse order of their beginning: ticks go on while something is measured by the guest's clock."""
        async with self.lab.guests.agent(self.guest) as agent:
            for probe in reversed(registry.PROBES):
                await probe.finish(agent, self.run.samples / f"{probe.name}.csv")


def _recorded(outcome: Outcome, index: int, guest: str, settings: Settings) -> Migration:
    return Migration(
        index=index,
        guest=guest,
        source=outcome.source,
        target=outcome.target,
        outcome="completed" if outcome.failure is None else "failed",
        error="" if outcome.failure is None else outcome.failure.message,
        started_ns=outcome.started_ns,
        ended_ns=outcome.ended_ns,
        stop_ns=outcome.stop_ns,
        resume_ns=outcome.resume_ns,
        stamped_by=outcome.stamped_by,
        target_ahead_ns=outcome.target_ahead_ns,
        parameters=settings.qemu_parameters(),
        plan=msgspec.to_builtins(outcome.plan),
        capabilities_in_force=outcome.capabilities,
        parameters_in_force=outcome.parameters,
        qemu=outcome.info.raw,
        qemu_target=outcome.target_info.raw,
        phases=outcome.phases,
        decisions=[Decision(**entry.decided) for entry in outcome.decisions],
    )


async def has_agent(lab: Lab, guest: str) -> bool:
    """Whether an agent runs in *guest*: a system of its own may be without. What is not measured then is said."""
    record = lab.directory.guest_record(guest)
    kind = lab.guest(guest).image_kind
    if record is None or kind.agent == "inside":
        return True
    if not kind.has_agent:
        text = f"{guest} has neither an agent nor a network: only QEMU's own clocks are read, and whether it still runs"
        lab.events.note(text, level="warning")
        return False
    try:
        async with lab.guests.agent(guest):
            return True
    except (LimosaError, TimeoutError, OSError):
        lab.events.note(
            f"no agent runs in {guest}: QEMU's own clocks are read, and whether it still answers; not its packets, a "
            "TCP service, its own clock, its processor's speed, its memory and its disk",
            level="warning",
        )
        return False


@asynccontextmanager
async def measure(
    lab: Lab, guest: str, run: RunDirectory, probing: Probing, workload: dict[str, object], *, agent: bool = True
) -> AsyncIterator[Measurement]:
    """Watch *guest* for as long as the context is open; *workload* is what is noted of the guest's work.

    Without an *agent* in it (see ``has_agent``) only QEMU and the guest's login session are watched. In the end the
    guest does nothing of it any more, however it ended; what one that was killed left is ended before the next.

    Raises BusyError while another measures the guest.
    """
    before = environment.read_cpu_times()
    run.write(store.SPEC, lab.spec)
    noted = await _environment(lab, guest, _described(probing) if agent else {}, workload)
    async with AsyncExitStack() as stack:
        stack.enter_context(lab.directory.locked(f"the measurement {run.path.name}", guest, MEASURED))
        if probing.cpus_awake:
            noted = replace(noted, cpus_awake=stack.enter_context(cpus_awake()))
        run.write(store.ENVIRONMENT, noted)
        recorder = ProgressRecorder(
            run.samples / f"{LOOKS.name}.csv", guest, lambda text: lab.events.note(text, level="warning")
        )
        stack.callback(recorder.close)
        lab.events.add(recorder)
        stack.callback(lab.events.remove, recorder)
        session = await stack.enter_async_context(SshSession.open(lab, guest)) if _logs_in(lab, guest) else None
        if agent:
            stack.push_async_callback(_free, lab, guest)
        client = await stack.enter_async_context(_probes(lab, guest, run, probing)) if agent else None
        measurement = Measurement(lab, guest, run, probing, client, recorder, session)
        try:
            yield measurement
            if client is not None:
                await measurement._finish_probes()
                run.write(store.CLIENT, await client.stop())
        finally:
            after = environment.read_cpu_times()
            load, stolen = environment.read_load_average(), environment.steal_share(before, after)
            run.write(store.ENVIRONMENT, replace(noted, load_average_after=load, steal_share=stolen))


@asynccontextmanager
async def _probes(lab: Lab, guest: str, run: RunDirectory, probing: Probing) -> AsyncIterator[ClientProbe]:
    """What the guest sends and answers, with the client that takes it down, at work."""
    spec = lab.guest(guest)
    place = Place(guest=spec.address, client=lab.hosts.address(CLIENT, spec.network))
    async with lab.guests.agent(guest) as agent:
        await _end_all(agent)
        for probe in registry.PROBES:
            await probe.begin(agent, probing, place)
    configs = [config for probe in registry.PROBES if (config := probe.wanted(probing, place)) is not None]
    async with ClientProbe.open(lab.host(CLIENT), configs, run.samples) as client:
        await client.start()
        yield client


async def _end_all(agent: AgentClient) -> None:
    """End in the guest whatever a measurement began there."""
    for probe in registry.PROBES:
        await probe.clear(agent)
    await RunningWorkload.end(agent)


async def _free(lab: Lab, guest: str) -> None:
    """Leave the guest as it was, wherever it runs now. One that does not answer has been told of already."""

    async def end() -> None:
        async with asyncio.timeout(FREE_S), lab.guests.agent(guest) as agent:
            await _end_all(agent)

    with contextlib.suppress(LimosaError, OSError, TimeoutError):
        await tasks.uninterrupted(end())


def _described(probing: Probing) -> dict[str, object]:
    """What measures, and how often, as it is recorded with the results."""
    return {label: pace for probe in registry.PROBES for label, pace in probe.described(probing).items()}


def _logs_in(lab: Lab, guest: str) -> bool:
    """Whether one can log in to the guest; what cannot be watched without is said."""
    if not lab.guest(guest).image_kind.has_devices:
        return False  # ``has_agent`` has said so
    record = lab.directory.guest_record(guest)
    if record is None or record.own_disk is None or record.own_disk.user:
        return True
    lab.events.note(f"{guest} runs no SSH server: no login session is watched", level="warning")
    return False


async def _environment(lab: Lab, guest: str, probes: dict[str, object], workload: dict[str, object]) -> Environment:
    record = lab.directory.guest_record(guest)
    assert record is not None, "a guest that is measured has been started"
    machine = environment.read_machine()
    hosts = {}
    await lab.hosts.meet()
    for name, spec in lab.spec.hosts.items():
        facts = await lab.host(name).facts()
        hosts[name] = HostEnvironment(
            kind=spec.kind,
            kernel=facts.kernel,
            cpu_model=facts.cpu_model,
            cpus=facts.cpus,
            memory_bytes=facts.memory_bytes,
            qemu_path=spec.qemu,
            qemu_version=(await lab.hosts.features(name)).version,
        )
    return Environment(
        hosts=hosts,
        accel="kvm" if record.accel == "kvm" else "tcg",
        accel_reason=record.accel_reason,
        machine=record.machine,
        cpu=record.cpu,
        governor=machine.governor,
        image=record.image,
        load_average_before=environment.read_load_average(),
        probes=probes,
        workload=workload,
    )


async def _require_measurable(lab: Lab, guest: str, *, blind: bool) -> None:
    if not blind and not lab.guest(guest).image_kind.has_agent:
        raise StateError(
            f"guest {guest} has neither an agent nor a network to measure it by",
            hint="take a guest with the image micro",
        )
    await lab.guests.where(guest)
    if lab.directory.busy(guest, MEASURED):
        raise BusyError(f"guest {guest} is being measured by another command", hint="wait for it to end")


@asynccontextmanager
async def recorded_run(
    lab: Lab, guest: str, kind: str, *, base: Path | None = None,
    failures: Callable[[RunDirectory], list[str]] | None = None, told: bool = False, blind: bool = False,
) -> AsyncIterator[RunDirectory]:  # fmt: skip
    """A run directory (in *base*) for what happens inside; however that ends, the run says so.

    *failures* tells what went wrong in one that came to its end; without it, migrations and checks do. *told*: say
    where the run is when it is interrupted. Raises StateError or BusyError, and makes no run, when there is nothing to
    measure in *guest* (*blind*: QEMU's own clocks are enough), or another does.
    """
    await _require_measurable(lab, guest, blind=blind)
    run = RunDirectory.create(kind=kind, lab=lab.name, guest=guest, base=base)
    async with kept(run, lab.events, partial(failures or _failures, run), told=told):
        yield run


def _failures(run: RunDirectory) -> list[str]:
    failed = [m.error for m in run.read_or(store.MIGRATIONS, []) if m.outcome != "completed"]
    return failed + [f"{c.name}: {c.detail}" for c in run.read_or(store.CHECKS, []) if not c.passed]
