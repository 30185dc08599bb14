"""The bench of migrations: CPU, throughput and round trips before, during and after each."""

from __future__ import annotations

from limosa.bench.during import measure, moves_page
from limosa.bench.during.parts import DURING, KIND
from limosa.bench.entry import Chapter, Entry, Lasting, OwnLab

MOVE_S = 5.0
"""256 MiB at 64 MiB/s, and what is around it."""


def _lasts_s(options: measure.Options) -> float:
    """Each load settles, runs, moves with the guest, and runs again."""
    return len(options.loads) * (measure.SETTLE_S + options.before_s + MOVE_S + options.after_s)


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
            lasts=Lasting(
                whole_s=_lasts_s(measure.Options()),
                quick_s=_lasts_s(measure.Options(before_s=4, after_s=5)),
                guests=1,
            ),
            own_lab=OwnLab(
                memory_bytes=measure.Options().memory_bytes,
                loads=(("cpu", "sysbench"), ("receive", "iperf3"), ("latency", "")),
            ),
            installs=True,
        ),
    ),
)
