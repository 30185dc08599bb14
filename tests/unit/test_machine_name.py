"""What a running machine is known by: the same while it runs, another one for any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from limosa.hosts import own_facts
from limosa.hosts.link.far.system import machine_name

CPU = "processor\t: 0\nmodel name\t: a CPU\nmicrocode\t: 0x1\ncpu MHz\t\t: 2000.1\nflags\t\t: fpu vme\n"
FILES = {
    "proc/sys/kernel/random/boot_id": "boot",
    "etc/machine-id": "id",
    "sys/class/dmi/id/product_uuid": "board",
    "proc/cpuinfo": f"{CPU}\n{CPU}",
}


def named(root: Path) -> str:
    for path, content in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return machine_name(f"{root}/")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("proc/sys/kernel/random/boot_id", "later"),
        ("etc/machine-id", "another"),
        ("sys/class/dmi/id/product_uuid", "another"),
        ("proc/cpuinfo", CPU.replace("0x1", "0x2")),
        ("proc/cpuinfo", CPU.replace("vme", "vme avx")),
        ("proc/cpuinfo", CPU.replace("a CPU", "another")),
    ],
)
def test_each_part_tells_machines_apart(tmp_path: Path, file: str, content: str) -> None:
    first = named(tmp_path)
    (tmp_path / file).write_text(content)
    assert machine_name(f"{tmp_path}/") != first


def test_what_changes_by_the_moment_does_not_count(tmp_path: Path) -> None:
    first = named(tmp_path)
    (tmp_path / "proc/cpuinfo").write_text(CPU.replace("2000.1", "3100.7"))
    assert machine_name(f"{tmp_path}/") == first


def test_a_file_that_is_missing_is_no_error(tmp_path: Path) -> None:
    assert machine_name(f"{tmp_path}/nothing/")


def test_this_machine_has_one_name() -> None:
    assert own_facts.facts().machine == machine_name() != ""
