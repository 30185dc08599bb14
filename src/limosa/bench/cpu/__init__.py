"""The CPU bench: the same prime search on the host, in a guest with KVM and in a guest without."""

from __future__ import annotations

from limosa.bench.bed import Beds
from limosa.bench.comparison_page import ComparisonPage
from limosa.bench.cpu import judge, laptop, measure, say, user_mode
from limosa.bench.cpu.measure import CpuSettings
from limosa.bench.entry import Chapter, Entry, Lasting
from limosa.bench.repetitions import BENCH
from limosa.errors import SpecError
from limosa.events import Events
from limosa.results.store import RunDirectory
from limosa.spec.image_kinds import BARE

PAGE = ComparisonPage(judge.RULES, say.SAYINGS)


async def _measure(settings: CpuSettings, beds: Beds, events: Events) -> RunDirectory:
    if settings.guest not in measure.GUESTS:
        text = f"--guest: there is no guest {settings.guest!r} for this bench"
        raise SpecError(text, hint=" or ".join(measure.GUESTS))
    if settings.guest == BARE.name:
        return await user_mode.measure(settings, beds, events)
    return await measure.measure(settings, beds, events)


def _lasts_s(settings: CpuSettings) -> float:
    """All subjects' turns, with the warm-up of each."""
    return float(len(measure.SUBJECTS) * (1 + settings.repeat) * settings.time_s)


CPU = Entry(
    name="cpu",
    purpose="the same prime search on the host, in a guest with KVM and in a guest without",
    kind="bench-cpu",
    file=BENCH.file,
    defaults=CpuSettings(),
    measure=_measure,
    account=PAGE.of_run,
    chapters=(
        Chapter(
            name="cpu",
            title="CPU with and without KVM",
            words=("bench", "cpu"),
            quick=("--time", "2 s", "--repeat", "2"),
            lasts=Lasting(whole_s=_lasts_s(CpuSettings()), quick_s=_lasts_s(CpuSettings(time_s=2, repeat=2)), guests=2),
            document=laptop.TOLD,
        ),
        Chapter(
            name="cpu-bare",
            title="CPU with and without KVM, user mode alone",
            words=("bench", "cpu", "--guest", BARE.name),
            quick=("--time", "1 s", "--repeat", "2"),
            lasts=Lasting(whole_s=_lasts_s(CpuSettings()), quick_s=_lasts_s(CpuSettings(time_s=1, repeat=2)), guests=2),
        ),
    ),
)
