"""The cache of images: built once, whole or not at all, found quickly. The recipe here is a small one of the test's."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from limosa.errors import MachineError, SpecError
from limosa.events import Event, Events, Note
from limosa.guest import built_images, image_folder


@dataclass
class Built:
    kernel: str = "kernel"
    initrd: str = "initrd"
    disk: str = "disk.raw"
    kernel_arguments: str = "quiet"
    provenance: dict[str, Any] = field(default_factory=lambda: {"distribution": "test"})


class Recipe:
    """Counts its builds, and may fail."""

    def __init__(self) -> None:
        self.builds = 0
        self.failure: BaseException | None = None
        self.duration_s = 0.0

    def digest(self, agent: Path | None) -> str:
        return "0123" if agent is None else "4567"

    async def build(self, directory: Path, events: Events, agent: Path | None) -> Built:
        self.builds += 1
        (directory / "kernel").write_bytes(b"k")
        await asyncio.sleep(self.duration_s)
        if self.failure is not None:
            raise self.failure
        (directory / "initrd").write_bytes(b"i")
        (directory / "disk.raw").write_bytes(b"d")
        return Built()


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recipe:
    module = types.ModuleType("test_images_recipe")
    made = Recipe()
    module.digest, module.build = made.digest, made.build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "test_images_recipe", module)
    monkeypatch.setattr(built_images, "_RECIPES", {"tiny": "test_images_recipe"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return made


def kept(tmp_path: Path) -> list[str]:
    """What is in the cache."""
    return sorted(path.name for path in (tmp_path / "limosa/images").iterdir())


async def test_an_image_is_built_once_and_then_found(recipe: Recipe, tmp_path: Path) -> None:
    first = await built_images.ensure("tiny", Events())
    again = await built_images.ensure("tiny", Events())
    assert recipe.builds == 1
    assert again == first
    assert first.directory == tmp_path / "limosa/images/tiny-0123"
    assert first.disk.read_bytes() == b"d" and first.kernel_arguments == "quiet"
    assert first.provenance["sha256"]["kernel"] == "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"
    assert first.provenance["distribution"] == "test" and first.provenance["digest"] == "0123"


async def test_another_agent_is_another_image(recipe: Recipe, tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    agent.write_bytes(b"a")
    with_agent = await built_images.ensure("tiny", Events(), agent=agent)
    without = await built_images.ensure("tiny", Events())
    assert with_agent.directory != without.directory


@pytest.mark.alone
async def test_a_cached_image_is_found_within_milliseconds(recipe: Recipe) -> None:
    await built_images.ensure("tiny", Events())
    durations = []
    for _ in range(20):
        started = time.perf_counter()
        await built_images.ensure("tiny", Events())
        durations.append(time.perf_counter() - started)
    assert sorted(durations)[10] < 0.01


async def test_two_builders_at_once_do_the_work_once(recipe: Recipe) -> None:
    recipe.duration_s = 0.05
    heard: list[Event] = []
    found = await asyncio.gather(*(built_images.ensure("tiny", Events(heard.append)) for _ in range(3)))
    assert recipe.builds == 1
    assert found[0] == found[1] == found[2]
    assert any(isinstance(event, Note) and "waiting" in event.text for event in heard)


async def test_another_process_that_holds_the_lock_is_waited_for(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "limosa/images").mkdir(parents=True)
    with (tmp_path / "limosa/images/.tiny-0123.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = asyncio.create_task(built_images.ensure("tiny", Events()))
        done, _ = await asyncio.wait([waiting], timeout=0.03)
        assert not done and recipe.builds == 0
    await waiting
    assert recipe.builds == 1


@pytest.mark.parametrize("failure", [MachineError("no network"), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_a_failed_build_leaves_nothing(recipe: Recipe, tmp_path: Path, failure: BaseException) -> None:
    recipe.failure = failure
    with pytest.raises(type(failure)):
        try:
            await built_images.ensure("tiny", Events())
        except KeyboardInterrupt as error:  # pytest itself would stop
            raise type(failure)() from error
    assert kept(tmp_path) == []
    recipe.failure = None
    await built_images.ensure("tiny", Events())
    assert kept(tmp_path) == ["tiny-0123"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
async def test_a_full_or_read_only_disk_is_a_sentence_with_a_hint(recipe: Recipe, tmp_path: Path, number: int) -> None:
    recipe.failure = OSError(number, os.strerror(number))
    with pytest.raises(MachineError) as caught:
        await built_images.ensure("tiny", Events())
    assert str(tmp_path) in caught.value.message and "XDG_CACHE_HOME" in caught.value.hint
    assert kept(tmp_path) == []


async def test_what_a_killed_build_left_is_swept(recipe: Recipe, tmp_path: Path) -> None:
    cache = tmp_path / "limosa/images"
    for name in (".tiny-0123.building", ".tiny-old.building", ".other-busy.building"):
        (cache / name).mkdir(parents=True)
        (cache / name / "disk.raw").write_bytes(b"half")
    with (cache / ".other-busy.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        image = await built_images.ensure("tiny", Events())
    assert kept(tmp_path) == [".other-busy.building", ".other-busy.lock", "tiny-0123"]
    assert image.disk.read_bytes() == b"d"


@pytest.mark.parametrize("damage", ["image.json", "disk.raw"])
async def test_an_image_that_is_not_whole_is_never_used(recipe: Recipe, tmp_path: Path, damage: str) -> None:
    image = await built_images.ensure("tiny", Events())
    if damage == "image.json":
        (image.directory / damage).write_text("{")
    else:
        (image.directory / damage).unlink()
    with pytest.raises(MachineError, match="tiny-0123") as caught:
        await built_images.ensure("tiny", Events())
    assert "remove" in caught.value.hint


async def test_an_unknown_image_is_the_users_error() -> None:
    with pytest.raises(SpecError) as caught:
        await built_images.ensure("macro", Events())
    assert "micro" in caught.value.hint


WRITING = """
import itertools, os, sys
os.chdir(sys.argv[1])
for number in itertools.count():
    open(f"late-{number}", "w").close()
    if number == 10_000:
        print("writing", flush=True)
