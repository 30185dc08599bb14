"""The CPU time that the host gave a guest, from a made /proc to the figures; and once from the real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from limosa.bench.during.course import series
from limosa.bench.during.cpu_time import given, per_cpu_second, tracks
from limosa.errors import LimosaError
from limosa.probes import vcpu

S = 1_000_000_000


def thread(proc: Path, pid: int, tid: int, comm: str, schedstat: str) -> None:
    task = proc / str(pid) / "task" / str(tid)
    task.mkdir(parents=True)
    (task / "comm").write_text(comm + "\n")
    (task / "schedstat").write_text(schedstat + "\n")


def test_a_guest_is_found_by_its_whole_name(tmp_path: Path) -> None:
    for pid, name in ((7, "lab/web2"), (8, "lab/web"), (9, "lab/we")):
        (tmp_path / str(pid)).mkdir()
        line = f"qemu-system-x86_64\0-name\0guest={name},debug-threads=on\0-m\0size=1k\0"
        (tmp_path / str(pid) / "cmdline").write_bytes(line.encode())
    (tmp_path / "self").mkdir()
    assert vcpu.process_of("lab/web", str(tmp_path)) == 8
    assert vcpu.process_of("lab/db", str(tmp_path)) == 0


def test_virtual_cpus_are_added_and_other_threads_left_out(tmp_path: Path) -> None:
    thread(tmp_path, 5, 5, "qemu-system-x86", "900 900 9")
    thread(tmp_path, 5, 6, "CPU 0/TCG", "100 20 3")
    thread(tmp_path, 5, 7, "CPU 1/KVM", "30 4 1")
    assert vcpu.times(5, str(tmp_path)) == (130, 24)
    assert vcpu.times(6, str(tmp_path)) is None
    thread(tmp_path, 8, 8, "qemu-system-x86", "900 900 9")
    assert vcpu.times(8, str(tmp_path)) is None


@pytest.mark.parametrize(("line", "row"), [("5 1 2 3", (5, 1, 2, 3)), ("none", None), ("5 1 2", None), ("", None)])
def test_lines(line: str, row: tuple[int, ...] | None) -> None:
    assert vcpu.parse(line) == row


def test_the_program_runs_by_itself_and_ends_when_nobody_reads() -> None:
    command = [sys.executable, *vcpu.command("no/such")[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"none\n"
        running.stdout.close()
        assert running.wait(timeout=30) != 0


def written(folder: Path, host: str, rows: list[tuple[int, ...]]) -> None:
    lines = [",".join(vcpu.COLUMNS), *[",".join(map(str, row)) for row in rows], ""]
    (folder / f"vcpu-{host}.csv").write_text("\n".join(lines))


def test_source_and_target_are_added_up(tmp_path: Path) -> None:
    # Each host has a clock of its own. The guest gets a whole CPU on the source until 2 s, half a one on the target.
    late = 5_000_000
    source = [(n * S + (late if n == 1 else 0), 11, 100 * S + n * S, n * S, 0) for n in range(3)]
    target = [(n * S, 4, 7 * S + n * S, max(0, n - 2) * S // 2, 0) for n in range(1, 6)]
    written(tmp_path, "host1", source)
    written(tmp_path, "host2", target)
    work = series([(n * S, (n + 1) * S, 300.0) for n in range(6)])
    share = given(tracks(tmp_path), work)
    assert share.value.tolist() == pytest.approx([1, 1, 0.5, 0.5, 0.5])
    assert per_cpu_second(work, share).value.tolist() == pytest.approx([300, 300, 600, 600, 600])


def test_a_second_without_cpu_time_has_no_speed_and_nothing_watched_no_figure(tmp_path: Path) -> None:
    assert len(given(tracks(tmp_path), series([(0, S, 1.0)]))) == 0
    written(tmp_path, "host1", [(0, 1, 0, 0, 0), (S, 1, S, 0, S), (2 * S, 1, 2 * S, S // 2, S)])
    work = series([(0, S, 0.0), (S, 2 * S, 100.0)])
    share = given(tracks(tmp_path), work)
    assert share.value.tolist() == [0, 0.5]
    assert per_cpu_second(work, share).value.tolist() == [200]


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "vcpu-host1.csv").write_text("what\n1\n")
    with pytest.raises(LimosaError, match=r"vcpu-host1\.csv cannot be read"):
        tracks(tmp_path)
