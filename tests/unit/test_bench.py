"""What a bench says of its figures: parsing, statistics against samples made here, and every rule of soundness."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limosa import report
from limosa.bench import benches, comparison, comparison_page, cpu, disk, programs, repetitions, soundness
from limosa.bench.cpu import parse as sysbench
from limosa.bench.disk import parse as fio
from limosa.bench.ledger import Ledger
from limosa.bench.network import parse as iperf
from limosa.bench.quantity import quantity
from limosa.bench.repetitions import BENCH, Bench, Metric, Reference, Repetition, Subject
from limosa.bench.rounds import schedule
from limosa.errors import LimosaError, MachineError
from limosa.guest.built_images import Image
from limosa.probes.exchange import Exchanges
from limosa.report import plots
from limosa.report.theme import PRINT
from limosa.results.account import Finding
from limosa.results.samples import LOST
from limosa.results.statistics import Estimate
from limosa.results.store import EventFile, RunDirectory

METRIC = Metric(name="cpu-events", label="prime search", unit="events/s")
SUBJECTS = [
    Subject(name="host", label="host", files={"sysbench": "aa"}),
    Subject(name="guest-kvm", label="guest with KVM", files={"sysbench": "aa"}),
    Subject(name="guest-tcg", label="guest without", status="skipped", reason="it is too late"),
]
S = 1_000_000_000

PRINTED = """sysbench 1.0.20 (using system LuaJIT 2.1.0-beta3)

[ 1s ] thds: 1 eps: 1000.50 lat (ms,95%): 4.33
[ 2s ] thds: 1 eps: 900.25 lat (ms,95%): 4.41
CPU speed:
    events per second:   966.45

General statistics:
    total time:                          3.0007s
    total number of events:              2900
