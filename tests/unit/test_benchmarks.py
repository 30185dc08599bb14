"""The figures that the benchmarks of moves print follow from their samples."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from benchmarks import against_virsh, by_option, migrate, start, working_set
from benchmarks.against_virsh import Move
from benchmarks.libvirt_hosts import Domain
from benchmarks.start import NOTHING, Start
from limosa.prediction.working_set import WINDOWS_S, Point, WorkingSet

MIB = 1 << 20


def _move(way: str, whole_ms: float, total_ms: float, *, warm_up: bool = False) -> migrate.Move:
    return migrate.Move(way, "host1", "host2", whole_ms, total_ms, 5.0, warm_up)


def test_ratio_is_limosa_to_bare_whatever_came_first() -> None:
    limosa, bare = migrate.WAYS
    found = [_move(limosa, 9000, 100, warm_up=True), _move(bare, 9000, 100, warm_up=True)]
    found += [_move(bare, 300, 100), _move(limosa, 500, 100), _move(limosa, 500, 100), _move(bare, 300, 100)]
    lines = migrate.summary(found).splitlines()
    assert lines[1].split() == [*limosa.split(), "2", "500", "ms", "100", "ms", "400", "ms", "5", "ms"]
    assert lines[2].split() == [*bare.split(), "2", "300", "ms", "100", "ms", "200", "ms", "5", "ms"]
    assert lines[3] == "limosa / bare QMP: whole process 1.67, difference 2.00"


def test_enough_moves_get_an_interval() -> None:
    found = [_move(way, 300, 100) for way in migrate.WAYS for _ in range(8)]
    assert "300 ms [300, 300]" in migrate.summary(found)


def _against(way: str, whole_ms: float, lost_ms: float, gap_ms: float | None = None, *, warm_up: bool = False) -> Move:
    return Move(way, "host1", "host2", whole_ms, whole_ms / 2, lost_ms, gap_ms, warm_up)


def test_ratios_are_to_virsh_and_moves_watched_by_packets_give_nothing_but_the_gap() -> None:
    found = [_against(way, 9000, 900, warm_up=True) for way in against_virsh.HOW["pre-copy"].ways]
    for way, whole_ms, lost_ms, gap_ms in (
        ("virsh", 800, 100, 200),
        ("limosa", 400, 50, 150),
        ("bare QMP", 200, 25, 50),
    ):
        found += [_against(way, whole_ms, lost_ms), _against(way, whole_ms, lost_ms)]
        found += [_against(way, 7000, 700, gap_ms), _against(way, 7000, 700, gap_ms)]
    lines = [line.split() for line in against_virsh.summary(found).splitlines()]
    assert lines[1] == ["virsh", "2", "800", "ms", "400", "ms", "100", "ms", "200", "ms"]
    assert lines[4] == ["limosa", "/", "virsh", "0.50", "0.50", "0.50", "0.75"]
    assert lines[5] == ["bare", "QMP", "/", "virsh", "0.25", "0.25", "0.25", "0.25"]


def test_what_libvirt_is_told_of_a_guest_is_whole_whatever_its_kernel_is_told() -> None:
    domain = Domain(
        name="guest2", memory_bytes=512 << 20, emulator="/usr/bin/qemu-system-x86_64", accel="tcg",
        machine="pc-q35-7.2", cpu="Nehalem", kernel="/s/guest2.kernel", initrd="/s/guest2.initrd",
        append="a=<&>'\"", disk="/s/guest2.raw", tap="tap1", mac="02:00:00:00:00:01",
    )  # fmt: skip
    root = ElementTree.fromstring(domain.xml())
    assert root.get("type") == "qemu"
    assert root.findtext("os/cmdline") == "a=<&>'\""
    memory = root.find("memory")
    assert memory is not None
    assert (memory.text, memory.get("unit")) == (str(512 << 20), "b")


def test_starts_are_told_as_ratios_to_python_alone() -> None:
    lines = start.summary({NOTHING: [Start(10, 8), Start(12, 8)], "limosa --help": [Start(22, 12), Start(22, 12)]})
    assert lines.splitlines()[2] == "limosa --help   22 ms      2.0 x  22 ms     12 ms           1.5 x"


def test_a_way_that_never_completed_has_no_figures() -> None:
    done = by_option.Taken(total_ms=100, wire_bytes=3 << 20, pause_ms=20, exposure_ms=50)
    [_, *found] = by_option.rows({"pre-copy": [], "multifd": [replace(done, exposure_ms=None)], "post-copy": [done]}, 2)
    assert found == [
        ["pre-copy", "0 of 2", "", "", "", ""],
        ["multifd", "1 of 2", "100 ms", "20 ms", "", "3 MiB"],
        ["post-copy", "1 of 2", "100 ms", "20 ms", "50 ms", "3 MiB"],
    ]


def test_errors_of_a_curve_are_to_what_was_written_and_what_the_guest_did_anyway() -> None:
    def curve(factor: float) -> WorkingSet:
        points = [
            Point(t_s, t_s * MIB * factor, t_s * MIB * factor * 0.9, t_s * MIB * factor * 1.1) for t_s in WINDOWS_S
        ]
        return WorkingSet(points=tuple(points), memory_bytes=256 * MIB, how="memory", cpu_s=0.5, lasted_s=12, pages=100)

    found = [
        working_set.Trial(size, 0.0, curve(factor), curve(1.0))
        for size, _ in working_set.LOADS
        for factor in (1.05, 0.8, 1.0)
    ]
    rows = working_set.errors(found)
    assert len(rows) == 1 + len(working_set.LOADS) * len(WINDOWS_S)
    assert rows[5] == ["", "1 s", "0.4 %", "1.0 MiB", "+0.0 %", "-20.0 %", "2 of 3"]
    trial = working_set.Trial(MIB, 4 * MIB, curve(1.0), curve(0.0))
    assert 0.98 < trial.expected(1.0) / MIB < 0.99, "one minus exp(-4)"
    pairs = [(working_set.Speed(100.0, 50.0), working_set.Speed(98.0, 100.0))] * 6
    assert working_set.losses(pairs, [curve(1.0)])[1][:4] == [
        "6",
        "0.980 [0.980, 0.980]",
        "0.500 [0.500, 0.500]",
        "500 ms",
    ]
