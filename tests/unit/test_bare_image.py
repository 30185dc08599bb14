from __future__ import annotations

import fcntl
import importlib
from pathlib import Path

import pytest

from limosa.errors import BusyError, MachineError
from limosa.events import Event, Events
from limosa.guest.bare import build

# The package gives the name ``build`` to the function, so the module is asked for by its own.
module = importlib.import_module("limosa.guest.bare.image")

FAKE_TOOL = """#!/bin/sh
echo "$0 $@" >> "$LOG"
if [ "$1" = --version ]; then echo "fake 1.0"; exit 0; fi
while [ "$1" != -o ]; do shift; done
echo made > "$2"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH; the caller puts compilers there, since real ones take too long."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(module, "LOCK_PATIENCE_S", 0.1)
    return folder


def put(tools: Path, name: str, text: str = FAKE_TOOL) -> None:
    (tools / name).write_text(text.replace("$LOG", str(tools / "log")).replace("#!/bin/sh", "#!/bin/bash"))
    (tools / name).chmod(0o755)


async def test_builds_once(tools: Path, tmp_path: Path) -> None:
    put(tools, "gcc")
    put(tools, "ld")
    seen: list[Event] = []
    first = await build(tmp_path / "images", Events(seen.append))
    calls = (tools / "log").read_text()
    assert first.kernel.read_text() == "made\n" and first.compiler == "fake 1.0"
    assert first.kernel.parent.name == f"bare-{first.digest[:16]}"
    assert [event.name for event in seen] == ["stage-started", "stage-finished"]
    assert await build(tmp_path / "images", Events()) == first
    assert (tools / "log").read_text() == calls


async def test_half_build_of_the_dead_is_replaced(tools: Path, tmp_path: Path) -> None:
    put(tools, "gcc")
    put(tools, "ld")
    (tmp_path / "bare.partial").mkdir()
    (tmp_path / "bare.partial" / "bare.elf").write_text("half")
    image = await build(tmp_path, Events())
    assert image.kernel.read_text() == "made\n"
    assert not (tmp_path / "bare.partial").exists()


async def test_failed_build_leaves_nothing(tools: Path, tmp_path: Path) -> None:
    put(tools, "gcc")
    put(tools, "ld", "#!/bin/sh\necho the linker is cross >&2; exit 1\n")
    with pytest.raises(MachineError, match="the linker is cross"):
        await build(tmp_path / "images", Events())
    assert [path.name for path in (tmp_path / "images").iterdir()] == []


async def test_missing_compiler(tools: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="gcc is not installed") as caught:
        await build(tmp_path / "images", Events())
    assert "apt-get install gcc" in caught.value.hint


async def test_unwritable_folder(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be stored"):
        await build(tmp_path / "file" / "images", Events())


async def test_another_build_is_at_work(tools: Path, tmp_path: Path) -> None:
    with (tmp_path / "bare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError):
            await build(tmp_path, Events())


def test_digest_covers_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = module.source_digest()
    for path in module.SOURCES.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(module, "SOURCES", tmp_path)
    assert module.source_digest() == before
    for path in tmp_path.iterdir():
        original = path.read_bytes()
        path.write_bytes(original + b"\n")
        assert module.source_digest() != before, path.name
        path.write_bytes(original)
