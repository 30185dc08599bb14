"""``limosa bench``."""

from __future__ import annotations

from typing import Annotated

from limosa.cli.bench_account import run_bench
from limosa.cli.declared import Option
from limosa.cli.options import JsonOption
from limosa.cli.values import COUNT, RATE, Choice, choice, duration, number


def _guests() -> tuple[str, ...]:
    from limosa.bench.cpu.measure import GUESTS

    return GUESTS


def _cards() -> tuple[str, ...]:
    from limosa.bench.network.measure import MODELS

    return tuple(MODELS)


def _buses() -> tuple[str, ...]:
    from limosa.bench.disk.measure import BUSES

    return tuple(BUSES)


def _caches() -> tuple[str, ...]:
    from limosa.bench.disk.measure import CACHES

    return CACHES


TimeOption = Annotated[
    int, Option("--time", kind=duration(1, whole=True), help="How long the work of each repetition lasts.")
]
RepeatOption = Annotated[int, Option("--repeat", kind=COUNT, help="Repetitions; 5 or more give 95 % intervals.")]
SeedOption = Annotated[
    int | None, Option("--seed", kind=COUNT, help="Decides the order; without it a new one, which is recorded.")
]
AccelOption = Annotated[str, Option(kind=choice("auto", "kvm", "tcg"), help="The guests' accelerator.")]


def cpu(
    threads: Annotated[int, Option(kind=number(1, 255), help="Threads, and the guest's virtual CPUs.")] = 1,
    time: TimeOption = 10,
    repeat: RepeatOption = 5,
    seed: SeedOption = None,
    guest: Annotated[
        str,
        Option(
            kind=Choice(_guests),
            help="micro: sysbench in a Linux. bare: user-mode compute alone, which more KVMs can run.",
        ),
    ] = "micro",
    as_json: JsonOption = False,
) -> None:
    """Run the same prime search on the host, in a guest with KVM and in a guest without."""
    from limosa.bench.cpu import CPU
    from limosa.bench.cpu.measure import CpuSettings

    settings = CpuSettings(threads=threads, time_s=time, repeat=repeat, seed=seed or 0, guest=guest)
    run_bench(CPU, settings, as_json)


def network(
    nic: Annotated[
        list[str] | None,
        Option("--nic", kind=Choice(_cards), help="A network card; may be repeated. Without it all of them."),
    ] = None,
    time: TimeOption = 5,
    repeat: RepeatOption = 5,
    udp_rate: Annotated[int, Option(kind=RATE, help="Rate at which datagrams are offered.")] = 20_000_000,
    accel: AccelOption = "auto",
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Throughput, loss, jitter and round trips between a client and a guest, for each network card."""
    from limosa.bench.network import NETWORK
    from limosa.bench.network.measure import NetworkSettings

    settings = NetworkSettings(
        models=tuple(dict.fromkeys(nic or NETWORK.defaults.models)),
        time_s=time,
        repeat=repeat,
        seed=seed or 0,
        udp_bits_per_s=udp_rate,
        accel=accel,
    )
    run_bench(NETWORK, settings, as_json)


def disk(
    bus: Annotated[
        list[str] | None,
        Option("--bus", kind=Choice(_buses, also=("ide",)), help="A bus; may be repeated. Without it all of them."),
    ] = None,
    cache: Annotated[
        list[str] | None,
        Option("--cache", kind=Choice(_caches), help="A cache mode; may be repeated. Without it all of them."),
    ] = None,
    time: TimeOption = 5,
    repeat: RepeatOption = 5,
    accel: AccelOption = "auto",
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Random and sequential reads and writes of a guest, for each bus and each cache mode."""
    from limosa.bench.disk import DISK
    from limosa.bench.disk.measure import DiskSettings

    settings = DiskSettings(
        buses=tuple(dict.fromkeys(bus or DISK.defaults.buses)),
        caches=tuple(dict.fromkeys(cache or DISK.defaults.caches)),
        time_s=time,
        repeat=repeat,
        seed=seed or 0,
        accel=accel,
    )
    run_bench(DISK, settings, as_json)
