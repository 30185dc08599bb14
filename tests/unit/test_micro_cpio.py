"""The archive writer, read back by busybox's cpio where it is, and byte by byte."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from limosa.guest.micro import cpio

ENTRIES = [
    cpio.directory("etc", 0o750),
    cpio.file("etc/odd", b"five!", 0o640),
    cpio.file("etc/empty", b""),
    cpio.link("etc/name", "odd"),
]


def read(archive: bytes) -> dict[str, tuple[int, int, int, bytes]]:
    """An independent reader of the format: path -> mode, uid, gid, data."""
    found, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701" and at % 4 == 0
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 110 + numbers[11] - 1].decode()
        start = (at + 110 + numbers[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (numbers[1], numbers[2], numbers[3], archive[start : start + numbers[6]])
        at = (start + numbers[6] + 3) // 4 * 4


def test_every_entry_is_written_as_given_and_belongs_to_root() -> None:
    found = read(cpio.pack(ENTRIES))
    assert found["etc"] == (stat.S_IFDIR | 0o750, 0, 0, b"")
    assert found["etc/odd"] == (stat.S_IFREG | 0o640, 0, 0, b"five!")
    assert found["etc/empty"] == (stat.S_IFREG | 0o644, 0, 0, b"")
    assert found["etc/name"] == (stat.S_IFLNK | 0o777, 0, 0, b"odd")


@pytest.mark.parametrize("length", range(5))
def test_an_archive_may_follow_another_since_its_length_is_a_multiple_of_4(length: int) -> None:
    assert len(cpio.pack([cpio.file("a" * (length + 1), b"x" * length)])) % 4 == 0


def test_a_device_has_its_numbers() -> None:
    archive = cpio.pack([cpio.character_device("console", 5, 1)])
    numbers = [int(archive[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
    assert stat.S_ISCHR(numbers[1]) and numbers[9:11] == [5, 1]


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed")
def test_busybox_unpacks_it(tmp_path: Path) -> None:
    done = subprocess.run(["busybox", "cpio", "-id"], input=cpio.pack(ENTRIES), cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc/odd").read_bytes() == b"five!"
    assert stat.S_IMODE((tmp_path / "etc/odd").stat().st_mode) == 0o640
    assert (tmp_path / "etc/name").readlink() == Path("odd")
