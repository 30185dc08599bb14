"""Paths of any name in what other programs read: configuration, tables, lines of a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from limosa.cli import completion
from limosa.process import Completed
from limosa.spec.resolved import Storage
from limosa.storage import nfs

PLACE = '/srv/it\'s "my" disks\\'


def volume(path: str, mount_point: str = "/mnt/nfs") -> Storage:
    return Storage(name="shared", kind="nfs", path=path, mount=mount_point, server="host1")


def test_an_export_of_any_name() -> None:
    assert 'Path = "/srv/it\'s \\"my\\" disks\\\\";\n' in nfs.ganesha_config(
        volume(PLACE), "10.0.0.0/24", "/run/limosa"
    )


async def test_a_mount_point_with_a_space_is_found_mounted() -> None:
    class Mounted:
        """A host that has it mounted already; anything else it is asked would fail."""

        async def run(self, argv: list[str]) -> Completed:
            assert argv == ["cat", "/proc/self/mounts"]
            return Completed((), 0, b"10.0.0.1:/srv /mnt/my\\040nfs\\134 nfs4 rw 0 0\n", b"", 0.0)

    await nfs.mount(Mounted(), volume("/srv", "/mnt/my nfs\\"), "10.0.0.1")  # type: ignore[arg-type]


def test_completion_for_a_home_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "it's $HOME"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    completion.install("bash")
    assert shlex.split((home / ".bashrc").read_text()) == ["source", str(home / ".bash_completions/limosa.sh")]
