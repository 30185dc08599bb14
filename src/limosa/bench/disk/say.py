"""What follows from the disk bench's figures: one pure function a rule, sentences or nothing.

Rule: no sentence without a figure of this run in it, and none where the figure's interval does not bear it. An
explanation stands once, after all the figures that it explains. What must be read with care ``judge`` tells.
"""

from __future__ import annotations

from collections.abc import Iterator

from limosa.bench.comparison import Comparison, ratios
from limosa.bench.soundness import Saying
from limosa.results.phrases import above, below

UNLIKE_BUSES = 5.0
"""The same storage cannot slow two buses so differently."""


def what_the_bus_costs(compared: Comparison) -> Iterator[str]:
    """virtio-blk against SATA with the same cache."""
    better = False
    for cache in ("writeback", "none"):
        pairs = list(compared.against(f"vblk-{cache}", f"sata-{cache}"))
        gains, losses = [p for p in pairs if above(p[1])], [p for p in pairs if below(p[1])]
        if gains:
            better = True
            yield f"virtio-blk against SATA, cache {cache}: {ratios(gains)}."
        if losses:
            yield f"virtio-blk did worse than SATA, cache {cache}: {ratios(losses)}."
    if better:
        yield (
            "An AHCI controller is the copy of a real one, with registers for each of its 32 slots; the driver and"
            " QEMU's model of it go through them for every request. virtio-blk puts requests into a ring in shared"
            " memory. The larger a request, the less the way to the disk counts beside the data itself."
        )


def what_the_cache_does(compared: Comparison) -> Iterator[str]:
    """The same bus past the host's page cache, against through it."""
    slower = list[float]()
    for bus, label in (("vblk", "virtio-blk"), ("vscsi", "virtio-scsi"), ("sata", "SATA")):
        pairs = list(compared.against(f"{bus}-none", f"{bus}-writeback"))
        losses, gains = [p for p in pairs if below(p[1])], [p for p in pairs if above(p[1])]
        if losses:
            slower.append(min(ratio.value for _, ratio in losses))
            yield f"{label} with cache none against writeback: {ratios(losses)}."
        if gains:
            yield f"{label} was faster with cache none than with writeback: {ratios(gains)}."
    if slower:
        yield (
            "With writeback a file as small as this one lies in the host's memory, and a write is done when it is"
            " there. With none every request goes to the host's storage, whose own speed (and cache) is then part of"
            " the figure."
        )
    if slower and max(slower) > UNLIKE_BUSES * min(slower):
        yield "One bus loses far more by it than another, on the same storage: there the storage is not the reason."


SAYINGS: tuple[Saying, ...] = (what_the_bus_costs, what_the_cache_does)