"""


async def test_what_goes_on_writing_for_a_killed_build_does_not_stop_the_next(recipe: Recipe, tmp_path: Path) -> None:
    """As the tar that a killed dpkg-deb leaves: what it writes in cannot be deleted while it does."""
    building = tmp_path / "limosa/images/.tiny-0123.building"
    building.mkdir(parents=True)
    words = [sys.executable, "-c", WRITING, str(building)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:  # noqa: ASYNC220
        try:
            assert child.stdout is not None and child.stdout.readline() == b"writing\n"
            image = await built_images.ensure("tiny", Events())
        finally:
            child.kill()
    files = sorted(path.name for path in image.directory.iterdir())
    assert files == ["disk.raw", "image.json", "initrd", "kernel"]
    await asyncio.to_thread(image_folder.sweep, tmp_path / "limosa/images")
    assert kept(tmp_path) == ["tiny-0123"]


async def test_a_cancelled_build_ends_with_its_thread(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the thread would write into what the next one builds."""
    begun, let_go, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(path: Path) -> str:
        begun.set()
        let_go.wait(60)
        ended.set()
        return "0"

    monkeypatch.setattr(built_images, "sha256", slow)
    task = asyncio.create_task(built_images.ensure("tiny", Events()))
    assert await asyncio.to_thread(begun.wait, 60)
    task.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert kept(tmp_path) == [".tiny-0123.building", ".tiny-0123.lock"]
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set() and kept(tmp_path) == []


TOGETHER = """
import asyncio, os, sys, types
from limosa.events import Events
from limosa.guest import built_images, image_folder
from limosa import paths

module = types.ModuleType("recipe")
async def build(directory, events, agent):
    os.write(1, b"built\\n")
    work = directory / "work"
    work.mkdir()
    for number in range(20):  # others look for the lock, and sweep, meanwhile
        (work / str(number)).mkdir()
        await asyncio.sleep(0.01)
    for name in ("kernel", "initrd", "disk.raw"):
        (directory / name).write_bytes(b"x")
    return types.SimpleNamespace(kernel="kernel", initrd="initrd", disk="disk.raw", kernel_arguments="", provenance={})
module.digest, module.build = lambda agent: "0123", build
sys.modules["recipe"] = module
built_images._RECIPES["tiny"] = "recipe"
os.write(1, b"ready\\n")
sys.stdin.read()
image_folder.sweep(paths.cache() / "images")
asyncio.run(built_images.ensure("tiny", Events()))
image_folder.sweep(paths.cache() / "images")
"""


def test_processes_that_begin_at_once_in_an_empty_cache_build_once(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    words = [sys.executable, "-c", TOGETHER]
    with contextlib.ExitStack() as stack:
        begin, end = os.pipe()
        children = [
            stack.enter_context(subprocess.Popen(words, stdin=begin, stdout=subprocess.PIPE, env=environment))
            for _ in range(4)
        ]
        os.close(begin)
        for child in children:
            assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        os.close(end)  # to all at once
        said = [child.stdout.read() for child in children if child.stdout is not None]
        assert [child.wait() for child in children] == [0, 0, 0, 0]
    assert sorted(said) == [b"", b"", b"", b"built\n"]
    assert kept(tmp_path) == ["tiny-0123"]


def test_a_build_killed_with_sigkill_leaves_no_half_image(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys, types
        from limosa.events import Events
        from limosa.guest import built_images
        module = types.ModuleType("recipe")
        async def build(directory, events, agent):
            (directory / "disk.raw").write_bytes(b"half")
            print("building", flush=True)
            await asyncio.sleep(60)
        module.digest, module.build = lambda agent: "0123", build
        sys.modules["recipe"] = module
        built_images._RECIPES["tiny"] = "recipe"
        asyncio.run(built_images.ensure("tiny", Events()))
        """
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None and child.stdout.readline() == b"building\n"
        child.send_signal(signal.SIGKILL)
    assert built_images.find(tmp_path / "limosa/images/tiny-0123") is None
    assert kept(tmp_path) == [".tiny-0123.building", ".tiny-0123.lock"]
