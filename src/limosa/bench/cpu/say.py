"""What follows from the CPU bench's figures: one pure function a rule, sentences or nothing.

Rule: no sentence without a figure of this run in it, and none where the figure's interval does not bear it. An
explanation stands once, after all the figures that it explains. What must be read with care ``judge`` tells.
"""

from __future__ import annotations

from collections.abc import Iterator

from limosa.bench.comparison import Comparison, Row
from limosa.bench.soundness import Saying
from limosa.results.phrases import below, roughly, times, unlike
from limosa.results.statistics import Estimate


def why_emulation_is_slower(compared: Comparison) -> Iterator[str]:
    """The guest without KVM, against the host."""
    for row, ratio in _ratios(compared, "guest-tcg"):
        if not below(ratio):
            continue
        text = f"Without KVM the guest did {roughly(ratio)}1/{1 / ratio.value:.1f} of the host's work in a second:"
        text += f" {times(ratio)}."
        text += " QEMU translates the guest's instructions into the host's, block by block, and looks up every memory"
        text += " address in software, so that one instruction of the guest becomes several of the host. A division,"
        text += " of which a prime search mostly consists, even calls a function of QEMU's."
        kvm = next(_ratios(compared, "guest-kvm", row.metric.name), None)
        if kvm is not None:
            text += f" With KVM, where the processor runs them itself, it was {times(kvm[1])}."
        yield text


def kvm_close_to_host(compared: Comparison) -> Iterator[str]:
    """The guest with KVM within a tenth below the host."""
    for _, ratio in _ratios(compared, "guest-kvm"):
        if 0.9 <= ratio.value <= 1 and not unlike(ratio):
            yield (
                f"With KVM the guest reached {times(ratio)} the host's speed: its instructions run on the"
                " processor as they are, and only what leaves the guest (timers, devices) costs something."
            )


def kvm_loses(compared: Comparison) -> Iterator[str]:
    """The guest with KVM clearly below the host: not what hardware virtualisation does to arithmetic."""
    for _, ratio in _ratios(compared, "guest-kvm"):
        if ratio.value < 0.9 and below(ratio):
            yield (
                f"With KVM the guest reached only {times(ratio)} the host's speed. Where the processor virtualises,"
                " arithmetic loses a few percent at most. Usual reasons for more: KVM itself runs inside a virtual"
                " machine, or other work took the processor."
            )


def _ratios(compared: Comparison, subject: str, metric: str = "") -> Iterator[tuple[Row, Estimate]]:
    found = ((row, row.ratio) for row in compared.rows if row.subject == subject and row.ratio is not None)
    return ((row, ratio) for row, ratio in found if not metric or row.metric.name == metric)


SAYINGS: tuple[Saying, ...] = (why_emulation_is_slower, kvm_close_to_host, kvm_loses)
