"""A sample bench that compares subjects, for tests of what is told of it: made up."""

from __future__ import annotations

from pathlib import Path

from limosa.bench.repetitions import BENCH, Bench, Metric, Reference, Repetition, Subject
from limosa.results.store import RunDirectory


def cpu(base: Path) -> RunDirectory:
    """A run of ``bench cpu`` in *base*: a host, a guest at a quarter of its speed, and one that was skipped."""
    run = RunDirectory.create(kind="bench-cpu", lab="b", guest="g", base=base)
    metric = Metric(name="cpu-events", label="prime search", unit="events/s")
    subjects = [
        Subject(name="host", label="host"),
        Subject(name="guest-tcg", label="guest without KVM"),
        Subject(name="guest-kvm", label="guest with KVM", status="skipped", reason="KVM runs no Linux here"),
    ]
    repetitions = [
        Repetition(subject=name, metric="cpu-events", repetition=n, order=n, value=level * (1 + n / 1000),
                   duration_s=1.0, started_ns=0, ended_ns=1)
        for name, level in (("host", 1000.0), ("guest-tcg", 250.0))
        for n in range(1, 8)
    ]  # fmt: skip
    run.write(
        BENCH,
        Bench(kind="bench-cpu", title="CPU", baseline="host", seed=1, settings={}, metrics=[metric],
              subjects=subjects, repetitions=repetitions, references=list[Reference](), complete=True),
    )  # fmt: skip
    return run
