"""What is there only for as long as its maker: real processes make it, and are killed."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from limosa import temporary

HOLDING = """
import sys
from pathlib import Path
from limosa import temporary
place = Path(sys.argv[1])
with temporary.folder("work", place) as folder, temporary.held(place / "a.lock") as ours:
    (folder / "file").write_text("x")
    print(folder, ours, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another(place: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has a folder in *place*, and holds the lock beside it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            name, ours = child.stdout.readline().split()
            assert ours == "True"
            yield child, Path(name)
        finally:
            child.kill()


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_a_folder_goes_with_its_block_and_one_that_is_renamed_stays(tmp_path: Path) -> None:
    with temporary.folder("work", tmp_path) as folder:
        assert folder.name.startswith(".limosa-work.") and folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").touch()
    assert names(tmp_path) == []
    with temporary.folder("work", tmp_path) as folder:
        folder.rename(tmp_path / "kept")
    assert names(tmp_path) == ["kept"]


def test_what_a_living_process_has_is_left_alone_and_what_a_killed_one_had_is_swept(tmp_path: Path) -> None:
    with another(tmp_path) as (child, folder):
        temporary.sweep(tmp_path)
        temporary.sweep_locks(tmp_path)
        assert names(tmp_path) == [folder.name, "a.lock"]
        with temporary.held(tmp_path / "a.lock") as ours:
            assert not ours
        child.kill()
        child.wait()
        assert names(tmp_path) == [folder.name, "a.lock"]
        with temporary.folder("other", tmp_path) as mine:
            assert names(tmp_path) == sorted([mine.name, "a.lock"])
        temporary.sweep_locks(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("step", ["_opened", "_lock"])
def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Another command sweeps just before that step of its making."""
    real, swept = getattr(temporary, step), list[object]()

    def late(what: object) -> object:
        if not swept:
            swept.append(what)
            temporary.sweep(tmp_path)
            assert names(tmp_path) == []
        return real(what)

    monkeypatch.setattr(temporary, step, late)
    with temporary.folder("work", tmp_path) as folder:
        assert swept and folder.is_dir() and names(tmp_path) == [folder.name]
        temporary.sweep(tmp_path)
        assert folder.is_dir()
    assert names(tmp_path) == []


@pytest.mark.parametrize("step", ["_lock", "_is"])
def test_a_lock_whose_file_goes_before_it_is_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Its holder ends just before that step, and with it the file that was opened; another has the name then."""
    lock, real, gone = tmp_path / "a.lock", getattr(temporary, step), list[object]()

    def late(*what: object) -> object:
        if not gone:
            gone.append(what)
            lock.unlink()
        return real(*what)

    monkeypatch.setattr(temporary, step, late)
    with temporary.held(lock) as ours, temporary.held(lock) as another_time:
        assert gone and ours and not another_time and lock.exists()
    assert names(tmp_path) == []


def test_what_bears_another_name_is_somebody_elses(tmp_path: Path) -> None:
    """A machine over SSH keeps a lab's files in such a place, and older programs of ours left what nobody can judge."""
    other = ["limosa-0-lab", "limosa-abcdefgh", "limosa-work.1", "limosa.abcdefgh", ".limosa-work.abcdefgh.bak"]
    other += ["limosa-backup.20260131", ".limosa-backup.20260131", "limosa-work.abcdefgh.limosa-tmp"]  # a visible one
    for name in other:
        (tmp_path / name).mkdir()
    (tmp_path / ".limosa-link.abcdefgh.limosa-tmp").symlink_to(tmp_path / other[0])
    (tmp_path / ".limosa-file.abcdefgh.limosa-tmp").touch()
    before = names(tmp_path)
    temporary.sweep(tmp_path)
    assert names(tmp_path) == before
    temporary.sweep(tmp_path / "not there")


def test_a_lock_is_no_link(tmp_path: Path) -> None:
    """An editor's mark, as .#notes.lock, leads nowhere: nothing is made where it leads, and it stays."""
    (tmp_path / ".#notes.lock").symlink_to(tmp_path / "nowhere")
    temporary.sweep_locks(tmp_path)
    assert names(tmp_path) == [".#notes.lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to another")
def test_what_belongs_to_another_user_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / ".limosa-work.abcdefgh.limosa-tmp"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    temporary.sweep(tmp_path)
    assert theirs.exists()


def _counted(place: Path, times: int) -> None:
    """Add one to a number, which is right only when nobody else does so meanwhile."""
    done = 0
    while done < times:
        with temporary.held(place / "n.lock") as ours:
            if not ours:
                continue
            number = place / "number"
            new = int(number.read_text()) + 1
            os.sched_yield()
            number.write_text(str(new))
            done += 1


def test_a_lock_that_goes_with_its_holder_is_had_by_one_at_a_time(tmp_path: Path) -> None:
    """Others wait for the file that is about to go, and sweep it besides."""
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_counted, args=(tmp_path, 100)) for _ in range(3)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        temporary.sweep_locks(tmp_path)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert (tmp_path / "number").read_text() == "300"
    assert names(tmp_path) == ["number"]
