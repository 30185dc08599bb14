"""``limosa bench network``: throughput, loss, jitter and round trips between client and guest, by network card."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict, dataclass
from functools import partial

from limosa import tasks, temporary
from limosa.bench.bed import HOST, PATIENCE_S, Bed, Beds, in_guest
from limosa.bench.ledger import Ledger, recorded, unnumbered, watched
from limosa.bench.network import parse
from limosa.bench.programs import Program, parse_sums, program
from limosa.bench.repetitions import Bench, Metric, Repetition, Subject
from limosa.bench.rounds import measure_all, seeded, started
from limosa.deadline import Deadline
from limosa.errors import LimosaError, SpecError
from limosa.events import Events
from limosa.hosts.host import CLIENT
from limosa.probes.client_probe import ClientProbe
from limosa.probes.exchange import ECHO_PORT
from limosa.probes.udp_echo import EchoConfig
from limosa.results.samples import read_exchanges
from limosa.results.store import RunDirectory
from limosa.spec.image_kinds import MICRO_GENERIC

ECHO_RATE_HZ = 50.0
VHOST = "/dev/vhost-net"

METRICS = [
    Metric(name="tcp-to-guest", label="TCP, client to guest", unit="bit/s"),
    Metric(name="tcp-from-guest", label="TCP, guest to client", unit="bit/s"),
    Metric(name="udp-loss", label="UDP loss", unit="share", higher_is_better=False),
    Metric(name="udp-jitter", label="UDP jitter", unit="s", higher_is_better=False),
    Metric(name="round-trip", label="round trip (UDP echo)", unit="s", higher_is_better=False),
]

MODELS = {
    "virtio-net": "virtio-net",
    "e1000": "e1000 (emulated Intel)",
    "rtl8139": "rtl8139 (emulated Realtek)",
    "vhost-net": "virtio-net with vhost-net",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """What was asked for."""

    models: tuple[str, ...] = tuple(MODELS)
    time_s: int = 5
    repeat: int = 5
    seed: int = 0
    """0: a new one each time."""
    udp_bits_per_s: int = 20_000_000
    accel: str = "auto"


async def measure(settings: NetworkSettings, beds: Beds, events: Events) -> RunDirectory:
    """Measure; returns the run, with what could be measured. Raises SpecError for an unknown model."""
    for model in settings.models:
        if model not in MODELS:
            raise SpecError(f"there is no network card {model!r} for this bench", hint=f"one of {', '.join(MODELS)}")
    seed = seeded(settings.seed)
    bench = Bench(
        kind="bench-network",
        title="Network: client and guest, by network card",
        baseline=settings.models[0],
        seed=seed,
        settings={**asdict(settings), "seed": seed, "image": MICRO_GENERIC.name},
        metrics=METRICS,
        subjects=[Subject(name=model, label=MODELS[model]) for model in settings.models],
    )
    client = await program(await beds.image(MICRO_GENERIC.name), "iperf3")
    refusal = _vhost_refusal() if "vhost-net" in settings.models else ""
    wanted = [model for model in settings.models if model != "vhost-net" or not refusal]
    lines = [
        f"{model}: {{host: {HOST}, image: {MICRO_GENERIC.name}, accel: {settings.accel}, nic: {model}}}"
        for model in wanted
    ]
    async with beds.of_guests("bench-net", lines) as bed, recorded(bench, bed.name, events) as ledger:
        if refusal:
            ledger.change("vhost-net", status="skipped", reason=refusal)
            events.note(f"vhost-net is left out: {refusal}")
        able = [model for model in wanted if await _ready(bed, ledger, model, client)]

        async def turn(name: str, time_s: int) -> list[tuple[Repetition, str]]:
            async with bed.awake(name):
                return await _measured(bed, ledger.run, name, time_s, settings.udp_bits_per_s, client)

        await measure_all(bed, ledger, able, turn)
    return ledger.run


def _vhost_refusal() -> str:
    """Why /dev/vhost-net does not open; empty when it does."""
    try:
        os.close(os.open(VHOST, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{VHOST} does not open: {error.strerror}"
    return ""


async def _ready(bed: Bed, ledger: Ledger, name: str, client: Program) -> bool:
    if not await started(bed, ledger, name):
        return False
    try:
        async with bed.awake(name):
            text = await in_guest(bed, name, ["sha256sum", *client.files], PATIENCE_S)
            async with bed.agent(name) as agent:
                await agent.echo_start(ECHO_PORT)
    except LimosaError as error:
        ledger.lost(name, error.message)
        return False
    ledger.change(name, files=parse_sums(text))
    return True


async def _measured(
    bed: Bed, run: RunDirectory, name: str, time_s: int, udp_bits_per_s: int, client: Program
) -> list[tuple[Repetition, str]]:
    address = bed.address(name)
    found = []
    for metric, reverse in (("tcp-to-guest", False), ("tcp-from-guest", True)):
        words = parse.tcp(address, time_s, reverse=reverse)
        (sent, got), seen = await watched(partial(_transfer, bed, name, time_s, client, words))
        receiver, sender = (sent, got) if reverse else (got, sent)
        tcp = parse.received(receiver, sender)
        facts = {"retransmits": tcp.retransmits}
        rate = tcp.total_bits / tcp.duration_s
        done = unnumbered(
            name,
            metric,
            seen,
            value=rate,
            total=tcp.total_bits,
            duration_s=tcp.duration_s,
            seconds=tcp.seconds_bits,
            facts=facts,
        )
        found.append((done, receiver))
    words = parse.udp(address, time_s, udp_bits_per_s)
    (_, got), seen = await watched(partial(_transfer, bed, name, time_s, client, words))
    udp = parse.datagrams(got)
    facts = {"sent": udp.sent, "lost": udp.lost, "offered_bits_per_s": udp_bits_per_s}
    for metric, value, seconds in (
        ("udp-loss", udp.loss, udp.seconds_loss),
        ("udp-jitter", udp.jitter_s, udp.seconds_jitter_s),
    ):
        done = unnumbered(name, metric, seen, value=value, duration_s=udp.duration_s, seconds=seconds, facts=facts)
        found.append((done, got))
    found.append(await _round_trips(bed, run, name, time_s))
    return found


async def _transfer(bed: Bed, guest: str, time_s: int, client: Program, words: tuple[str, ...]) -> tuple[str, str]:
    """One test; what the client printed, and what the server in the guest did."""
    limit_s = time_s + PATIENCE_S
    async with tasks.beside(in_guest(bed, guest, ["iperf3", *parse.server()], limit_s)) as (server,):
        # The server needs a login to start, so a client that comes too early tries again.
        async for _ in Deadline.after(PATIENCE_S).ticks(0.2):
            if server.done():
                await server
            done = await bed.host(CLIENT).run(client.command(*words), check=False, timeout_s=limit_s)
            if "onnection refused" not in done.text:
                return done.text, await server
        raise LimosaError(f"iperf3 in {guest} did not listen within {PATIENCE_S:g} s")


async def _round_trips(bed: Bed, run: RunDirectory, name: str, time_s: int) -> tuple[Repetition, str]:
    config = EchoConfig(address=bed.address(name), port=ECHO_PORT, rate_hz=ECHO_RATE_HZ)

    async def ask() -> None:
        async with ClientProbe.open(bed.host(CLIENT), [config], folder) as probe:
            await probe.start()
            await asyncio.sleep(time_s)
            await probe.stop()

    with temporary.folder("echo", run.path) as folder:
        _, seen = await watched(ask)
        path = folder / "echo.csv"
        raw = await asyncio.to_thread(path.read_text)
        echo = read_exchanges(path)
    trips = parse.round_trips(echo)
    if trips is None:
        raise LimosaError(f"{name} answered no echo in {time_s} s")
    facts = {"sent": len(echo), "answered": trips.answered, "p95_s": trips.p95_s}
    done = unnumbered(
        name, "round-trip", seen, value=trips.median_s, duration_s=float(time_s), seconds=trips.seconds_s, facts=facts
    )
    return done, raw
