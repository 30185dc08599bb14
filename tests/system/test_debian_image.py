"""``limosa image build debian``: its disk boots by BIOS and by UEFI and is moved; a killed build leaves nothing.

Marked slow: a build takes minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limosa import requirements
from limosa.guest import debian
from limosa.qemu.firmware import uefi
from tests.limosa_command import Command, with_own_cache
from tests.main_job import goes_through, lab_file

pytestmark = [pytest.mark.system, pytest.mark.slow]

BUILD_S = 1200
BOOT_AND_MOVE_S = 900


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A place for the state and for the cache of images, which ends with the tests."""
    lacking = asyncio.run(requirements.missing(debian.needed()))
    if lacking:
        pytest.skip(f"this machine lacks {', '.join(requirements.packages(lacking))}")
    folder = Path(tempfile.mkdtemp(prefix="limosa-debian-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def command(home: Path) -> Command:
    """limosa with an image cache of its own."""
    return with_own_cache(home)


@pytest.fixture(scope="module")
def image(command: Command) -> dict[str, Any]:
    """What the build said. Two builds at once: the second has what the first made."""
    other = subprocess.Popen(
        command.argv("image", "build", "debian", "--name", "deb", "--json"),
        env=command.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    done = command.run("image", "build", "debian", "--name", "deb", "--json", timeout_s=BUILD_S)
    out, err = other.communicate(timeout=60)
    assert done.returncode == 0 == other.returncode, (done, err.decode())
    said: dict[str, Any] = done.json
    assert json.loads(out)["image"]["provenance"]["sha256"] == said["image"]["provenance"]["sha256"]
    return said


def test_the_image_says_where_it_is_from_and_has_a_key_of_its_own(image: dict[str, Any], command: Command) -> None:
    provenance, folder = image["image"]["provenance"], Path(image["directory"])
    assert provenance["how"] == "built" and "bookworm-security" in " ".join(provenance["from"])
    assert {"systemd", "openssh-server", "sysbench", "stress-ng", "iperf3"} <= provenance["packages"].keys()
    assert stat.S_IMODE((folder / "user_key").stat().st_mode) == 0o600
    assert {path.name for path in folder.iterdir()} == {"disk.raw", "image.json", "user_key", "user_key.pub"}
    again = command.run("image", "build", "debian", "--name", "deb")
    assert again.returncode == 4 and "already" in again.errors


def test_its_files_belong_to_whom_they_should(image: dict[str, Any]) -> None:
    disk = f"{image['disk']}?offset={33 << 20}"
    for name, owner in {
        "/etc/shadow": (0, 42),
        "/var/lib/systemd": (0, 0),
        "/root/.ssh/authorized_keys": (0, 0),
    }.items():
        said = subprocess.run(
            ["debugfs", "-R", f"stat {name}", disk], capture_output=True, text=True, check=True
        ).stdout
        words = said.split()
        assert (int(words[words.index("User:") + 1]), int(words[words.index("Group:") + 1])) == owner, said
    keys = subprocess.run(["debugfs", "-R", "ls -p /etc/ssh", disk], capture_output=True, text=True, check=True).stdout
    assert "sshd_config" in keys and "ssh_host" not in keys


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_it_boots_and_goes_through_the_main_job(firmware: str, image: dict[str, Any], command: Command) -> None:
    name = "deb"
    if firmware == "uefi":
        try:
            uefi()
        except Exception as error:
            pytest.skip(str(error))
        key = Path(image["directory"]) / "user_key"
        name = f"{{path: {image['disk']}, format: raw, firmware: uefi, seed: none, user: root, key: {key}}}"
    goes_through(command, lab_file(command.home, firmware, name), within_s=BOOT_AND_MOVE_S)


def test_a_killed_build_leaves_no_process_and_the_next_sweeps_its_files(command: Command) -> None:
    images = command.home / "cache/limosa/images"
    argv = command.argv("image", "build", "debian", "--name", "killed")
    child = subprocess.Popen(argv, env=command.env(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    while "apt-get update" not in (line := child.stderr.readline()):
        assert line, "the build ended by itself"
    assert _processes(str(images)), "nothing works for the build"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stderr.close()
    ends = time.monotonic() + 10
    while (left := _processes(str(images))) and time.monotonic() < ends:
        time.sleep(0.1)
    assert left == []
    assert str(images) not in Path("/proc/mounts").read_text()
    assert not (images / "killed").exists()
    leftover = sum(path.stat().st_blocks * 512 for path in (images / ".killed.building").rglob("*") if path.is_file())
    assert leftover < 20 << 20, "the system was to be put together in memory"
    sweeping = command.run("image", "build", "debian", "--name", "other", "--mirror", "http://127.0.0.1:9/debian")
    assert sweeping.returncode == 3 and "could not be fetched" in sweeping.errors
    assert [path.name for path in images.glob(".*.building")] == []


def _processes(text: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in words and folder.name != str(os.getpid()):
            found.append(words)
    return found
