"""A bench as tables of text, for the terminal and the report."""

from __future__ import annotations

from limosa.bench import comparison
from limosa.bench.comparison import Row
from limosa.bench.repetitions import Bench
from limosa.results.statistics import Estimate
from limosa.results.summary_tables import NO_READING, Table


def bench_table(bench: Bench) -> Table:
    """A row for each metric and subject: median, 95 % interval, ratio to the baseline with its interval, reference."""
    references = {(r.subject, r.metric): r.value for r in bench.references}
    columns = ["", "median", "95 % interval", "times"]
    columns += [f"of {bench.subject(bench.baseline).label}", "95 % interval"] if bench.baseline else []
    columns += ["reference"] if references else []
    rows = []
    for row in comparison.compare(bench):
        if row.estimate is None and row.metric is not bench.metrics[0]:
            continue  # a subject without figures is told once
        cells = [_name(bench, row), *_cells(bench, row)]
        if references:
            value = references.get((row.subject, row.metric.name))
            cells.append(NO_READING if value is None else quantity(value, row.metric.unit))
        rows.append(tuple(cells))
    return Table(bench.title, tuple(columns), tuple(rows))


def _name(bench: Bench, row: Row) -> str:
    label = bench.subject(row.subject).label
    return label if len(bench.metrics) == 1 or row.estimate is None else f"{row.metric.label}: {label}"


def _cells(bench: Bench, row: Row) -> list[str]:
    estimate, unit = row.estimate, row.metric.unit
    if estimate is None:
        return [bench.subject(row.subject).status, *[NO_READING] * (4 if bench.baseline else 2)]
    cells = [quantity(estimate.value, unit), interval(estimate, unit), str(estimate.count)]
    if bench.baseline:
        ratio = row.ratio
        cells += [NO_READING] * 2 if ratio is None else [f"{ratio.value:.3g}", interval(ratio, "")]
    return cells


def reasons(bench: Bench) -> list[str]:
    """A sentence for each subject that is not wholly measured."""
    return [f"{s.label}: {s.status}, because {s.reason}" for s in bench.subjects if s.status != "measured"]


def interval(estimate: Estimate, unit: str) -> str:
    """``3400 to 3460 events/s``, or a dash when there is none."""
    if estimate.low is None or estimate.high is None:
        return NO_READING
    low, high = quantity(estimate.low, unit), quantity(estimate.high, unit)
    same = scale(unit, estimate.low)[0] == scale(unit, estimate.high)[0]
    return f"{low.partition(' ')[0] if same else low} to {high}"


_SCALES = {
    "bit/s": (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3), ("bit/s", 1.0)),
    "bytes/s": (("MiB/s", 2.0**20), ("KiB/s", 2.0**10), ("B/s", 1.0)),
    "s": (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)),
    "share": (("%", 0.01),),
}


def scale(unit: str, value: float) -> tuple[str, float]:
    """The unit to show a *value* of *unit* in, and how many of *unit* that is."""
    scales = _SCALES.get(unit, ((unit, 1.0),))
    return next(((name, factor) for name, factor in scales if abs(value) >= factor), scales[-1])


def quantity(value: float, unit: str) -> str:
    """A value for people, with three or four digits: ``940 Mbit/s``."""
    name, factor = scale(unit, value)
    number = value / factor
    digits = f"{number:.0f}" if abs(number) >= 1000 else f"{number:.3g}"
    return f"{digits} {name}".strip()
