"""What follows from the network bench's figures: one pure function a rule, sentences or nothing.

Rule: no sentence without a figure of this run in it, and none where the figure's interval does not bear it. An
explanation stands once, after all the figures that it explains. What must be read with care ``judge`` tells.
"""

from __future__ import annotations

from collections.abc import Iterator

from limosa.bench.comparison import Comparison, ratios
from limosa.bench.quantity import quantity
from limosa.bench.soundness import Saying
from limosa.results.phrases import above, below, listed, percent
from limosa.results.statistics import Estimate

EMULATED_NICS = ("e1000", "rtl8139")
LOSS = 0.005
"""A share of datagrams below it is some single ones, which a busy machine loses with any card."""


def what_virtio_saves(compared: Comparison) -> Iterator[str]:
    """virtio-net against each emulated card: all its figures that differ, then the reason once."""
    better = worse = False
    for card in EMULATED_NICS:
        pairs = [(m, r) for m, r in compared.against("virtio-net", card) if m.unit == "bit/s" or m.name == "round-trip"]
        gains = [(m, r) for m, r in pairs if (above(r) if m.higher_is_better else below(r))]
        losses = [(m, r) for m, r in pairs if (below(r) if m.higher_is_better else above(r))]
        if gains:
            better = True
            yield f"virtio-net against {compared.bench.subject(card).label}: {ratios(gains)}."
        if losses:
            worse = True
            yield f"virtio-net did worse than {compared.bench.subject(card).label}: {ratios(losses)}."
    if better:
        yield (
            "An emulated card is the copy of a real one: for every packet its driver writes to registers, and each"
            " write leaves the guest's code for QEMU's model of the card. virtio was made for virtual machines: the"
            " driver puts many packets into a ring in shared memory and notifies QEMU once for all of them."
        )
    if worse:
        yield "That an emulated card beats virtio is not usual; look at the order and the load of the repetitions."


def what_got_lost(compared: Comparison) -> Iterator[str]:
    """Datagrams that did not arrive at the rate that was offered."""
    rate = quantity(float(compared.bench.settings.get("udp_bits_per_s", 0)), "bit/s")
    lossy = [
        f"{compared.bench.subject(row.subject).label} lost {percent(row.estimate.value)}{_between(row.estimate)}"
        for row in compared.rows
        if row.metric.name == "udp-loss" and row.estimate and _least(row.estimate) > LOSS
    ]
    if lossy:
        yield (
            f"Of datagrams that were asked for at {rate}, {listed(lossy)}: UDP does not slow down for a receiver, and"
            " what the guest cannot take in time is dropped on the way. At a lower --udp-rate less is lost."
        )


def _least(found: Estimate) -> float:
    """What it is at the least."""
    return found.value if found.low is None else found.low


def _between(share: Estimate) -> str:
    if share.low is None or share.high is None:
        return ""
    return f" (95 % interval {percent(share.low)} to {percent(share.high)})"


SAYINGS: tuple[Saying, ...] = (what_virtio_saves, what_got_lost)
