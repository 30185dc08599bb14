"""``limosa bench during-migration``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from limosa.cli.bench_account import run_bench
from limosa.cli.declared import Option
from limosa.cli.options import JsonOption, NoInstallOption
from limosa.cli.values import COUNT, FILE, MIGRATION_BANDWIDTH, SIZE, Choice, duration


def _loads() -> tuple[str, ...]:
    from limosa.bench.during.parts import LOADS

    return tuple(LOADS)


def _methods() -> tuple[str, ...]:
    from limosa.bench.during.measure import METHODS

    return tuple(METHODS)


def during_migration(
    lab: Annotated[
        Path | None,
        Option("--lab", kind=FILE, help="A lab file of your own, in place of the two hosts that limosa brings."),
    ] = None,
    before: Annotated[float, Option(kind=duration(1), help="How long to measure before the migration.")] = 20.0,
    after: Annotated[float, Option(kind=duration(1), help="How long to measure after it.")] = 30.0,
    load: Annotated[
        list[str] | None,
        Option(kind=Choice(_loads), help="A load; may be repeated. Without it cpu, receive and latency."),
    ] = None,
    method: Annotated[
        list[str] | None, Option(kind=Choice(_methods), help="How to migrate; may be repeated. Without it precopy.")
    ] = None,
    repeat: Annotated[int, Option(kind=COUNT, help="Migrations of each kind.")] = 1,
    memory: Annotated[int, Option(kind=SIZE, help="Random data in the guest's memory, to be sent.")] = 256 << 20,
    max_bandwidth: Annotated[
        int | None,
        Option(kind=MIGRATION_BANDWIDTH, help="Upper limit of the migration."),
    ] = None,
    no_install: NoInstallOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure CPU, throughput and round trips before, during and after a live migration."""
    from limosa.bench.during import DURING_MIGRATION
    from limosa.bench.during.measure import Options

    options = Options(
        before_s=before,
        after_s=after,
        loads=tuple(load) if load else DURING_MIGRATION.defaults.loads,
        methods=tuple(method) if method else DURING_MIGRATION.defaults.methods,
        repeat=repeat,
        memory_bytes=memory,
        max_bandwidth_bytes_per_s=max_bandwidth,
    )
    run_bench(DURING_MIGRATION, options, as_json, file=lab, no_install=no_install)
