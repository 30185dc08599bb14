"""The files of the guest's disk, and what decides that an image is another one."""

from __future__ import annotations

import shutil
import stat
from collections import namedtuple
from pathlib import Path

import pytest

from limosa.errors import MachineError
from limosa.events import Events
from limosa.guest import micro
from limosa.guest.micro import tree

LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")


def unpacked_tree(directory: Path, *, without: str = "") -> Path:
    """Stand-ins for the packages: every program is the machine's own true, with the libraries that it loads."""
    if not (LIBRARIES / "libc.so.6").exists():
        pytest.skip("this machine keeps its libraries elsewhere")
    for name in ("usr/bin/busybox", *(f"usr/{program}" for program in tree.PROGRAMS)):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", directory / name)
    (directory / "lib/x86_64-linux-gnu").mkdir(parents=True)
    (directory / "lib64").mkdir()
    waiting = ["libc.so.6", *tree.EXTRA_LIBRARIES, tree.LOADER]
    for name in waiting:
        if name != without:
            shutil.copy(LIBRARIES / name, directory / "lib/x86_64-linux-gnu" / name)
    # As in the packages: a link with an absolute target.
    (directory / "lib64" / tree.LOADER).symlink_to(f"/lib/x86_64-linux-gnu/{tree.LOADER}")
    return directory


def made(tmp_path: Path, **options: str) -> Path:
    agent = tmp_path / "agent"
    agent.write_bytes(b"agent")
    root = tmp_path / "root"
    root.mkdir()
    tree.make(unpacked_tree(tmp_path / "unpacked", **options), root, agent, ["busybox", "sh", "init", "poweroff"])
    return root


def test_no_account_has_a_password_and_no_key_is_on_the_disk(tmp_path: Path) -> None:
    root = made(tmp_path)
    fields = [line.split(":")[1] for line in (root / "etc/shadow").read_text().splitlines()]
    assert fields and set(fields) == {"*"}
    assert stat.S_IMODE((root / "etc/shadow").stat().st_mode) == 0o600
    assert (root / "root/.ssh").readlink() == Path("../run/limosa/ssh")
    assert list((root / "run").iterdir()) == []


def test_programs_come_with_their_libraries_and_the_agent(tmp_path: Path) -> None:
    root = made(tmp_path)
    assert (root / "usr/bin/limosa-agent").read_bytes() == b"agent"
    assert (root / tree.LIBRARIES / "libc.so.6").is_file()
    assert (root / "usr/lib64" / tree.LOADER).is_file()
    assert (root / "usr/bin/sh").readlink() == Path("/usr/bin/busybox")
    assert (root / "usr/sbin/poweroff").readlink() == Path("/etc/limosa/poweroff")
    for script in ("boot", "console", "sshd", "agent", "poweroff"):
        assert (root / "etc/limosa" / script).stat().st_mode & 0o111


def test_a_library_that_no_package_brings_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"libc\.so\.6"):
        made(tmp_path, without="libc.so.6")


def test_another_agent_or_distribution_is_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"2")
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_ID=99\n")
    digests = [micro.digest(None), micro.digest(tmp_path / "one"), micro.digest(tmp_path / "two")]
    assert digests == [micro.digest(None), micro.digest(tmp_path / "one"), micro.digest(tmp_path / "two")]
    monkeypatch.setattr(micro, "_OS_RELEASE", tmp_path / "os-release")
    digests.append(micro.digest(None))
    assert len(set(digests)) == 4 and all(len(digest) == 16 for digest in digests)


async def test_missing_tools_are_named_with_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "_NEEDED", {"limosa-no-such-tool": "e2fsprogs", "sh": "dash"})
    with pytest.raises(MachineError, match="e2fsprogs") as caught:
        await micro.build(tmp_path, Events(), None)
    assert "apt-get install e2fsprogs" in caught.value.hint and "dash" not in caught.value.hint


async def test_too_little_space_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(MachineError, match="MiB") as caught:
        await micro.build(tmp_path, Events(), None)
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
