"""Each rule with figures that trigger it, and with figures that do not."""

from __future__ import annotations

import pytest

from limosa.bench import narration
from limosa.bench.during import Measure, Moved
from limosa.bench.during_format import Part
from limosa.bench.format import Bench, Metric, Repetition, Subject
from limosa.bench.recovery import Course, Moments, series
from limosa.results.format import Clocks
from limosa.results.statistics import Estimate

EVENTS = Metric(name="cpu-events", label="prime search", unit="events/s")
TCP = Metric(name="tcp-to-guest", label="TCP, client to guest", unit="bit/s")
STEADY = [0.99, 1.0, 1.01, 1.0, 0.99, 1.01]
WILD = [0.5, 1.7, 1.0, 0.6, 1.5, 1.0]


def bench(levels: dict[str, float], metric: Metric = EVENTS, scatter: list[float] = STEADY) -> Bench:
    kind = "bench-cpu" if metric is EVENTS else "bench-network"
    repetitions = [
        Repetition(
            subject=name, metric=metric.name, repetition=n + 1, order=n, value=level * factor,
            duration_s=1.0, started_ns=0, ended_ns=1,
        )
        for name, level in levels.items()
        for n, factor in enumerate(scatter)
    ]  # fmt: skip
    subjects = [Subject(name=name, label=name) for name in levels]
    return Bench(
        kind=kind, title="", baseline="host" if metric is EVENTS else "virtio-net", seed=1, settings={},
        metrics=[metric], subjects=subjects, repetitions=repetitions, complete=True,
    )  # fmt: skip


def one(found: list[str], *words: str) -> bool:
    return sum(all(word in sentence for word in words) for sentence in found) == 1


def test_emulation_is_slower() -> None:
    said = narration.of_bench(bench({"host": 1000, "guest-tcg": 200}))
    assert one(said, "Without KVM", "20%", "1/5.0")
    assert "With KVM" not in " ".join(said)
    assert one(narration.of_bench(bench({"host": 1000, "guest-tcg": 200, "guest-kvm": 980})), "Without KVM", "98%")
    assert not one(narration.of_bench(bench({"host": 1000, "guest-tcg": 1000})), "Without KVM")


def test_kvm() -> None:
    assert one(narration.of_bench(bench({"host": 1000, "guest-kvm": 980})), "reached 98%", "as they are")
    assert one(narration.of_bench(bench({"host": 1000, "guest-kvm": 680})), "only 68%")
    assert not one(narration.of_bench(bench({"host": 1000, "guest-kvm": 980})), "reached only")


def test_faster_than_its_host_is_unsound() -> None:
    # The source document's figures.
    assert one(narration.of_bench(bench({"host": 1237.8, "guest-kvm": 1867.8})), "51% faster", "unsound")
    assert not one(narration.of_bench(bench({"host": 1000, "guest-kvm": 1000})), "unsound")
    assert not one(narration.of_bench(bench({"host": 1000, "guest-kvm": 1005}, scatter=WILD)), "unsound")


def test_noise() -> None:
    assert one(narration.of_bench(bench({"host": 1000}, scatter=WILD)), "host", "scatter")
    assert narration.of_bench(bench({"host": 1000})) == []


@pytest.mark.parametrize("card", ["e1000", "rtl8139"])
def test_virtio(card: str) -> None:
    assert one(narration.of_bench(bench({"virtio-net": 8e9, card: 1e9}, TCP)), "8.0 times", card)
    assert narration.of_bench(bench({"virtio-net": 1e9, card: 1e9}, TCP)) == []
    wait = Metric(name="latency", label="round trip", unit="s", higher_is_better=False)
    assert one(narration.of_bench(bench({"virtio-net": 0.001, card: 0.002}, wait)), "0.50 times the wait")


def estimate(value: float, low: float | None = None, high: float | None = None, count: int = 50) -> Estimate:
    return Estimate(value, low, high, 0.95, count)


def moved(
    ratio: Estimate | None = None, *, recovered_ms: float | None = 500.0, steady: bool = True, load: str = "receive",
    clocks: Clocks | None = None, silence_ms: float | None = None, count: int = 50, status: str = "measured",
    more_is_better: bool = True,
) -> Moved:  # fmt: skip
    course = Course(
        before=estimate(1e9, 1e9, 1e9), during=estimate(5e8, 5e8 if count > 5 else None, 5e8, count),
        after=estimate(9e8, 9e8, 9e8), during_ratio=ratio, after_ratio=estimate(0.9, 0.9, 0.9),
        recovered_ms=recovered_ms, steady=steady,
    )  # fmt: skip
    samples = series([(0, 1, 1.0)], more_is_better=more_is_better)
    measure = Measure(name="throughput", label="iperf3", unit="bit/s", samples=samples, window_ns=1, course=course)
    return Moved(
        part=Part(method="precopy", load=load, status=status, reason="the guest died"),  # type: ignore[arg-type]
        moments=Moments(begin_ns=0, start_ns=1, stop_ns=2, resume_ns=3, end_ns=4, finish_ns=5),
        migration=None, clocks=clocks or Clocks(), measures=[measure], silence_ms=silence_ms,
    )  # fmt: skip


def test_brownout() -> None:
    assert one(narration.of_migrations([moved(estimate(0.6, 0.55, 0.65))]), "40% lower", "while the guest was moving")
    slower = moved(estimate(1.5, 1.4, 1.6), more_is_better=False)
    assert one(narration.of_migrations([slower]), "50% longer")
    assert not one(narration.of_migrations([moved(estimate(0.98, 0.95, 1.01))]), "lower")
    assert one(narration.of_migrations([moved(estimate(0.98, 0.95, 1.01))]), "was the same while")
    assert not one(narration.of_migrations([moved(estimate(0.98, 0.5, 1.5))]), "was the same while")


def test_better_while_moving_is_the_machines_doing() -> None:
    assert one(narration.of_migrations([moved(estimate(1.3, 1.2, 1.4))]), "gives nothing")
    assert not one(narration.of_migrations([moved(estimate(1.3, 0.9, 1.7))]), "gives nothing")


def test_outage() -> None:
    clocks = Clocks(stop_resume_ms=60.0, guest_lost_ms=60.0)
    assert one(narration.of_migrations([moved(clocks=clocks, silence_ms=300.0)]), "60 ms", "stream", "300 ms")
    echoes = Clocks(stop_resume_ms=60.0, echo_gap_ms=200.0)
    assert one(narration.of_migrations([moved(clocks=echoes, load="latency")]), "no echo", "200 ms")
    assert not one(narration.of_migrations([moved(clocks=clocks, silence_ms=0.0)]), "stood still")
    same = Clocks(stop_resume_ms=60.0, echo_gap_ms=62.0)
    assert not one(narration.of_migrations([moved(clocks=same, load="latency")]), "stood still")


def test_recovery() -> None:
    assert one(narration.of_migrations([moved()]), "was back at 95 %", "0.5 s")
    assert one(narration.of_migrations([moved(recovered_ms=None)]), "was not back", "90%")
    assert one(narration.of_migrations([moved(steady=False)]), "cannot be told")
    assert not one(narration.of_migrations([moved(steady=False)]), "was back at")


def test_too_few_samples_and_broken_parts() -> None:
    assert one(narration.of_migrations([moved(count=3)]), "only 3 samples")
    assert not one(narration.of_migrations([moved()]), "only")
    assert one(narration.of_migrations([moved(status="partial")]), "partial", "the guest died")
    assert not one(narration.of_migrations([moved()]), "the guest died")
