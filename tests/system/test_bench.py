"""The benches through the command line, at reduced length; figures are checked against the raw samples."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limosa.deadline import Deadline

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
        yield Path(folder)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "limosa", "bench", *words]


def environment(state: Path) -> dict[str, str]:
    return {**os.environ, "XDG_STATE_HOME": str(state)}


def bench(state: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        command(*words, "--json"), env=environment(state), capture_output=True, text=True, timeout=400, check=False
    )
    if done.returncode == 3:
        pytest.skip(json.loads(done.stdout)["error"])
    assert done.returncode == 0, done.stdout + done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def raw(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "bench.json").read_text())
    assert found["repetitions"] == []
    lines = run / "repetitions.jsonl"
    text = lines.read_text() if lines.exists() else ""
    return found | {"repetitions": [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]}


def check_figures(shown: dict[str, Any]) -> None:
    """Totals are the sums of seconds.csv, and the medians shown are those of the CSV's totals."""
    run = Path(shown["run"])
    sums: dict[tuple[str, str, int], float] = defaultdict(float)
    with (run / "samples/seconds.csv").open() as file:
        for row in csv.DictReader(file):
            sums[row["subject"], row["metric"], int(row["repetition"])] += float(row["value"])
    counted: dict[tuple[str, str], list[float]] = defaultdict(list)
    for repetition in raw(run)["repetitions"]:
        subject, metric, number = repetition["subject"], repetition["metric"], repetition["repetition"]
        if repetition["total"] is not None:
            assert sums[subject, metric, number] == pytest.approx(repetition["total"])
            value = sums[subject, metric, number] / repetition["duration_s"]
            assert repetition["value"] == pytest.approx(value, rel=1e-6)
        if number:
            counted[subject, metric].append(repetition["value"])
    rows = {(row["subject"], row["metric"]): row for row in shown["rows"] if row["estimate"]}
    assert set(rows) == set(counted)
    for key, values in counted.items():
        assert rows[key]["estimate"]["value"] == pytest.approx(statistics.median(values))
        assert rows[key]["estimate"]["count"] == len(values)
    assert "data-plot" in Path(shown["report"]).read_text()


