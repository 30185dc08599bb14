"""The CPU bench: the same prime search on the host, in a guest with KVM and in a guest without."""

from __future__ import annotations

from limosa.bench.comparison_page import ComparisonPage
from limosa.bench.cpu import judge, laptop, say
from limosa.bench.entry import Chapter, Entry
from limosa.bench.repetitions import BENCH
from limosa.spec.image_kinds import BARE

PAGE = ComparisonPage(judge.RULES, say.SAYINGS)

CPU = Entry(
    name="cpu",
    purpose="the same prime search on the host, in a guest with KVM and in a guest without",
    kind="bench-cpu",
    file=BENCH.file,
    account=PAGE.of_run,
    chapters=(
        Chapter(
            name="cpu",
            title="CPU with and without KVM",
            words=("bench", "cpu"),
            quick=("--time", "2", "--repeat", "2"),
            document=laptop.TOLD,
        ),
        Chapter(
            name="cpu-bare",
            title="CPU with and without KVM, user mode alone",
            words=("bench", "cpu", "--guest", BARE.name),
            quick=("--time", "1", "--repeat", "2"),
        ),
    ),
)
