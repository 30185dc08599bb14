"""Explanations of a bench that follow from its measured figures: one pure function a rule, a sentence or nothing.

Rule: no sentence without a figure of this run in it, and none where the figure's interval does not bear it. An
explanation stands once, after all the figures that it explains. What must be read with care is told by
``limosa.bench.soundness`` and not again here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from limosa.bench import comparison, soundness
from limosa.bench.comparison import Row
from limosa.bench.during import say
from limosa.bench.during.compare import read as read_during
from limosa.bench.during.parts import DURING
from limosa.bench.phrases import above, below, listed, percent, roughly, times, unlike
from limosa.bench.repetitions import BENCH, Bench, Finding, Metric
from limosa.bench.tables import quantity
from limosa.errors import StateError
from limosa.results.statistics import Estimate
from limosa.results.store import RunDirectory

EMULATED_NICS = ("e1000", "rtl8139")
LOSS = 0.005
"""A share of datagrams below it is some single ones, which a busy machine loses with any card."""


UNLIKE_BUSES = 5.0
"""The same storage cannot slow two buses so differently."""


def narrate(run: RunDirectory) -> list[str]:
    """What follows from a finished bench. Raises StateError for a run that is no bench."""
    if run.has(DURING):
        return say.of_migrations(read_during(run)[1])
    return of_bench(_bench(run))


def cautions(run: RunDirectory) -> list[Finding]:
    """What makes the figures of a bench unsound, or needs saying. Raises StateError for a run that is no bench."""
    if run.has(DURING):
        return soundness.of_migrations(read_during(run)[1])
    return soundness.findings(_bench(run))


def _bench(run: RunDirectory) -> Bench:
    if not run.has(BENCH):
        raise StateError(f"the run {run.id} is no bench", hint="limosa bench makes one")
    return run.read(BENCH)


def of_bench(bench: Bench) -> list[str]:
    """Every rule's sentences on subjects that were compared."""
    rows = comparison.compare(bench)
    return [sentence for rule in BENCH_RULES for sentence in rule(bench, rows)]


