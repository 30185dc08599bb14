"""Images by URL, by the real command line: fetched from a server on loopback, shared by guests, refused when wrong.

The disk is a boot sector, so that all of it takes seconds; a real cloud image is in ``test_cloud_image``.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import boot_sector, file_server
from tests.limosa_command import Command, with_own_cache

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("as") is None, reason="as (binutils) is not installed"),
]

GUESTS = ("one", "two", "three")


@pytest.fixture(scope="module")
def disk() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory(prefix="limosa-sector-") as folder:
        raw = boot_sector.make(Path(folder))
        with raw.open("r+b") as file:  # something that takes room, so that sharing it shows
            file.seek(1 << 20)
            file.write(bytes(range(256)) * 8192)
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", "boot.raw", "boot.qcow2"], cwd=folder, check=True)
        yield (Path(folder) / "boot.qcow2").read_bytes()


@pytest.fixture
def server(disk: bytes) -> Iterator[file_server.Server]:
    with file_server.served(disk) as running:
        yield running


@pytest.fixture
def command() -> Iterator[Command]:
    home = Path(tempfile.mkdtemp(prefix="limosa-fetch-"))
    made = with_own_cache(home)
    yield made
    made.run("down", "--lab", "fetched")
    shutil.rmtree(home)


def images(command: Command) -> Path:
    return command.home / "cache/limosa/images"


def lab(command: Command, url: str, sha256: str, names: tuple[str, ...] = GUESTS) -> Path:
    image = f"{{url: '{url}', sha256: {sha256}, format: qcow2, ssh: false}}"
    guests = "".join(f"  {name}: {{host: host1, memory: 64 MiB, accel: tcg, image: {image}}}\n" for name in names)
    file = command.home / "fetched.yaml"
    file.write_text(f"name: fetched\nhosts: {{host1: {{}}}}\nguests:\n{guests}")
    return file


def nothing_made(command: Command) -> None:
    """No lab, and no image."""
    assert not (command.state / "labs/fetched/record.json").exists()
    assert not [path for path in images(command).glob("*") if not path.name.startswith(".")]


def test_guests_share_what_was_fetched_once(command: Command, server: file_server.Server, disk: bytes) -> None:
    file = lab(command, server.url + "/boot.qcow2", server.sha256.upper())
    command.ok("up", "--no-wait", str(file))
    assert server.ranges == [""]
    # Beside it there may be the bare guest, with which a QEMU is tried that nobody has tried before.
    (entry,) = [image for image in command.ok("image", "list", "--json").json if image["kind"] == "library"]
    assert (entry["name"], entry["used_by"]) == (f"boot.qcow2-{server.sha256[:12]}", ["fetched"])
    assert entry["provenance"]["url"] == server.url + "/boot.qcow2" and entry["provenance"]["sha256"] == server.sha256
    storage = command.state / "labs/fetched/storage/shared"
    (base,) = storage.glob("base-*")
    assert base.read_bytes() == disk
    kept = Path(entry["directory"]) / "disk.qcow2"
    if kept.stat().st_dev == base.stat().st_dev:
        assert base.samefile(kept), "it takes room twice"
    for name in GUESTS:
        overlay = storage / f"{name}.qcow2"
        told = subprocess.run(["qemu-img", "info", "-U", overlay], capture_output=True, text=True, check=True).stdout
        assert f"backing file: {base.name}" in told
        assert overlay.stat().st_blocks * 512 < len(disk) // 2
    log = command.state / "labs/fetched/log"
    ends = time.monotonic() + 60
    while any("tick 0002" not in (log / f"{name}@host1.console.log").read_text() for name in GUESTS):
        assert time.monotonic() < ends, "not every guest counts"
        time.sleep(0.2)
    assert base.read_bytes() == disk
    command.run("image", "remove", entry["name"]).refused(4, "used by the lab fetched", hint="limosa down")
    command.ok("down", "--lab", "fetched")
    command.ok("up", "--no-start", str(file))
    command.ok("image", "remove", entry["name"])
    assert server.ranges == [""], "it was there already"


def test_a_wrong_checksum_stops_before_anything_is_made(command: Command, server: file_server.Server) -> None:
    done = command.run("up", str(lab(command, server.url, "a" * 64)))
    done.refused(1, "not what its checksum says", server.sha256, hint="try another mirror")
    nothing_made(command)
    assert not list(images(command).glob(".*.download*[!k]")), "something that could be used is left"
    wrong = command.run("up", str(lab(command, server.url, "12")))
    wrong.refused(2, "sha256")


def test_a_download_that_breaks_off_is_resumed_by_the_next_command(
    command: Command, server: file_server.Server, disk: bytes
) -> None:
    server.break_after = [100_000] + [0] * 10
    file = lab(command, server.url, server.sha256, ("one",))
    command.run("up", "--no-wait", str(file)).refused(3, "cannot be reached", "97.66 KiB have arrived", hint="goes on")
    nothing_made(command)
    assert command.ok("image", "list", "--json").json == []
    server.break_after = []
    before = len(server.ranges)
    command.ok("up", "--no-wait", str(file))
    assert server.ranges[before:] == ["bytes=100000-"]
    assert (command.state / "labs/fetched/storage/shared/one.qcow2").exists()


def test_servers_that_cannot_be_had(command: Command, server: file_server.Server) -> None:
    missing = lab(command, server.url.replace("file", "nothing"), server.sha256)
    command.run("up", str(missing)).refused(2, "the server has no")
    gone = server.url
    server.server_close()
    command.run("up", str(lab(command, gone, server.sha256))).refused(3, "cannot be reached", hint="network")
    nothing_made(command)


def test_what_is_no_disk_stays_out_of_the_library(command: Command) -> None:
    with file_server.served(b"<html>Not Found</html>" * 100) as server:
        done = command.run("up", str(lab(command, server.url, server.sha256)))
        done.refused(2, "said to be qcow2, but it is raw")
    nothing_made(command)
    gone = command.ok("image", "remove", "--unused", "--json").json["removed"]
    assert [name.endswith(".download") for name in gone] == [True]
    assert not list(images(command).glob(".*.download"))


def test_two_labs_that_want_the_same_fetch_it_once(command: Command, server: file_server.Server) -> None:
    file = lab(command, server.url, server.sha256, ("one",))
    other = file.with_name("other.yaml")
    other.write_text(file.read_text().replace("name: fetched", "name: other"))
    second = command.begin("up", "--no-wait", str(other))
    try:
        command.ok("up", "--no-wait", str(file))
        assert second.wait(60) == 0, second.communicate()
    finally:
        second.communicate()
        command.run("down", "--lab", "other")
    assert server.ranges == [""]
    assert not list(images(command).glob(".*.download"))
