"""The network bench: throughput, loss, jitter and round trips between client and guest, by network card."""

from __future__ import annotations

from limosa.bench.comparison_page import ComparisonPage
from limosa.bench.entry import Chapter, Entry, Lasting
from limosa.bench.network import judge, measure, say
from limosa.bench.repetitions import BENCH

PAGE = ComparisonPage(judge.RULES, say.SAYINGS, {"udp_bits_per_s": ("Rate of the datagrams", "bit/s")})


def _lasts_s(settings: measure.NetworkSettings) -> float:
    """Four turns of each card (there, back, datagrams, echoes), with their warm-ups."""
    return float(len(settings.models) * 4 * (1 + settings.repeat) * settings.time_s)


NETWORK = Entry(
    name="network",
    purpose="throughput, loss, jitter and round trips between a client and a guest, for each network card",
    kind="bench-network",
    file=BENCH.file,
    defaults=measure.NetworkSettings(),
    measure=measure.measure,
    account=PAGE.of_run,
    chapters=(
        Chapter(
            name="network",
            title="Network with and without virtio",
            words=("bench", "network"),
            quick=("--time", "2 s", "--repeat", "1"),
            lasts=Lasting(
                whole_s=_lasts_s(measure.NetworkSettings()),
                quick_s=_lasts_s(measure.NetworkSettings(time_s=2, repeat=1)),
                guests=len(measure.MODELS),
            ),
        ),
    ),
)
