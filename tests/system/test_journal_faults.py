"""A journal that is damaged or missing while copies of the guest are there: nothing is done until a person decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import move_driver
import pytest
from move_bench import GUEST, NEEDED, Bench, bench

LAB = """\
name: journal
hosts: {host1: {}, host2: {}}
guests: {bare: {host: host1, image: bare, memory: 64 MiB, accel: tcg}}
"""
pytestmark = NEEDED


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("j"), LAB, "journal") as made:
        yield made


@pytest.fixture
def moved(lab: Bench) -> tuple[str, str]:
    """Source and target of a move whose command was killed when the guest ran on the target already."""
    lab.run("up")
    source, target = lab.ends()
    assert lab.attempt(target, "signal:SIGKILL", "ending-source").returncode == -9
    assert lab.states() == {source: "postmigrate", target: "running"}
    return source, target


def a_bad_line(path: Path) -> None:
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"~" + b"".join(others))


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def another_host(path: Path) -> None:
    path.write_bytes(
        b'{"phase":"preparing","time_ns":1,"guest":"bare","source":"host1","target":"host9","detail":""}\n'
    )


@pytest.mark.parametrize("damage", [a_bad_line, a_directory, another_host])
def test_damaged(lab: Bench, moved: tuple[str, str], damage: Callable[[Path], None]) -> None:
    """The target has run, and is gone: the source must not go on with a disk that the target wrote to."""
    source, target = moved
    (qemu,) = move_driver.qemus(lab.host(target).keeper.pid)
    move_driver.act(f"kill:{qemu}")
    damage(lab.directory.journal(GUEST))
    for words in (["start", GUEST], ["up"], ["migrate", GUEST, target], ["stop", GUEST]):
        said = lab.run(*words, expect=7).err
        assert "cannot be relied on" in said and f"limosa stop {GUEST} --force --host HOST" in said
        assert lab.states() == {source: "postmigrate"}
    told = lab.status()
    assert (told["state"], told["host"]) == ("postmigrate", source) and told["unfinished"]
    assert f"limosa stop {GUEST} --force --host HOST" in told["hint"] and "limosa start" not in told["hint"]
    lab.run("stop", GUEST, "--force", "--host", target)
    lab.assert_once(source)


def test_early_phase(lab: Bench, moved: tuple[str, str]) -> None:
    """The journal says that nothing was sent, the source that all was: the source is right."""
    source, target = moved
    (qemu,) = move_driver.qemus(lab.host(target).keeper.pid)
    move_driver.act(f"kill:{qemu}")
    path = lab.directory.journal(GUEST)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert "interrupted at preparing" in lab.status()["unfinished"]
    assert f"{GUEST} is postmigrate on {source} and gone on {target}" in lab.run("start", GUEST, expect=7).err
    assert lab.states() == {source: "postmigrate"}
    lab.run("stop", GUEST, "--force", "--host", target)
    lab.assert_once(source)


def test_person_keeps_the_target(lab: Bench, moved: tuple[str, str]) -> None:
    """The hint of a damaged journal leads out while both copies are there, too."""
    source, target = moved
    a_bad_line(lab.directory.journal(GUEST))
    lab.run("start", GUEST, expect=7)
    lab.run("stop", GUEST, "--force", "--host", source)
    lab.assert_once(target)
