"""The image library: entries appear whole or not at all, and bear what is known of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from limosa.errors import LimosaError, MachineError, SpecError, StateError
from limosa.events import Events
from limosa.guest import library
from limosa.guest.library import Access, Entry


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "limosa" / "images"


async def add(name: str, content: bytes = b"disk") -> None:
    async with library.adding(name, Events()) as building:
        (building.directory / "disk.raw").write_bytes(content)
        (building.directory / "user_key").write_text("secret")
        building.entry = Entry(disk="disk.raw", access=Access(key="user_key"), provenance={"how": "by a test"})


async def test_an_entry_is_found_with_what_was_said_and_what_was_filled_in(cache: Path) -> None:
    await add("alpine-3.15")
    entry = library.find("alpine-3.15")
    assert entry is not None
    assert entry.disk_path == cache / "alpine-3.15" / "disk.raw"
    assert entry.provenance["how"] == "by a test"
    assert entry.provenance["sha256"] == hashlib.sha256(b"disk").hexdigest()
    assert stat.S_IMODE(entry.path("user_key").stat().st_mode) == 0o600
    assert [e.name for e in library.entries()] == ["alpine-3.15"]


async def test_a_failed_making_leaves_nothing(cache: Path) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        async with library.adding("half", Events()) as building:
            (building.directory / "disk.raw").write_bytes(b"x")
            raise ValueError("on purpose")
    assert library.find("half") is None
    assert not list(cache.glob("*.building")) and not list(cache.glob(".*.building"))


@pytest.mark.parametrize("entry", [None, Entry(disk="missing.raw"), Entry(disk="../elsewhere")])
async def test_an_unfinished_entry_is_refused(cache: Path, entry: Entry | None) -> None:
    with pytest.raises(LimosaError):
        async with library.adding("half", Events()) as building:
            building.entry = entry
    assert library.names() == []


async def test_what_a_killed_command_left_is_swept_by_the_next(cache: Path) -> None:
    program = (
        "import asyncio, sys; from limosa.guest import library; from limosa.events import Events\n"
        "async def work():\n"
        "    async with library.adding('killed', Events()) as building:\n"
        "        (building.directory / 'disk.raw').write_bytes(b'x'); print('made', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(work())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=dict(os.environ))
    assert child.stdout is not None
    with child, child.stdout:
        assert child.stdout.readline() == b"made\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert (cache / ".killed.building").is_dir() and library.find("killed") is None
    await add("other")
    assert not (cache / ".killed.building").exists()


async def test_whoever_waits_for_the_same_finds_it_made() -> None:
    async with library.adding("same", Events()) as building:
        second = asyncio.create_task(add("same"))
        await asyncio.sleep(0.15)
        assert not second.done()
        (building.directory / "disk.raw").write_bytes(b"first")
        building.entry = Entry(disk="disk.raw")
    with pytest.raises(library.ImageExists) as raised:
        await second
    assert raised.value.entry.disk_path.read_bytes() == b"first"


@pytest.mark.parametrize("name", ["micro", "bare-0123456789abcdef", "../x", "", ".hidden", "Grün", "a" * 64])
async def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(SpecError):
        await add(name)


async def test_remove_deletes_and_says_how_much(cache: Path) -> None:
    await add("big", os.urandom(1 << 20))
    assert library.remove("big") >= 1 << 20
    assert library.names() == [] and not list(cache.glob(".*.building"))
    with pytest.raises(SpecError, match="'big'"):
        library.remove("big")


async def test_remove_refuses_what_is_being_made_and_what_is_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "limosa" / "mine").mkdir(parents=True)
    with pytest.raises(SpecError):
        library.remove("../mine")
    await add("other")
    async with library.locked(library.directory(), "other", Events()):
        with pytest.raises(StateError):
            library.remove("other")


async def test_a_damaged_entry_says_what_to_do(cache: Path) -> None:
    await add("hurt")
    (cache / "hurt" / "disk.raw").unlink()
    with pytest.raises(MachineError, match=r"lacks disk\.raw") as raised:
        library.find("hurt")
    assert "limosa image remove hurt" in raised.value.hint
    assert library.entries() == [] and library.names() == ["hurt"]


async def test_an_unknown_name_offers_the_nearest() -> None:
    await add("alpine")
    assert library.unknown("alpin").hint.startswith("did you mean alpine?")
