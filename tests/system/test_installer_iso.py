"""An installation end to end: our own medium, answered by a script; its disk boots by itself and is moved."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa.errors import MachineError
from limosa.events import Event, Events, Note
from limosa.guest import library
from limosa.guest.installer import Console, Surprise
from limosa.guest.library import Entry
from tests.example_install import HOSTNAME, PASSWORD, install_example
from tests.installer_iso import installer_iso
from tests.limosa_command import Command
from tests.main_job import goes_through, lab_file

pytestmark = pytest.mark.system

PARTITION = 2048 * 512


@pytest.fixture(scope="module")
def installed() -> Iterator[Entry]:
    """Example Linux, installed."""
    try:
        asyncio.run(installer_iso())
    except MachineError as error:
        pytest.skip(f"the installation medium cannot be made: {error}")
    name, said = f"example-{os.getpid()}", list[Event]()
    entry = asyncio.run(install_example(name, Events(said.append)))
    assert [event for event in said if isinstance(event, Note) and event.level == "warning"] == []
    yield entry
    shutil.rmtree(entry.provenance["transcript"])
    library.remove(name)


def _file(entry: Entry, name: str) -> str:
    """A file of the installed system."""
    disk = f"{entry.disk_path}?offset={PARTITION}"
    done = subprocess.run(["debugfs", "-R", f"cat {name}", disk], capture_output=True, text=True, check=True)
    assert "File not found" not in done.stderr, done.stderr
    return done.stdout


def _names(entry: Entry, folder: str) -> set[str]:
    disk = f"{entry.disk_path}?offset={PARTITION}"
    done = subprocess.run(["debugfs", "-R", f"ls -p {folder}", disk], capture_output=True, text=True, check=True)
    return {line.split("/")[5] for line in done.stdout.splitlines() if line.startswith("/")} - {".", "..", ""}


def test_the_disk_is_what_a_person_would_have_got(installed: Entry) -> None:
    table = json.loads(
        subprocess.run(["sfdisk", "--json", installed.disk_path], capture_output=True, check=True).stdout
    )
    (partition,) = table["partitiontable"]["partitions"]
    assert (table["partitiontable"]["label"], partition["start"], partition["type"]) == ("dos", 2048, "83")
    assert partition["bootable"] is True
    assert partition["size"] == installed.disk_path.stat().st_size // 512 - 2048
    assert _file(installed, "/etc/hostname") == f"{HOSTNAME}\n"
    assert HOSTNAME in _file(installed, "/etc/hosts")
    root = _file(installed, "/etc/shadow").splitlines()[0].split(":")
    assert root[0] == "root" and root[1].startswith("$6$")
    # It made itself one when it was seen to boot, as systems do: two guests were one machine otherwise.
    assert _file(installed, "/etc/machine-id") == ""
    assert _file(installed, "/root/.ssh/authorized_keys").count("ssh-ed25519") == 1
    assert _names(installed, "/root") <= {".ssh", ".ash_history"}
    content = installed.disk_path.read_bytes()
    for trace in (b"limosa-exit", b"limosa-hostkey", PASSWORD.encode()):
        assert trace not in content


def test_the_transcript_shows_what_was_typed_but_no_password(installed: Entry) -> None:
    cast = (Path(installed.directory) / "console.cast").read_text()
    plain = (Path(installed.directory) / "console.txt").read_text()
    assert json.loads(cast.splitlines()[0])["version"] == 2
    assert "The passwords do not match" in plain and "Which disk shall be used?" in plain
    assert PASSWORD not in cast and PASSWORD not in plain and "mistyped" not in cast
    key = installed.path(installed.access.key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_an_installation_that_a_person_ends_is_kept(installed: Entry) -> None:
    """The machine goes off in their hands, which was its end: the disk is looked at as if the script had ended."""
    stopped = list[str]()

    async def person(console: Console, surprise: Surprise) -> bool:
        stopped.append(surprise.why)
        await console.pass_on(b"\r")
        while not console.ended:
            await console.wait_news(5)
        return True

    name = f"example-hand-{os.getpid()}"
    entry = asyncio.run(install_example(name, Events(), person))
    try:
        assert stopped == ["a person has to end it"]
        assert entry.access.host_keys != installed.access.host_keys
        assert _file(entry, "/etc/hostname") == f"{HOSTNAME}\n"
    finally:
        shutil.rmtree(entry.provenance["transcript"])
        library.remove(name)


def test_the_guest_goes_through_the_main_job(installed: Entry) -> None:
    home = Path(tempfile.mkdtemp(prefix="limosa-example-"))
    try:
        file = lab_file(home, "example", installed.name, memory="512 MiB")
        goes_through(Command(home), file, within_s=300)
    finally:
        shutil.rmtree(home)
