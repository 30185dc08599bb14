"""``limosa bench``."""

from __future__ import annotations

from typing import Annotated

from limosa.cli.bench_account import run_bench
from limosa.cli.declared import Option
from limosa.cli.options import JsonOption

TimeOption = Annotated[int, Option("--time", least=1, help="Seconds of work in each repetition.")]
RepeatOption = Annotated[int, Option("--repeat", least=1, help="Repetitions; 5 or more give 95 % intervals.")]
SeedOption = Annotated[
    int, Option("--seed", least=0, help="Decides the order; without it a new one, which is recorded.")
]

AccelOption = Annotated[str, Option(help="The guests' accelerator: auto, kvm or tcg.")]


def cpu(
    threads: Annotated[int, Option(least=1, most=255, help="Threads, and the guest's virtual CPUs.")] = 1,
    time: TimeOption = 10,
    repeat: RepeatOption = 5,
    seed: SeedOption = 0,
    guest: Annotated[
        str, Option(help="micro: sysbench in a Linux. bare: user-mode compute alone, which more KVMs can run.")
    ] = "micro",
    as_json: JsonOption = False,
) -> None:
    """Run the same prime search on the host, in a guest with KVM and in a guest without."""
    from limosa.bench.cpu import CPU
    from limosa.bench.cpu.measure import CpuSettings

    settings = CpuSettings(threads=threads, time_s=time, repeat=repeat, seed=seed, guest=guest)
    run_bench(CPU, settings, as_json)


def network(
    nic: Annotated[
        list[str] | None,
        Option("--nic", help="virtio-net, e1000, rtl8139, vhost-net; may be repeated. Default: all of them."),
    ] = None,
    time: TimeOption = 5,
    repeat: RepeatOption = 5,
    udp_rate: Annotated[str, Option(help="Rate at which datagrams are offered.")] = "20 Mbit/s",
    accel: AccelOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Throughput, loss, jitter and round trips between a client and a guest, for each network card."""
    from limosa.bench.network import NETWORK
    from limosa.bench.network.measure import NetworkSettings
    from limosa.cli.options import size_rate

    settings = NetworkSettings(
        models=tuple(dict.fromkeys(nic or NETWORK.defaults.models)),
        time_s=time,
        repeat=repeat,
        seed=seed,
        udp_bits_per_s=8 * (size_rate(udp_rate, "--udp-rate") or 0),
        accel=_accel(accel),
    )
    run_bench(NETWORK, settings, as_json)


def disk(
    bus: Annotated[
        list[str] | None,
        Option("--bus", help="virtio-blk, virtio-scsi, sata (or ide); may be repeated. Default: all of them."),
    ] = None,
    cache: Annotated[
        list[str] | None, Option("--cache", help="writeback, none; may be repeated. Default: both.")
    ] = None,
    time: TimeOption = 5,
    repeat: RepeatOption = 5,
    accel: AccelOption = "auto",
    seed: SeedOption = 0,
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
        seed=seed,
        accel=_accel(accel),
    )
    run_bench(DISK, settings, as_json)


def _accel(text: str) -> str:
    from limosa.errors import SpecError

    if text not in ("auto", "kvm", "tcg"):
        raise SpecError(f"--accel: there is no accelerator {text!r}", hint="auto, kvm or tcg")
    return text