def why_emulation_is_slower(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """The guest without KVM, against the host."""
    for row, ratio in _ratios(rows, "guest-tcg"):
        if not below(ratio):
            continue
        text = f"Without KVM the guest did {roughly(ratio)}1/{1 / ratio.value:.1f} of the host's work in a second:"
        text += f" {times(ratio)}."
        text += " QEMU translates the guest's instructions into the host's, block by block, and looks up every memory"
        text += " address in software, so that one instruction of the guest becomes several of the host. A division,"
        text += " of which a prime search mostly consists, even calls a function of QEMU's."
        kvm = next(_ratios(rows, "guest-kvm", row.metric.name), None)
        if kvm is not None:
            text += f" With KVM, where the processor runs them itself, it was {times(kvm[1])}."
        yield text


def kvm_close_to_host(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """The guest with KVM within a tenth below the host."""
    for _, ratio in _ratios(rows, "guest-kvm"):
        if bench.kind == "bench-cpu" and 0.9 <= ratio.value <= 1 and not unlike(ratio):
            yield (
                f"With KVM the guest reached {times(ratio)} the host's speed: its instructions run on the"
                " processor as they are, and only what leaves the guest (timers, devices) costs something."
            )


def kvm_loses(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """The guest with KVM clearly below the host: not what hardware virtualisation does to arithmetic."""
    for _, ratio in _ratios(rows, "guest-kvm"):
        if bench.kind == "bench-cpu" and ratio.value < 0.9 and below(ratio):
            yield (
                f"With KVM the guest reached only {times(ratio)} the host's speed. Where the processor virtualises,"
                " arithmetic loses a few percent at most. Usual reasons for more: KVM itself runs inside a virtual"
                " machine, or other work took the processor."
            )


def what_virtio_saves(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """virtio-net against each emulated card: all its figures that differ, then the reason once."""
    if bench.kind != "bench-network":
        return
    better = worse = False
    for card in EMULATED_NICS:
        pairs = [(m, r) for m, r in _against(bench, "virtio-net", card) if m.unit == "bit/s" or m.name == "round-trip"]
        gains = [(m, r) for m, r in pairs if (above(r) if m.higher_is_better else below(r))]
        losses = [(m, r) for m, r in pairs if (below(r) if m.higher_is_better else above(r))]
        if gains:
            better = True
            yield f"virtio-net against {_name(bench, card)}: {_figures(gains)}."
        if losses:
            worse = True
            yield f"virtio-net did worse than {_name(bench, card)}: {_figures(losses)}."
    if better:
        yield (
            "An emulated card is the copy of a real one: for every packet its driver writes to registers, and each"
            " write leaves the guest's code for QEMU's model of the card. virtio was made for virtual machines: the"
            " driver puts many packets into a ring in shared memory and notifies QEMU once for all of them."
        )
    if worse:
        yield "That an emulated card beats virtio is not usual; look at the order and the load of the repetitions."


def what_got_lost(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """Datagrams that did not arrive at the rate that was offered."""
    if bench.kind != "bench-network":
        return
    rate = quantity(float(bench.settings.get("udp_bits_per_s", 0)), "bit/s")
    lossy = [
        f"{_name(bench, row.subject)} lost {percent(row.estimate.value)}{_between(row.estimate)}"
        for row in rows
        if row.metric.name == "udp-loss" and row.estimate and _least(row.estimate) > LOSS
    ]
    if lossy:
        yield (
            f"Of datagrams that were asked for at {rate}, {listed(lossy)}: UDP does not slow down for a receiver, and"
            " what the guest cannot take in time is dropped on the way. At a lower --udp-rate less is lost."
        )


def what_the_bus_costs(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """virtio-blk against SATA with the same cache."""
    if bench.kind != "bench-disk":
        return
    better = False
    for cache in ("writeback", "none"):
        pairs = list(_against(bench, f"vblk-{cache}", f"sata-{cache}"))
        gains, losses = [p for p in pairs if above(p[1])], [p for p in pairs if below(p[1])]
        if gains:
            better = True
            yield f"virtio-blk against SATA, cache {cache}: {_figures(gains)}."
        if losses:
            yield f"virtio-blk did worse than SATA, cache {cache}: {_figures(losses)}."
    if better:
        yield (
            "An AHCI controller is the copy of a real one, with registers for each of its 32 slots; the driver and"
            " QEMU's model of it go through them for every request. virtio-blk puts requests into a ring in shared"
            " memory. The larger a request, the less the way to the disk counts beside the data itself."
        )


def what_the_cache_does(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """The same bus past the host's page cache, against through it."""
    if bench.kind != "bench-disk":
        return
    slower = list[float]()
    for bus, label in (("vblk", "virtio-blk"), ("vscsi", "virtio-scsi"), ("sata", "SATA")):
        pairs = list(_against(bench, f"{bus}-none", f"{bus}-writeback"))
        losses, gains = [p for p in pairs if below(p[1])], [p for p in pairs if above(p[1])]
        if losses:
            slower.append(min(ratio.value for _, ratio in losses))
            yield f"{label} with cache none against writeback: {_figures(losses)}."
        if gains:
            yield f"{label} was faster with cache none than with writeback: {_figures(gains)}."
    if slower:
        yield (
            "With writeback a file as small as this one lies in the host's memory, and a write is done when it is"
            " there. With none every request goes to the host's storage, whose own speed (and cache) is then part of"
            " the figure."
        )
    if slower and max(slower) > UNLIKE_BUSES * min(slower):
        yield "One bus loses far more by it than another, on the same storage: there the storage is not the reason."


BENCH_RULES: tuple[Callable[[Bench, list[Row]], Iterator[str]], ...] = (
    *(why_emulation_is_slower, kvm_close_to_host, kvm_loses, what_virtio_saves, what_got_lost),
    *(what_the_bus_costs, what_the_cache_does),
)


def _name(bench: Bench, subject: str) -> str:
    return bench.subject(subject).label


def _against(bench: Bench, subject: str, other: str) -> Iterator[tuple[Metric, Estimate]]:
    """The ratio of *subject* to *other* in every metric that both have values of."""
    for metric in bench.metrics:
        ours, theirs = bench.values(subject, metric.name), bench.values(other, metric.name)
        ratio = comparison.ratio_of_medians(ours, theirs) if ours and theirs else None
        if ratio is not None:
            yield metric, ratio


def _figures(pairs: list[tuple[Metric, Estimate]]) -> str:
    return listed([f"{metric.label} {times(ratio)}" for metric, ratio in pairs])


def _least(found: Estimate) -> float:
    """What it is at the least."""
    return found.value if found.low is None else found.low


def _between(share: Estimate) -> str:
    if share.low is None or share.high is None:
        return ""
    return f" (95 % interval {percent(share.low)} to {percent(share.high)})"


def _ratios(rows: list[Row], subject: str, metric: str = "") -> Iterator[tuple[Row, Estimate]]:
    found = ((row, row.ratio) for row in rows if row.subject == subject and row.ratio is not None)
    return ((row, ratio) for row, ratio in found if not metric or row.metric.name == metric)
