"""What makes a comparison of network cards unsound, or needs saying."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from limosa.bench import soundness
from limosa.bench.comparison import Comparison
from limosa.bench.network.parse import sent_bits_per_s
from limosa.bench.quantity import quantity
from limosa.bench.soundness import Rule
from limosa.results.account import Finding
from limosa.results.rest import SHORT


def offered(compared: Comparison) -> Iterator[Finding]:
    """Datagrams that went out at a lower rate than they were to: a loss is that of the rate that was sent."""
    bench = compared.bench
    wanted = float(bench.settings.get("udp_bits_per_s", 0))
    for name in bench.names:
        sent = [rate for r in bench.values(name, "udp-loss") if (rate := sent_bits_per_s(r)) is not None]
        if sent and median(sent) < SHORT * wanted:
            text = f"{bench.subject(name).label}: datagrams at {quantity(wanted, 'bit/s')} were asked for, and"
            text += f" {quantity(median(sent), 'bit/s')} were sent: loss and jitter are those of that rate."
            yield Finding(rule="offered", severity="caution", subject=name, text=text)


RULES: tuple[Rule, ...] = (
    *(soundness.different_files, soundness.full_machine, soundness.stolen, soundness.load, soundness.governor),
    *(soundness.clocks, soundness.emulated, offered, soundness.intervals, soundness.incomplete),
)
