"""The figures of the course report that Limosa follows: sysbench's CPU test on its author's laptop."""

from __future__ import annotations

from limosa.bench.repetitions import Reference

EVENTS_IN_10_S = {"host": 12_378, "guest-kvm": 18_678, "guest-tcg": 3_621}
"""By subject, one run each, on a laptop with an 8-core Ryzen."""

SOURCE = (
    "the course report that Limosa follows: sysbench for 10 s on a laptop with an 8-core Ryzen, one run each: "
    f"{EVENTS_IN_10_S['host']:,} events on the host, {EVENTS_IN_10_S['guest-kvm']:,} in a guest with KVM, "
    f"{EVENTS_IN_10_S['guest-tcg']:,} without. Which builds of sysbench these were is not told; that the guest beats "
    "its host is no effect of virtualisation"
)

_REMARK = (
    "The document reads this as “over 5 times slower” without KVM and “almost as on the host” with it. Its guest"
    " with KVM is 51 % faster than its host, which virtualisation cannot do; another build of sysbench, another C"
    " library or another clock rate can. So the benches here run the same file on both sides and record its hash."
)


def _beside_host(subject: str) -> str:
    events, host = EVENTS_IN_10_S[subject], EVENTS_IN_10_S["host"]
    return f"{events:,} ({events / host:.2f} times its host)"


TOLD = (
    f"Events in 10 s, one run each: guest with KVM {_beside_host('guest-kvm')}; guest without KVM"
    f" {_beside_host('guest-tcg')}; host {EVENTS_IN_10_S['host']:,}. {_REMARK}"
)
"""In the handout, whether ours could be measured or not."""


def references(metric: str) -> list[Reference]:
    """The figures beside ours, in events per second."""
    return [
        Reference(subject=subject, metric=metric, value=events / 10, source=SOURCE)
        for subject, events in EVENTS_IN_10_S.items()
    ]
