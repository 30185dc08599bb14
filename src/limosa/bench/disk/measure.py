"""``limosa bench disk``: random and sequential I/O of a guest, by the bus of its disk and the host's cache."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from limosa.bench.bed import HOST, PATIENCE_S, Bed, Beds, in_guest
from limosa.bench.disk import parse
from limosa.bench.ledger import Ledger, recorded, unnumbered, watched
from limosa.bench.programs import parse_sums, program
from limosa.bench.repetitions import Bench, Metric, Repetition, Subject
from limosa.bench.rounds import measure_all, seeded, started
from limosa.errors import LimosaError, SpecError
from limosa.events import Events
from limosa.results.store import RunDirectory
from limosa.spec.image_kinds import MICRO_GENERIC

BUSES = {"virtio-blk": "virtio-blk", "virtio-scsi": "virtio-scsi", "sata": "SATA"}
ALSO_CALLED = {"ide": "sata"}
"""On a q35 machine an ``ide-hd`` is attached to the AHCI controller."""
CACHES = ("writeback", "none")
METRICS = [Metric(name=job.name, label=job.label, unit=job.unit) for job in parse.JOBS]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSettings:
    """What was asked for."""

    buses: tuple[str, ...] = tuple(BUSES)
    caches: tuple[str, ...] = CACHES
    time_s: int = 5
    repeat: int = 5
    seed: int = 0
    """0: a new one each time."""
    accel: str = "auto"


async def measure(settings: DiskSettings, beds: Beds, events: Events) -> RunDirectory:
    """Measure; returns the run, with what could be measured. Raises SpecError for an unknown bus or cache."""
    settings = replace(settings, buses=tuple(dict.fromkeys(ALSO_CALLED.get(bus, bus) for bus in settings.buses)))
    for wanted, known, what in ((settings.buses, tuple(BUSES), "bus"), (settings.caches, CACHES, "cache mode")):
        for name in wanted:
            if name not in known:
                raise SpecError(f"there is no {what} {name!r} for this bench", hint=f"one of {', '.join(known)}")
    seed = seeded(settings.seed)
    kinds = {_guest(bus, cache): (bus, cache) for bus in settings.buses for cache in settings.caches}
    bench = Bench(
        kind="bench-disk",
        title="Disk: a guest's I/O, by bus and cache",
        baseline=next(iter(kinds)),
        seed=seed,
        settings={
            **asdict(settings),
            "seed": seed,
            "image": MICRO_GENERIC.name,
            "size": parse.SIZE,
            "depth": parse.DEPTH,
        },
        metrics=METRICS,
        subjects=[Subject(name=name, label=f"{BUSES[bus]}, cache {cache}") for name, (bus, cache) in kinds.items()],
    )
    ours = await program(await beds.image(MICRO_GENERIC.name), "fio")
    lines = [
        f"{name}: {{host: {HOST}, image: {MICRO_GENERIC.name}, memory: 384 MiB, accel: {settings.accel}, "
        f"disk: {{bus: {bus}, cache: {cache}}}}}"
        for name, (bus, cache) in kinds.items()
    ]
    async with beds.of_guests("bench-disk", lines) as bed, recorded(bench, bed.name, events) as ledger:
        able = [name for name in kinds if await _ready(bed, ledger, name, list(ours.files))]

        async def turn(name: str, time_s: int) -> list[tuple[Repetition, str]]:
            async with bed.awake(name):
                return [await _measured(bed, name, time_s, job) for job in parse.JOBS]

        await measure_all(bed, ledger, able, turn)
    return ledger.run


def _guest(bus: str, cache: str) -> str:
    """A guest's name has at most 15 characters."""
    return {"virtio-blk": "vblk", "virtio-scsi": "vscsi", "sata": "sata"}[bus] + f"-{cache}"


async def _ready(bed: Bed, ledger: Ledger, name: str, files: list[str]) -> bool:
    if not await started(bed, ledger, name):
        return False
    try:
        async with bed.awake(name):
            text = await in_guest(bed, name, ["sha256sum", *files[:3]], PATIENCE_S)
            await in_guest(bed, name, ["fio", *parse.layout()], PATIENCE_S)
    except LimosaError as error:
        ledger.lost(name, error.message)
        return False
    ledger.change(name, files=parse_sums(text))
    return True


async def _measured(bed: Bed, name: str, time_s: int, job: parse.Job) -> tuple[Repetition, str]:
    words = ["fio", *parse.arguments(job, time_s)]
    text, seen = await watched(lambda: in_guest(bed, name, words, time_s + PATIENCE_S))
    done = parse.parse(text, job)
    repetition = unnumbered(
        name,
        job.name,
        seen,
        value=done.total / done.duration_s,
        total=done.total,
        duration_s=done.duration_s,
        seconds=done.seconds,
        facts={"latency_median_s": done.latency_median_s},
    )
    return repetition, text