def subjects(shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {subject["name"]: subject for subject in shown["subjects"]}


def check_kvm(subject: dict[str, Any]) -> None:
    """KVM may be measured or not, but never be silent."""
    if subject["status"] == "skipped":
        assert "kvm" in subject["reason"].lower()
    else:
        assert subject["status"] == "measured"


def test_cpu_runs_the_same_files_on_host_and_in_guests(state: Path) -> None:
    shown = bench(state, "cpu", "--time", "2 s", "--repeat", "2", "--seed", "7")
    check_figures(shown)
    found = subjects(shown)
    check_kvm(found["guest-kvm"])
    assert found["host"]["status"] == found["guest-tcg"]["status"] == "measured"
    assert found["host"]["files"] == found["guest-tcg"]["files"]
    assert {"sysbench", "libc.so.6"} <= {Path(file).name for file in found["host"]["files"]}
    assert {(r["subject"], r["value"]) for r in shown["references"]} == {
        ("host", 1237.8),
        ("guest-kvm", 1867.8),
        ("guest-tcg", 362.1),
    }
    run = Path(shown["run"])
    for repetition in raw(run)["repetitions"]:
        name = f"{repetition['subject']}-cpu-events-{repetition['repetition']}.txt"
        printed = (run / "samples" / name).read_text()
        match = re.search(r"total number of events: +(\d+)", printed)
        assert match is not None and int(match.group(1)) == repetition["total"]
        reported = [float(eps) for eps in re.findall(r"eps: ([0-9.]+)", printed)]
        # On a busy machine reports come late; then they are fitted to the total, which is what counts.
        scale = repetition["facts"]["seconds_scale"]
        assert repetition["seconds"][:-1] == pytest.approx([scale * rate for rate in reported])
        assert sum(repetition["seconds"]) == pytest.approx(repetition["total"])
        late = [f for f in shown["findings"] if f["rule"] == "uneven-seconds" and f["subject"] == repetition["subject"]]
        assert scale == 1 or late or repetition["repetition"] == 0
    values = {row["subject"]: row["estimate"]["value"] for row in shown["rows"] if row["estimate"]}
    assert values["guest-tcg"] < values["host"], "emulation is slower"
    assert any(f["rule"] == "too-few" for f in shown["findings"])


def test_bare_compares_user_mode_compute(state: Path) -> None:
    shown = bench(state, "cpu", "--guest", "bare", "--time", "1 s", "--repeat", "2")
    check_figures(shown)
    found = subjects(shown)
    check_kvm(found["guest-kvm"])
    assert len({subject["files"]["primes.o"] for subject in found.values()}) == 1
    assert "user-mode compute" in raw(Path(shown["run"]))["metrics"][0]["label"]


def started(state: Path, *words: str, stage: str) -> tuple[subprocess.Popen[str], Path]:
    """A bench that has come to *stage*, and its run directory."""
    child = subprocess.Popen(
        command(*words), env=environment(state), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    before = set((state / "limosa/runs").glob("*")) if (state / "limosa/runs").exists() else set()
    deadline = Deadline.after(120)
    runs: set[Path] = set()
    while not deadline.passed:
        runs = {path for path in (state / "limosa/runs").glob("*") if path not in before and path.name[0] != "."}
        for run in runs:
            log = run / "events.jsonl"
            if log.exists() and stage in log.read_text():
                return child, run
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    child.kill()
    raise AssertionError(f"the bench did not come to {stage}")


def qemus(child: subprocess.Popen[str]) -> list[int]:
    """The QEMUs of the bench's lab, which has the bench's pid in its name."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"qemu-system" in words[0] and any(f"bench-bare-{child.pid}/".encode() in word for word in words):
            found.append(int(directory.name))
    return found


def test_a_guest_that_dies_is_marked_and_the_rest_is_measured(state: Path) -> None:
    words = ("cpu", "--guest", "bare", "--time", "2 s", "--repeat", "2", "--json")
    child, run = started(state, *words, stage='"measure guest-tcg, repetition 1 of 2"')
    deadline = Deadline.after(20)
    while not (found := qemus(child)):
        assert not deadline.passed
    os.kill(found[0], signal.SIGKILL)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 1, err
    found_subjects = subjects(json.loads(out))
    assert found_subjects["guest-tcg"]["status"] in ("partial", "failed")
    assert found_subjects["guest-tcg"]["reason"]
    assert found_subjects["host"]["status"] == "measured"
    kept = raw(run)
    assert sum(r["subject"] == "host" and r["repetition"] > 0 for r in kept["repetitions"]) == 2
    assert any(finding["rule"] == "lost" for finding in kept["findings"])
    assert json.loads((run / "run.json").read_text())["status"] == "failed"


def test_interrupted_keeps_what_it_had_and_leaves_nothing(state: Path) -> None:
    words = ("cpu", "--guest", "bare", "--time", "2 s", "--repeat", "3")
    child, run = started(state, *words, stage="repetition 1 of 3")
    deadline = Deadline.after(60)
    while not any(r["repetition"] for r in raw(run)["repetitions"]):
        assert not deadline.passed
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert f"limosa report {run.name}" in err
    assert json.loads((run / "run.json").read_text())["status"] == "cancelled"
    assert not raw(run)["complete"]
    assert qemus(child) == []
    again = [sys.executable, "-m", "limosa", "report", run.name]
    subprocess.run(again, env=environment(state), check=True, capture_output=True, timeout=60)
    assert "stopped before its end" in (run / "report.html").read_text()


def test_network_of_two_cards(state: Path) -> None:
    cards = ("--nic", "virtio-net", "--nic", "rtl8139", "--nic", "vhost-net")
    shown = bench(state, "network", *cards, "--time", "1 s", "--repeat", "1")
    check_figures(shown)
    found = subjects(shown)
    assert found["virtio-net"]["status"] == found["rtl8139"]["status"] == "measured"
    without_kvm = found["virtio-net"]["accel"] == "tcg"
    assert any(finding["rule"] == "emulated" for finding in shown["findings"]) == without_kvm
    assert found["virtio-net"]["files"] == found["rtl8139"]["files"]
    assert found["vhost-net"]["status"] == "measured" or "/dev/vhost-net" in found["vhost-net"]["reason"]
    run = Path(shown["run"])
    printed = json.loads((run / "samples/rtl8139-tcp-to-guest-1.json").read_text())
    wanted = {"subject": "rtl8139", "metric": "tcp-to-guest", "repetition": 1}
    total = next(r["total"] for r in raw(run)["repetitions"] if wanted.items() <= r.items())
    assert total == pytest.approx(8 * printed["end"]["sum_received"]["bytes"], rel=0.02)


@pytest.mark.slow
def test_disk_of_two_buses_past_the_cache(state: Path) -> None:
    kinds = ("--bus", "virtio-scsi", "--bus", "ide", "--cache", "none")  # by the name that the course uses
    shown = bench(state, "disk", *kinds, "--time", "1 s", "--repeat", "1")
    check_figures(shown)
    assert {name: s["status"] for name, s in subjects(shown).items()} == {
        "vscsi-none": "measured",
        "sata-none": "measured",
    }
    assert len({row["metric"] for row in shown["rows"]}) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("network", "--nic", "ne2000"), "--nic: 'ne2000' is none of virtio-net"),
        (("disk", "--bus", "floppy"), "--bus: 'floppy' is none of virtio-blk"),
        (("disk", "--cache", "unsafe"), "--cache: 'unsafe' is none of writeback"),
        (("cpu", "--guest", "windows"), "--guest: 'windows' is none of micro"),
        (("disk", "--accel", "xen"), "--accel: 'xen' is none of auto"),
    ],
)
def test_what_is_unknown_is_refused_at_once(state: Path, words: tuple[str, ...], said: str) -> None:
    done = subprocess.run(command(*words), env=environment(state), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "hint:" in done.stderr
