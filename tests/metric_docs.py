"""The tables of metrics in the documents, as ``limosa.results.metrics`` has them.

``python -m tests.metric_docs`` writes them between their marks; a test says when that was forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from limosa.results.metrics import METRICS, Metric

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- metrics: written by tests/metric_docs.py -->\n", "<!-- end of metrics -->"


def in_files() -> str:
    """For docs/results-format.md: the keys."""
    rows = ((f"`{m.key}`", m.unit, "clock" if m.clock else "", m.meaning) for m in METRICS)
    return _table(("key", "unit", "", "meaning"), rows)


def where_shown() -> str:
    """For docs/measuring.md: names for people, and where each is shown."""
    return _table(("figure", "key", "on the page", "at rest too"), map(_shown, METRICS))


def _shown(metric: Metric) -> tuple[str, ...]:
    places = {
        "table": metric.column,
        "key figure": metric.headline and not metric.noticed,
        "key figure where no wait was longer": metric.noticed,
        f"clock {metric.clock.number}" if metric.clock else "": metric.clock,
    }
    page = ", ".join(place for place, there in places.items() if there)
    return metric.label, f"`{metric.key}`", page, "yes" if metric.at_rest else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    body = "".join("|" + "".join(f" {cell} |" if cell else " |" for cell in cells) + "\n" for cells in (head, *rows))
    return body.replace("\n", f"\n|{'---|' * len(head)}\n", 1)


TABLES: dict[str, Callable[[], str]] = {"results-format.md": in_files, "measuring.md": where_shown}


def written(text: str, table: str) -> str:
    """*text* with *table* between the marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{table}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    for name, table in TABLES.items():
        path = DOCS / name
        path.write_text(written(path.read_text(), table()))
