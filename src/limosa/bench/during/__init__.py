"""The bench of migrations: CPU, throughput and round trips before, during and after each."""

from __future__ import annotations

from limosa.bench.during import measure, moves_page
from limosa.bench.during.parts import DURING, KIND
from limosa.bench.entry import Chapter, Entry

DURING_MIGRATION = Entry(
    name="during-migration",
    purpose="CPU, throughput and round trips before, during and after a live migration",
    kind=KIND,
    file=DURING.file,
    defaults=measure.Options(),
    measure=measure.measure,
    account=moves_page.of_run,
    chapters=(
        Chapter(
            name="during",
            title="CPU and network during a live migration",
            words=("bench", "during-migration", "--max-bandwidth", "64 MiB/s"),
            quick=("--before", "4 s", "--after", "5 s"),
            installs=True,
        ),
    ),
)
