"""The table of metrics: it fits the types and the documents, and a figure more takes a row and a field."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

import limosa
from limosa.results import format as f
from limosa.results.metrics import BY_KEY, CLOCKS, METRICS, UNITS
from tests import metric_docs, run_sample

IDENTITY = {"index", "source", "target", "outcome", "clocks"}
SUFFIXES = {"ms": "_ms", "bytes": "_bytes", "bytes/s": "_bytes_per_s", "events/s": "_events_per_s", "": ""}


def names(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}


def test_every_row_has_its_field_and_every_field_its_row() -> None:
    assert len(BY_KEY) == len(METRICS) == len({metric.label for metric in METRICS})
    assert {metric.key for metric, _ in CLOCKS} == names(f.Clocks)
    assert {metric.key for metric in METRICS if not metric.clock} == names(f.MigrationSummary) - IDENTITY
    assert {metric.key for metric in METRICS if metric.at_rest} == names(f.Rest) - {"length_s"}
    assert all(metric.share_of in {"", *BY_KEY} for metric in METRICS)


def test_a_key_ends_in_its_unit() -> None:
    assert set(UNITS.values()) == set(SUFFIXES)
    assert all(metric.key.endswith(SUFFIXES[metric.unit]) for metric in METRICS)


def test_the_clocks_stand_from_the_hypervisor_out_to_the_user_after_the_reference() -> None:
    assert [clock.number for _, clock in CLOCKS] == ["R", "1", "2", "3a", "3b", "4"]
    explained = (metric_docs.DOCS / "measuring.md").read_text()
    assert not [m.label for m, clock in CLOCKS if f"\n| {clock.number} | {m.label} | " not in explained]


def test_a_figure_that_was_not_read_is_none_in_every_row() -> None:
    """No field of a figure is 0 by itself."""
    row = f.MigrationSummary(index=1, source="a", target="b", outcome="failed", command_ms=1.0)
    assert [metric.key for metric in METRICS if metric.of(row) is not None] == ["command_ms"]


def test_no_type_of_a_run_has_a_figure_that_is_0_by_itself() -> None:
    """Counts of the probes and figures of the machine too: what was not read is None."""
    kinds = [kind for kind in vars(f).values() if isinstance(kind, type) and kind.__module__ == f.__name__]
    found = {
        f"{kind.__name__}.{field.name}"
        for kind in kinds
        for field in (msgspec.structs.fields(kind) if issubclass(kind, msgspec.Struct) else fields(kind))
        if isinstance(field.default, int | float) and not isinstance(field.default, bool)
    }
    assert len(kinds) > 10 and found == {"Run.format"}


@pytest.mark.parametrize("name", metric_docs.TABLES)
def test_the_documents_have_the_table(name: str) -> None:
    text = (metric_docs.DOCS / name).read_text()
    assert text == metric_docs.written(text, metric_docs.TABLES[name]()), "python -m tests.metric_docs writes it"


ROW = """\
METRICS: tuple[Metric, ...] = (
    Metric(
        key="setup_ms",
        label="setup",
        quantity="pause",
        meaning="how long QEMU prepared",
        derive=lambda observed: _of_qemu(observed, "setup-time"),
        column=True,
        headline="QEMU's preparation",
    ),
"""
FIELD = "    duration_ms: float | None = None\n"
SHOW = """\
import sys
from pathlib import Path

from limosa.results import store
from limosa.results.store import RunDirectory
from limosa.results.summary_tables import migrations_table
from tests import metric_docs

for row in migrations_table(RunDirectory.open(Path(sys.argv[1])).read(store.SUMMARY)).rows:
    print("\t".join(row))
print(metric_docs.in_files(), metric_docs.where_shown())
"""


def limosa_with_one_more(folder: Path) -> dict[str, str]:
    """A copy of the package in which two files are changed, and the environment in which Python finds it."""
    package = Path(limosa.__file__).parent
    for path in package.iterdir():
        if path.name != "results":
            (folder / "limosa").mkdir(exist_ok=True)
            (folder / "limosa" / path.name).symlink_to(path)
    shutil.copytree(package / "results", folder / "limosa/results", ignore=shutil.ignore_patterns("__pycache__"))
    for name, before, after in (
        ("metrics.py", ROW.splitlines(keepends=True)[0], ROW),
        ("format.py", FIELD, f"{FIELD}    setup_ms: float | None = None\n"),
    ):
        path = folder / "limosa/results" / name
        assert path.read_text().count(before) == 1
        path.write_text(path.read_text().replace(before, after))
    return {**os.environ, "PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}", "XDG_CACHE_HOME": str(folder)}


def test_a_figure_more_takes_two_files(tmp_path: Path) -> None:
    """A row and a field: then it is in the summary, the JSON, the CSV, the tables, the page and the documents."""
    run = run_sample.demo(tmp_path / "run")
    migrations = msgspec.json.decode((run / "migrations.json").read_bytes(), type=list[f.Migration])
    migrations[0].qemu["setup-time"] = 1234
    (run / "migrations.json").write_bytes(msgspec.json.encode(migrations))
    environment = limosa_with_one_more(tmp_path)

    def python(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments], check=True, capture_output=True, text=True, env=environment
        ).stdout

    told = json.loads(python("-m", "limosa", "report", str(run), "--csv", "--json"))
    summary = json.loads((run / "summary.json").read_bytes())
    for rows in (told["summary"]["migrations"], summary["migrations"]):
        assert [row["setup_ms"] for row in rows] == [1234, None], "QEMU said nothing of the second: no reading, not 0"
    table = list(csv.DictReader((run / "migrations.csv").read_text().splitlines()))
    assert [row["setup_ms"] for row in table] == ["1234.0", ""]
    page = (run / "report.html").read_text()
    assert '<td class="number" data-value="1234.0" data-name="setup_ms">1,234 ms</td>' in page
    assert (
        "<dd>1,234 ms</dd><dt>QEMU&#x27;s preparation</dt>" in page
        and '<th scope="col" title="how long QEMU prepared">Setup</th>' in page
    )
    shown = python("-c", SHOW, str(run))
    assert "setup\t1,234 ms\t-\n" in shown
    assert "| `setup_ms` | ms | | how long QEMU prepared |\n" in shown
    assert "| setup | `setup_ms` | table, key figure | |\n" in shown
