"""A place that a person names is tried before anything begins, and nothing of it is left."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from limosa import paths, report
from limosa.errors import LimosaError, MachineError, SpecError


def test_a_folder_that_can_be_written_is_not_made_yet(tmp_path: Path) -> None:
    wanted = tmp_path / "new" / "deeper"
    paths.require_writable_folder(wanted, "--output")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    paths.require_writable_folder(tmp_path / "there", "--output")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("file", "a file is in the way"),
        ("file/below", "Not a directory"),
        ("n" * 300, "File name too long"),
        ("new/" + "n" * 300, "File name too long"),
        ("dangling", "a file is in the way"),
    ],
)
def test_a_folder_that_cannot_be(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(SpecError, match=f"--output: .* cannot be written: {why}") as caught:
        paths.require_writable_folder(tmp_path / name, "--output")
    assert caught.value.hint == "name another place by --output"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_a_file(tmp_path: Path) -> None:
    there = tmp_path / "there.png"
    there.write_bytes(b"old")
    paths.require_writable_file(there, "--png")
    assert there.read_bytes() == b"old"
    paths.require_writable_file(tmp_path / "new.png", "--png")
    paths.require_writable_file(Path(os.devnull), "--png")
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]
    for wrong in (tmp_path, tmp_path / "no" / "a.png"):
        with pytest.raises(SpecError, match=r"--png: .* cannot be written"):
            paths.require_writable_file(wrong, "--png")


def test_a_full_disk_is_the_machines_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(MachineError, match="no space left in") as caught:
        paths.require_writable_folder(tmp_path, "--output")
    assert caught.value.hint == "make room, or name a place on another disk"


@pytest.mark.parametrize(
    ("below", "hint"),
    [
        ("state/limosa/runs/x", "set XDG_STATE_HOME to a directory that can be"),
        ("cache/limosa/images", "set XDG_CACHE_HOME to a directory that can be"),
        ("elsewhere", "name a place that can be"),
    ],
)
def test_the_hint_fits_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str, hint: str) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = paths.cannot_write(OSError(errno.EACCES, "Permission denied"), tmp_path / below)
    assert found.hint == hint


def test_what_is_written_is_whole_or_an_error(tmp_path: Path) -> None:
    assert report.write(tmp_path / "new" / "a.html", b"1").read_bytes() == b"1"
    (tmp_path / "file").touch()
    with pytest.raises(LimosaError, match="cannot be written"):
        report.write(tmp_path / "file" / "a.html", b"1")
