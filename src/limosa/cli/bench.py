"""``limosa bench``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from limosa.cli.options import JsonOption

if TYPE_CHECKING:
    from limosa.experiment.benching import BenchResult

app = typer.Typer(no_args_is_help=True, help="Measure what virtualisation costs: CPU, network, disk.")

TimeOption = Annotated[int, typer.Option("--time", min=1, help="Seconds of work in each repetition.")]
RepeatOption = Annotated[int, typer.Option("--repeat", min=1, help="Repetitions; 5 or more give 95 % intervals.")]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="Decides the order; without it a new one, which is recorded.")
]


@app.command()
def cpu(
    threads: Annotated[int, typer.Option(min=1, max=255, help="Threads, and the guest's virtual CPUs.")] = 1,
    time: TimeOption = 10,
    repeat: RepeatOption = 5,
    seed: SeedOption = 0,
    guest: Annotated[
        str, typer.Option(help="micro: sysbench in a Linux. bare: user-mode compute alone, which more KVMs can run.")
    ] = "micro",
    as_json: JsonOption = False,
) -> None:
    """Run the same prime search on the host, in a guest with KVM and in a guest without."""
    from limosa.cli.terminal import face, run
    from limosa.errors import SpecError
    from limosa.experiment.bench_cpu import CpuSettings

    if guest not in ("micro", "bare"):
        raise SpecError(f"--guest: there is no guest {guest!r} for this bench", hint="micro or bare")
    settings = CpuSettings(threads=threads, time_s=time, repeat=repeat, seed=seed)

    async def work() -> BenchResult:
        from limosa.experiment.bench_bare import bench_bare
        from limosa.experiment.bench_cpu import bench_cpu

        with face(as_json) as events:
            return await (bench_bare if guest == "bare" else bench_cpu)(settings, events=events)

    show_bench(run(work), as_json)


def show_bench(result: BenchResult, as_json: bool) -> None:
    """The table, why something is not measured, what makes it unsound, and where the report is."""
    from limosa.bench import comparison, soundness
    from limosa.bench.tables import bench_table, reasons
    from limosa.cli.table import print_table
    from limosa.cli.terminal import show_result

    bench, found = result.bench, soundness.findings(result.bench)
    if as_json:
        rows = [
            {"subject": row.subject, "metric": row.metric.name, "unit": row.metric.unit}
            | {"estimate": row.estimate, "ratio": row.ratio}
            for row in comparison.compare(bench)
        ]
        shown = {"run": str(result.run), "report": str(result.report), "rows": rows, "findings": found}
        show_result({**shown, "subjects": bench.subjects, "settings": bench.settings, "references": bench.references})
        return
    table = bench_table(bench)
    print(f"\n{table.title}")
    print_table(table.columns, table.rows)
    for sentence in reasons(bench):
        print(f"note: {sentence}")
    for finding in found:
        print(f"{finding.severity}: {finding.text}")
    for source in dict.fromkeys(reference.source for reference in bench.references):
        print(f"reference: {source}")
    print(f"\nreport: {result.report}")
