"""The disk bench: random and sequential I/O of a guest, by the bus of its disk and the host's cache."""

from __future__ import annotations

from limosa.bench.comparison_page import ComparisonPage
from limosa.bench.disk import judge, measure, say
from limosa.bench.entry import Entry
from limosa.bench.repetitions import BENCH

PAGE = ComparisonPage(judge.RULES, say.SAYINGS)

DISK = Entry(
    name="disk",
    purpose="random and sequential reads and writes of a guest, for each bus and each cache mode",
    kind="bench-disk",
    file=BENCH.file,
    defaults=measure.DiskSettings(),
    measure=measure.measure,
    account=PAGE.of_run,
)
