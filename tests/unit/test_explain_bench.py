"""Each rule with figures that trigger it, and with figures that do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from limosa.bench import cpu, disk, network
from limosa.bench.during import judge, say
from limosa.bench.during.compare import Measure, Moved
from limosa.bench.during.course import Course, Moments, series
from limosa.bench.during.parts import Part
from limosa.bench.repetitions import Bench, Metric, Repetition, Subject
from limosa.results.account import Finding
from limosa.results.format import Clocks, Environment, HostEnvironment, Rate
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


PAGES = {"bench-cpu": cpu.PAGE, "bench-network": network.PAGE, "bench-disk": disk.PAGE}


def explained(made: Bench) -> list[str]:
    return PAGES[made.kind].of(made).explanations


def findings(made: Bench) -> list[Finding]:
    return PAGES[made.kind].of(made).findings


def one(found: list[str], *words: str) -> bool:
    return sum(all(word in sentence for word in words) for sentence in found) == 1


def test_emulation_is_slower() -> None:
    said = explained(bench({"host": 1000, "guest-tcg": 200}))
    assert one(said, "Without KVM", "did 1/5.0 of", "0.2 times", "95 % interval")
    assert "With KVM" not in " ".join(said)
    assert one(explained(bench({"host": 1000, "guest-tcg": 200, "guest-kvm": 980})), "Without KVM", "0.98 times")
    assert not one(explained(bench({"host": 1000, "guest-tcg": 1000})), "Without KVM")
    assert one(explained(bench({"host": 1000, "guest-tcg": 200}, scatter=WILD)), "roughly 1/5.0")


def test_kvm() -> None:
    assert one(explained(bench({"host": 1000, "guest-kvm": 980})), "reached 0.98 times", "as they are")
    assert one(explained(bench({"host": 1000, "guest-kvm": 680})), "only 0.68 times")
    assert not one(explained(bench({"host": 1000, "guest-kvm": 980})), "reached only")


def test_faster_than_its_host_is_unsound() -> None:
    # The source document's figures.
    found = findings(bench({"host": 1237.8, "guest-kvm": 1867.8}))
    assert one([f.text for f in found if f.severity == "unsound"], "51 % faster", "cannot do")
    assert explained(bench({"host": 1237.8, "guest-kvm": 1867.8})) == []


def test_noise() -> None:
    assert one([f.text for f in findings(bench({"host": 1000}, scatter=WILD))], "host", "is known to")
    assert explained(bench({"host": 1000})) == []


@pytest.mark.parametrize("card", ["e1000", "rtl8139"])
def test_virtio(card: str) -> None:
    said = explained(bench({"virtio-net": 8e9, card: 1e9}, TCP))
    assert one(said, "virtio-net against", "8 times", card)
    assert one(said, "copy of a real one")
    assert explained(bench({"virtio-net": 1e9, card: 1e9}, TCP)) == []
    wait = Metric(name="round-trip", label="round trip", unit="s", higher_is_better=False)
    assert one(explained(bench({"virtio-net": 0.001, card: 0.002}, wait)), "round trip 0.5 times")
    worse = explained(bench({"virtio-net": 1e9, card: 8e9}, TCP))
    assert one(worse, "did worse than", card) and one(worse, "not usual") and not one(worse, "copy of a real one")


def test_two_cards_are_explained_once() -> None:
    said = explained(bench({"virtio-net": 8e9, "e1000": 1e9, "rtl8139": 5e8}, TCP))
    assert len(said) == 3 and one(said, "copy of a real one")


def test_lost_datagrams() -> None:
    loss = Metric(name="udp-loss", label="UDP loss", unit="share", higher_is_better=False)
    lossy = replace(bench({"virtio-net": 0.0001, "e1000": 0.12}, loss), settings={"udp_bits_per_s": 20_000_000})
    assert one(explained(lossy), "20 Mbit/s", "e1000 lost 12 %")
    assert not one(explained(lossy), "virtio-net lost")
    assert explained(bench({"virtio-net": 0.0001, "e1000": 0.001}, loss)) == []


def disk(levels: dict[str, float]) -> list[str]:
    reads = Metric(name="random-read", label="random read", unit="IO/s")
    return explained(replace(bench(levels, reads), kind="bench-disk", baseline=next(iter(levels))))


def test_disks() -> None:
    assert one(disk({"vblk-none": 4000, "sata-none": 2000}), "against SATA, cache none", "2 times")
    assert one(disk({"vblk-none": 2000, "sata-none": 4000}), "worse than SATA", "0.5 times")
    assert one(disk({"vblk-none": 1000, "vblk-writeback": 4000}), "cache none against writeback", "0.25 times")
    assert one(disk({"vblk-none": 4000, "vblk-writeback": 1000}), "faster with cache none", "4 times")
    odd = disk({"vblk-none": 2000, "vblk-writeback": 4000, "vscsi-none": 40, "vscsi-writeback": 4000})
    assert one(odd, "far more", "not the reason") and one(odd, "virtio-scsi with cache none", "0.01 times")
    assert disk({"vblk-none": 1000, "vblk-writeback": 1000, "sata-none": 1000}) == []


def estimate(value: float, low: float | None = None, high: float | None = None, count: int = 50) -> Estimate:
    return Estimate(value, low, high, 0.95, count)


def moved(
    ratio: Estimate | None = None, *, recovered_ms: float | None = 500.0, steady: bool = True, load: str = "receive",
    clocks: Clocks | None = None, silence_ms: float | None = None, count: int = 50, status: str = "measured",
    more_is_better: bool = True, longest_silence_ms: float | None = None, environment: Environment | None = None,
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
        longest_silence_ms=longest_silence_ms, environment=environment,
    )  # fmt: skip


def test_brownout() -> None:
    assert one(say.of_migrations([moved(estimate(0.6, 0.55, 0.65))]), "40 % lower", "While the guest was moving")
    slower = moved(estimate(1.5, 1.4, 1.6), more_is_better=False)
    assert one(say.of_migrations([slower]), "1.5 times as long")
    assert not one(say.of_migrations([moved(estimate(0.98, 0.95, 1.01))]), "lower")
    assert one(say.of_migrations([moved(estimate(0.98, 0.95, 1.01))]), "was the same while")
    assert not one(say.of_migrations([moved(estimate(0.98, 0.5, 1.5))]), "was the same while")


def test_better_while_moving_is_the_machines_doing() -> None:
    assert one(say.of_migrations([moved(estimate(1.3, 1.2, 1.4))]), "gives nothing")
    assert not one(say.of_migrations([moved(estimate(1.3, 0.9, 1.7))]), "gives nothing")


def test_outage() -> None:
    clocks = Clocks(stop_resume_ms=60.0, guest_lost_ms=60.0)
    assert one(
        say.of_migrations([moved(clocks=clocks, silence_ms=300.0)]),
        "stood still for 60 ms",
        "stream",
        "300 ms",
    )
    echoes = Clocks(stop_resume_ms=60.0, echo_gap_ms=200.0)
    assert one(say.of_migrations([moved(clocks=echoes, load="latency")]), "No echo", "200 ms")
    assert not one(say.of_migrations([moved(clocks=clocks, silence_ms=0.0)]), "stood still")
    same = Clocks(stop_resume_ms=60.0, echo_gap_ms=62.0)
    assert not one(say.of_migrations([moved(clocks=same, load="latency")]), "stood still")


def test_recovery() -> None:
    assert one(say.of_migrations([moved()]), "was back at 95 %", "0.5 s")
    assert one(say.of_migrations([moved(recovered_ms=None)]), "was not back", "90 %")
    assert one(say.of_migrations([moved(steady=False)]), "cannot be told")
    assert not one(say.of_migrations([moved(steady=False)]), "was back at")


def test_too_few_samples_and_broken_parts() -> None:
    assert one(say.of_migrations([moved(count=3)]), "Too few samples", "(3 samples)")
    assert not one(say.of_migrations([moved()]), "Too few samples")
    assert one(say.of_migrations([moved(status="partial")]), "partial", "the guest died")
    assert not one(say.of_migrations([moved()]), "the guest died")


def test_what_cannot_be_told_is_said_once_for_all() -> None:
    said = say.of_migrations([moved(estimate(0.9, 0.5, 1.5)), moved(estimate(1.1, 0.6, 1.6), load="send")])
    assert one(said, "cannot be told from these samples", "0.90", "1.10")
    assert not one(say.of_migrations([moved(estimate(1.0, 0.98, 1.02))]), "cannot be told from")


def test_a_silence_before_the_blackout() -> None:
    silent = moved(silence_ms=300.0, longest_silence_ms=1500.0)
    assert one(say.of_migrations([silent]), "not at the blackout", "1500 ms", "300 ms")
    assert not one(say.of_migrations([silent]), "Under emulation the usual reason")
    emulated = moved(silence_ms=300.0, longest_silence_ms=1500.0, environment=ENVIRONMENT)
    assert one(say.of_migrations([emulated]), "Under emulation the usual reason")
    same = moved(silence_ms=300.0, longest_silence_ms=310.0)
    assert not one(say.of_migrations([same]), "not at the blackout")


def test_silences_that_are_there_without_a_move_are_not_put_down_to_it() -> None:
    silent = moved(silence_ms=300.0, longest_silence_ms=1500.0)
    assert not one(say.of_migrations([replace(silent, rest_silence_ms=1400.0)]), "not at the blackout")
    echoes = moved(clocks=Clocks(stop_resume_ms=60.0, echo_gap_ms=200.0), load="latency")
    assert one(say.of_migrations([replace(echoes, rest_silence_ms=20.0)]), "No echo", "200 ms")
    assert not one(say.of_migrations([replace(echoes, rest_silence_ms=150.0)]), "No echo")


def test_datagrams_that_were_not_sent_at_the_rate_asked_for_are_a_caution() -> None:
    """20 Mbit/s for 10 s are 17,857 datagrams of 1400 bytes."""
    loss = Metric(name="udp-loss", label="UDP loss", unit="share", higher_is_better=False)

    def said(sent: int) -> list[str]:
        found = replace(bench({"virtio-net": 0.0, "e1000": 0.1}, loss), settings={"udp_bits_per_s": 20_000_000})
        counted = [replace(r, facts={"sent": sent}, duration_s=10.0) for r in found.repetitions]
        found = replace(found, repetitions=counted)
        return [f.text for f in findings(found) if f.rule == "offered"]

    assert said(17_857) == []
    slow = said(11_607)
    assert len(slow) == 2 and "datagrams at 20 Mbit/s were asked for, and 13 Mbit/s were sent" in slow[0]


def test_probes_that_came_short_are_a_caution() -> None:
    slow = Rate(name="ticks", unit="/s", requested=100.0, at_rest=61.0)
    said = judge.of_migrations([replace(moved(), rates=[slow])])
    assert [f.text for f in said if f.rule == "short-rate"] == [
        "Ticks: 100/s asked for, 61/s reached at rest (precopy, receive): silences are read the more coarsely."
    ]
    assert not [f for f in judge.of_migrations([moved()]) if f.rule == "short-rate"]


ENVIRONMENT = Environment(
    hosts={"host1": HostEnvironment(
        kind="namespaces", kernel="6.1", cpu_model="x", cpus=2, memory_bytes=1, qemu_path="qemu", qemu_version="7.2",
    )},
    accel="tcg", accel_reason="no /dev/kvm", machine="q35", cpu="max", image={}, load_average_before=0.5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "rule", "severity"),
    [
        ({"steal_share": 0.02}, "steal", "caution"),
        ({"steal_share": 0.2}, "steal", "unsound"),
        ({"load_average_before": 9.0}, "load", "caution"),
        ({"governor": "powersave"}, "governor", "caution"),
        ({"accel": "tcg"}, "emulated", "caution"),
    ],
)
def test_circumstances_of_a_migration(changes: dict[str, object], rule: str, severity: str) -> None:
    quiet = replace(ENVIRONMENT, accel="kvm")
    found = [moved(environment=quiet), moved(environment=replace(quiet, **changes))]  # type: ignore[arg-type]
    if rule in ("load", "governor", "emulated"):  # told of the first: the later ones have the bench's own work
        found.reverse()
    assert (rule, severity) in [(f.rule, f.severity) for f in judge.of_migrations(found)]
    assert [f.rule for f in judge.of_migrations([moved(environment=quiet)])] == ["one-move"]
    again = replace(moved(environment=quiet), part=Part(method="precopy", load="cpu", repetition=2))
    assert judge.of_migrations([moved(environment=quiet), again]) == []


def taken_apart(whole: float, share: float, speed: float, *, cpus: float = 1.0) -> Moved:
    made = moved()
    names = (("sysbench", whole), ("cpu-given", share), ("cpu-speed", speed))
    measures = []
    for name, ratio in names:
        course = made.measures[0].course
        assert course is not None
        course = replace(course, during_ratio=estimate(ratio, ratio * 0.97, ratio * 1.02))
        if name == "cpu-given":
            course = replace(course, before=estimate(cpus), during=estimate(cpus * ratio))
        measures.append(replace(made.measures[0], name=name, label=name, course=course))
    return replace(made, part=Part(method="precopy", load="cpu"), measures=measures)


def test_less_cpu_time_is_told_from_less_work_in_it() -> None:
    said = say.of_migrations([taken_apart(0.6, 0.62, 0.97)])
    assert one(said, "virtual CPU got 0.62 times", "did 0.97 times", "competition")
    assert not one(said, "cpu-given") and not one(said, "cpu-speed")
    assert not one(say.of_migrations([taken_apart(1.0, 1.0, 1.0)]), "virtual CPU got")


def test_a_guest_that_got_little_of_a_cpu_is_not_taken_apart() -> None:
    starved, fed = taken_apart(0.6, 0.62, 0.97, cpus=0.3), taken_apart(0.6, 0.62, 0.97)
    assert not one(say.of_migrations([starved]), "virtual CPU got")
    said = [f for f in judge.of_migrations([starved]) if f.rule == "starved"]
    assert [(f.severity, "only 0.19 of one" in f.text) for f in said] == [("unsound", True)]
    assert not any(f.rule == "starved" for f in judge.of_migrations([fed, moved()]))