"""


def repetition(subject: str, number: int, value: float, **fields: object) -> Repetition:
    given = {"total": value * 10, "duration_s": 10.0, "seconds": [value] * 9 + [value], "started_ns": 0}
    given |= {"ended_ns": 10 * S, "busy_share": 0.3, "steal_share": 0.0, **fields}
    return Repetition(subject=subject, metric=METRIC.name, repetition=number, order=number, value=value, **given)  # type: ignore[arg-type]


def bench(host: list[float], guest: list[float], **fields: object) -> Bench:
    found = [repetition("host", n, value) for n, value in enumerate(host, 1)]
    found += [repetition("guest-kvm", n, value) for n, value in enumerate(guest, 1)]
    given = {"settings": {"threads": 1}, "machine": {"cpus": 4, "governor": ""}, "complete": True, **fields}
    return Bench(  # type: ignore[arg-type]
        kind="bench-cpu",
        title="CPU",
        baseline="host",
        seed=1,
        metrics=[METRIC],
        subjects=SUBJECTS,
        repetitions=found,
        **given,
    )


QUIET = bench([1000, 1001, 999, 1002, 998], [950, 951, 949, 952, 948])


def findings(made: Bench) -> list[Finding]:
    judge = {"bench-cpu": cpu.judge, "bench-disk": disk.judge}[made.kind]
    return soundness.findings(comparison.compare(made), judge.RULES)


def rules(made: Bench) -> set[tuple[str, str]]:
    return {(finding.rule, finding.severity) for finding in findings(made)}


def changed(made: Bench, **fields: object) -> Bench:
    return replace(made, repetitions=[replace(r, **fields) for r in made.repetitions])  # type: ignore[arg-type]


def test_sysbench_is_read_and_its_seconds_add_up() -> None:
    primes = sysbench.parse(PRINTED)
    assert (primes.version, primes.events, primes.duration_s) == ("1.0.20", 2900, 3.0007)
    assert primes.seconds == (1000.5, 900.25, 999.25)
    assert primes.events_per_s == pytest.approx(966.44, abs=0.01)


def test_reports_that_came_late_are_fitted_to_the_total_and_said() -> None:
    primes = sysbench.parse(PRINTED.replace("2900", "1500"))
    assert sum(primes.seconds) == pytest.approx(1500) and primes.seconds[0] > primes.seconds[1] > 0
    assert primes.scale == pytest.approx(1500 / 1900.75)
    late = changed(QUIET, facts={"seconds_scale": primes.scale})
    assert ("uneven-seconds", "caution") in rules(late)
    assert sysbench.parse(PRINTED).scale == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "did not end as it should"),
        (PRINTED[: PRINTED.index("General")], "did not end as it should"),
        (PRINTED.replace("3.0007s", "0.9s"), "reported 2 seconds in 0.9 s"),
    ],
)
def test_half_or_contradictory_output_is_refused(text: str, said: str) -> None:
    with pytest.raises(LimosaError, match=said):
        sysbench.parse(text)


def test_five_repetitions_get_an_interval_from_their_seconds_and_four_get_none() -> None:
    row = comparison.compare(QUIET).rows[1]
    assert row.estimate is not None and row.ratio is not None
    assert row.estimate.value == 950
    assert row.estimate.low is not None and 940 < row.estimate.low < 950
    assert row.ratio.value == pytest.approx(0.95)
    assert row.ratio.low is not None and row.ratio.high is not None
    assert row.ratio.low < 0.95 < row.ratio.high < 0.96
    few = comparison.compare(bench([1000, 1001, 999, 1002], [950]))
    assert all(r.estimate is None or r.estimate.low is None for r in few.rows)
    assert comparison.compare(QUIET).rows[2].estimate is None


def test_the_interval_of_five_holds_the_median_about_as_often_as_it_says() -> None:
    """With sets of five drawn from a known distribution; a percentile bootstrap over five alone holds it less often."""
    random, held = np.random.default_rng(7), 0
    for _ in range(60):
        values = random.normal(1000, 20, 5)
        made = [
            repetition("host", n, float(v), seconds=[float(x) for x in random.normal(v, 40, 10)])
            for n, v in enumerate(values, 1)
        ]
        found = comparison.median(made)
        assert found.low is not None and found.high is not None
        held += found.low <= 1000 <= found.high
    assert held >= 53


def test_a_warm_up_is_kept_and_never_counted() -> None:
    made = replace(QUIET, repetitions=[repetition("host", 0, 5.0), *QUIET.repetitions])
    assert comparison.compare(made).rows[0].estimate == comparison.compare(QUIET).rows[0].estimate


def test_a_quiet_bench_has_nothing_to_say() -> None:
    assert rules(QUIET) == set()


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (bench([1000, 1001, 999, 1002, 998], [1500, 1501, 1499, 1502, 1498]), ("beyond-host", "unsound")),
        (bench([1000], [1500]), ("beyond-host", "caution")),
        (bench([1000, 1000, 1000], [900, 900, 900]), ("too-few", "caution")),
        (bench([1000, 1001, 999, 1002, 998], [800, 900, 1000, 700, 600]), ("wide", "caution")),
        (bench([1000, 1001, 999, 1002, 998], [1000, 1001, 999, 1003, 997]), ("not-apart", "note")),
        (bench([1000, 800, 900, 1000, 1000], [700, 701, 702, 703, 704]), ("unsteady-host", "caution")),
        (changed(QUIET, busy_share=0.5), ("busy-machine", "caution")),
        (changed(QUIET, busy_share=1.0), ("busy-machine", "unsound")),
        (changed(replace(QUIET, kind="bench-disk"), busy_share=0.99), ("full-machine", "caution")),
        (changed(QUIET, steal_share=0.02), ("steal", "caution")),
        (changed(QUIET, steal_share=0.2), ("steal", "unsound")),
        (changed(QUIET, ended_ns=30 * S), ("clocks", "caution")),
        (changed(QUIET, ended_ns=5 * S), ("clocks", "caution")),
        (replace(QUIET, machine={"cpus": 4, "governor": "powersave"}), ("governor", "caution")),
        (replace(QUIET, machine={"cpus": 4, "load_average_before": 9.0}), ("load", "caution")),
        (replace(QUIET, settings={"threads": 8}), ("threads", "caution")),
        (
            replace(QUIET, kind="bench-disk", subjects=[replace(s, accel="tcg") for s in SUBJECTS]),
            ("emulated", "caution"),
        ),
        (replace(QUIET, complete=False), ("incomplete", "caution")),
        (
            replace(QUIET, subjects=[SUBJECTS[0], replace(SUBJECTS[1], files={"sysbench": "bb"}), SUBJECTS[2]]),
            ("different-files", "unsound"),
        ),
    ],
)
def test_each_rule_finds_what_it_is_for(made: Bench, expected: tuple[str, str]) -> None:
    assert expected in rules(made)


def test_a_steady_governor_and_equal_files_are_no_findings() -> None:
    assert rules(replace(QUIET, machine={"cpus": 4, "governor": "performance"})) == set()
    assert programs.different({"a": "1"}, {"a": "1"}) == []
    assert programs.different({"a": "1", "b": "2"}, {"a": "1"}) == ["b"]


def test_the_gravest_finding_comes_first_and_noted_ones_are_kept() -> None:
    noted = Finding(rule="lost", severity="caution", text="It died.")
    made = changed(replace(QUIET, findings=[noted]), steal_share=0.5)
    assert [f.rule for f in findings(made)] == ["steal", "lost"]


def test_the_order_is_random_balanced_and_repeatable() -> None:
    order = schedule(["a", "b", "c"], 4, seed=5)
    assert order == schedule(["a", "b", "c"], 4, seed=5)
    assert order != schedule(["a", "b", "c"], 4, seed=6)
    assert order[:3] == [("a", 0), ("b", 0), ("c", 0)]
    for number in range(1, 5):
        turn = order[3 * number : 3 * number + 3]
        assert sorted(turn) == [("a", number), ("b", number), ("c", number)]


def test_iperf_counts_what_the_receiver_got() -> None:
    seconds = [{"sum": {"bytes": n, "seconds": 1.0}} for n in (1000, 3000)] + [{"sum": {"bytes": 50, "seconds": 0.05}}]
    receiver = json.dumps({"intervals": seconds, "end": {"sum_received": {"bytes": 4050, "seconds": 2.05}}})
    sender = json.dumps({"end": {"sum_sent": {"bytes": 9999, "retransmits": 3}}})
    found = iperf.received(receiver, sender)
    assert (found.total_bits, found.retransmits) == (32_400, 3)
    assert found.seconds_bits == (8000, 24_000, 400)
    with pytest.raises(LimosaError, match="unable to connect"):
        iperf.received(json.dumps({"error": "unable to connect"}))
    with pytest.raises(LimosaError, match="did not answer with JSON"):
        iperf.received("Killed")


def test_iperf_datagrams() -> None:
    whole = {"sum": {"seconds": 1.0, "lost_percent": 10.0, "jitter_ms": 0.5}}
    end = {"sum": {"packets": 200, "lost_packets": 20, "jitter_ms": 0.25, "seconds": 1.0}}
    found = iperf.datagrams(json.dumps({"intervals": [whole], "end": end}))
    assert (found.loss, found.jitter_s, found.seconds_loss) == (0.1, 0.00025, (0.1,))


def test_round_trips_of_each_second() -> None:
    sent = np.array([0, S // 2, S, S + 1], dtype=np.int64)
    received = np.array([1_000_000, S // 2 + 3_000_000, LOST, S + 4_000_001], dtype=np.int64)
    found = iperf.round_trips(Exchanges(np.arange(4, dtype=np.int64), sent, received))
    assert found is not None
    assert (found.answered, found.median_s, found.seconds_s) == (3, 0.003, (0.002, 0.004))
    nothing = np.full(4, LOST, dtype=np.int64)
    assert iperf.round_trips(Exchanges(np.arange(4, dtype=np.int64), sent, nothing)) is None


def test_fio_counts_of_each_second_are_differences() -> None:
    job = fio.JOBS[0]
    documents = [
        {"jobs": [{"read": {"total_ios": ios, "io_bytes": ios * 4096, "runtime": ms}}]}
        for ios, ms in ((100, 1000), (250, 2000), (260, 2050))
    ]
    text = "\n".join(json.dumps(document) for document in documents)
    found = fio.parse(text, job)
    assert (found.total, found.duration_s, found.seconds) == (260, 2.05, (100, 150, 10))
    with pytest.raises(LimosaError, match="cut off"):
        fio.parse(text[:-5], job)


def test_the_table_shows_medians_ratios_references_and_reasons() -> None:
    made = replace(QUIET, references=[Reference(subject="host", metric=METRIC.name, value=1237.8, source="elsewhere")])
    table = comparison_page.table(comparison.compare(made))
    assert table.rows[0][:2] == ("host", "1,000 events/s")
    assert table.rows[0][-1] == "1,238 events/s"
    assert table.rows[1][4] == "0.95"
    assert table.rows[2][1] == "skipped"
    assert comparison_page.reasons(made) == ["guest without: skipped, because it is too late"]


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (94_123_456, "bit/s", "94.1 Mbit/s"),
        (0.00125, "s", "1.25 ms"),
        (0.0012, "share", "0.12 %"),
        (3 * 2**20, "bytes/s", "3 MiB/s"),
        (12_345, "IO/s", "12,345 IO/s"),
        (0.0, "share", "0 %"),
    ],
)
def test_quantities(value: float, unit: str, shown: str) -> None:
    assert quantity(value, unit) == shown


def test_a_bench_of_the_first_format_is_read_and_drawn(tmp_path: Path) -> None:
    """It had the repetitions in bench.json."""
    run = RunDirectory.create(kind="bench-cpu", lab="x", guest="", base=tmp_path)
    assert benches.account(run) is None, "it had not begun to measure"
    run.write(BENCH, QUIET)
    assert repetitions.read(run) == QUIET
    account = benches.account(run)
    assert account is not None and account.plot is not None
    assert len(plots.spec(account.plot, PRINT)["vconcat"]) == 1
    assert "0.95 times the host" in account.verdict.sentence
    assert cpu.PAGE.of(replace(QUIET, repetitions=[])).plot is None
    assert cpu.PAGE.of(changed(QUIET, steal_share=0.2)).verdict.mark == "Unsound"
    (run.path / "bench.json").write_text("{")
    with pytest.raises(LimosaError, match=r"bench\.json is damaged"):
        benches.account(run)


def test_a_bench_that_was_killed_keeps_every_whole_repetition(tmp_path: Path) -> None:
    run = RunDirectory.create(kind="bench-cpu", lab="x", guest="", base=tmp_path)
    ledger = Ledger(run, replace(QUIET, repetitions=[], complete=False))
    ledger.save()
    head = (run.path / BENCH.file).read_bytes()
    for made in QUIET.repetitions:
        ledger.add(made, "printed")
    assert (run.path / BENCH.file).read_bytes() == head, "what is known already is not written again"
    assert repetitions.read(run) == replace(QUIET, complete=False) == ledger.bench
    lines = run.path / repetitions.REPETITIONS_FILE
    account = benches.told(run)
    assert account.verdict.mark == "Measured in part" and "incomplete" in {f.rule for f in account.findings}
    lines.write_bytes(lines.read_bytes()[:-9])
    assert repetitions.read(run).repetitions == QUIET.repetitions[:-1]
    lines.write_text("{}\n")
    with pytest.raises(LimosaError, match=r"repetitions\.jsonl is damaged"):
        repetitions.read(run)


def test_everything_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bootstrap takes most of a page's time: no median and no ratio is drawn for twice."""
    drawn: list[tuple[int, ...]] = []

    def counted(found: list[Repetition]) -> Estimate:
        drawn.append(tuple(id(each) for each in found))
        return Estimate(found[0].value, None, None, 0.95, len(found))

    monkeypatch.setattr(comparison, "median", counted)
    run = RunDirectory.create(kind="bench-cpu", lab="x", guest="", base=tmp_path)
    EventFile(run, print).close()
    run.write(BENCH, QUIET)
    report.build(run.path)
    assert len(drawn) == len(set(drawn)) == 2


async def test_a_program_that_the_image_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "limosa/programs/micro-0/usr/bin").mkdir(parents=True)
    nothing = Path("/nonexistent")
    image = Image("micro", Path("micro-0"), nothing, nothing, nothing, "", {})
    with pytest.raises(MachineError, match="micro-0 lacks sysbench") as caught:
        await programs.program(image, "sysbench")
    assert "built again" in caught.value.hint
