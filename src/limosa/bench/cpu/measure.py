"""``limosa bench cpu``: the same prime search on the host, in a guest with KVM and in a guest without."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from limosa.bench.bed import HOST, PATIENCE_S, Bed, Beds, in_guest
from limosa.bench.cpu import laptop, parse
from limosa.bench.ledger import Ledger, recorded, unnumbered, watched
from limosa.bench.programs import Program, parse_sums, program
from limosa.bench.repetitions import Bench, Metric, Repetition, Subject
from limosa.bench.rounds import measure_all, seeded, started
from limosa.errors import LimosaError
from limosa.events import Events
from limosa.results.store import RunDirectory
from limosa.spec.image_kinds import BARE, MICRO

GUESTS = (MICRO.name, BARE.name)
"""What a guest of this bench may run."""

EVENTS = Metric(name="cpu-events", label="prime search (sysbench)", unit="events/s")

SUBJECTS = (
    Subject(name="host", label="host", accel="native"),
    Subject(name="guest-kvm", label="guest with KVM", accel="kvm"),
    Subject(name="guest-tcg", label="guest without KVM (TCG)", accel="tcg"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSettings:
    """What was asked for. ``seed`` decides the order."""

    threads: int = 1
    time_s: int = 10
    repeat: int = 5
    seed: int = 0
    """0: a new one each time."""
    guest: str = MICRO.name
    """One of ``GUESTS``: a Linux, or, bare, user-mode compute alone, which more KVMs can run."""


async def measure(settings: CpuSettings, beds: Beds, events: Events) -> RunDirectory:
    """Measure; returns the run. A guest that cannot be had here, or dies, is marked, and the rest is measured."""
    seed = seeded(settings.seed)
    bench = Bench(
        kind="bench-cpu",
        title="CPU: host, guest with KVM, guest without",
        baseline="host",
        seed=seed,
        settings={**asdict(settings), "seed": seed},
        metrics=[EVENTS],
        subjects=list(SUBJECTS),
        references=laptop.references(EVENTS.name),
    )
    sysbench_here = await program(await beds.image(MICRO.name), "sysbench")
    lines = [f"guest-{accel}: {{host: {HOST}, accel: {accel}, cpus: {settings.threads}}}" for accel in ("kvm", "tcg")]
    async with beds.of_guests("bench-cpu", lines) as bed, recorded(bench, bed.name, events) as ledger:
        ledger.change("host", files=sysbench_here.files)
        able = ["host"]
        for name in bed.guests:
            if await started(bed, ledger, name) and await _same_files(bed, ledger, name, sysbench_here):
                able.append(name)
        await measure_all(bed, ledger, able, lambda name, time_s: _measured(bed, name, settings, time_s, sysbench_here))
    return ledger.run


async def _same_files(bed: Bed, ledger: Ledger, guest: str, ours: Program) -> bool:
    """Have the guest hash its own files; it is measured even when they differ, and the finding says so."""
    try:
        async with bed.awake(guest):
            text = await in_guest(bed, guest, ["sha256sum", *ours.files], PATIENCE_S)
    except LimosaError as error:
        ledger.lost(guest, error.message)
        return False
    ledger.change(guest, files=parse_sums(text))
    return True


async def _measured(
    bed: Bed, name: str, settings: CpuSettings, time_s: int, ours: Program
) -> list[tuple[Repetition, str]]:
    words = parse.arguments(threads=settings.threads, time_s=time_s)
    limit_s = time_s + PATIENCE_S

    async def on_host() -> str:
        return (await bed.host(HOST).run(ours.command(*words), timeout_s=limit_s)).text

    async def on_guest() -> str:
        return await in_guest(bed, name, ["sysbench", *words], limit_s)

    if name == "host":
        text, seen = await watched(on_host)
    else:
        async with bed.awake(name):
            text, seen = await watched(on_guest)
    primes = parse.parse(text)
    repetition = unnumbered(
        name,
        EVENTS.name,
        seen,
        value=primes.events_per_s,
        total=primes.events,
        duration_s=primes.duration_s,
        seconds=primes.seconds,
        facts={"sysbench": primes.version, "seconds_scale": primes.scale},
    )
    return [(repetition, text)]
