"""``limosa bench during-migration``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from limosa.cli.bench_account import run_bench
from limosa.cli.declared import Option
from limosa.cli.options import JsonOption, seconds, size_rate


def during_migration(
    lab: Annotated[
        str, Option("--lab", help="A lab file of your own, in place of the two hosts that limosa brings.")
    ] = "",
    before: Annotated[str, Option(help="How long to measure before the migration.")] = "20 s",
    after: Annotated[str, Option(help="How long to measure after it.")] = "30 s",
    load: Annotated[
        list[str] | None,
        Option(help="cpu, receive, send or latency; may be given again. Without it cpu, receive, latency."),
    ] = None,
    method: Annotated[list[str] | None, Option(help="How to migrate; may be given again: precopy.")] = None,
    repeat: Annotated[int, Option(least=1, help="Migrations of each kind.")] = 1,
    memory: Annotated[str, Option(help="Random data in the guest's memory, to be sent.")] = "256 MiB",
    max_bandwidth: Annotated[
        str, Option(help="Upper limit of the migration, as '100 MiB/s'.", show_default=False)
    ] = "",
    no_install: Annotated[bool, Option("--no-install", help="Install nothing; print the line that would.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure CPU, throughput and round trips before, during and after a live migration."""
    from limosa.bench.during import DURING_MIGRATION
    from limosa.bench.during.measure import Options
    from limosa.units import parse_bytes

    options = Options(
        before_s=seconds(before, "--before") or 0.0,
        after_s=seconds(after, "--after") or 0.0,
        loads=tuple(load) if load else DURING_MIGRATION.defaults.loads,
        methods=tuple(method) if method else DURING_MIGRATION.defaults.methods,
        repeat=repeat,
        memory_bytes=_bytes(parse_bytes, memory),
        max_bandwidth_bytes_per_s=size_rate(max_bandwidth, "--max-bandwidth"),
    )
    run_bench(DURING_MIGRATION, options, as_json, file=Path(lab) if lab else None, no_install=no_install)


def _bytes(parse, text: str) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    from limosa.errors import SpecError

    try:
        return int(parse(text))
    except ValueError as error:
        raise SpecError(f"--memory: {error}") from error
