"""Which images are kept, which labs use them, and what may be removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from limosa import spec
from limosa.errors import SpecError, StateError
from limosa.events import Events
from limosa.guest import library
from limosa.guest.library import Entry
from limosa.lab import image_store
from limosa.lab.record import LabDirectory

LAB = "name: user\nhosts: {host1: {}}\nguests: {g: {host: host1, image: alpine}}\n"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "cache" / "limosa" / "images"


async def add(name: str) -> None:
    async with library.adding(name, Events()) as building:
        (building.directory / "disk.raw").write_bytes(b"disk")
        building.entry = Entry(disk="disk.raw", provenance={"how": "by a test"})


async def test_an_image_that_a_lab_uses_stays(places: Path) -> None:
    await add("alpine")
    directory = LabDirectory.named("user")
    directory.create(spec.loads(LAB))
    assert image_store.find("alpine").used_by == ("user",)
    with pytest.raises(StateError, match="used by the lab user") as raised:
        image_store.remove("alpine")
    assert "limosa down --lab user" in raised.value.hint
    await add("debian")
    with pytest.raises(StateError, match="used by the lab user"):
        image_store.remove("debian", "alpine")
    assert image_store.find("debian"), "one of two that cannot both go is gone"
    directory.remove()
    assert image_store.remove("alpine", "debian").keys() == {"alpine", "debian"}
    with pytest.raises(SpecError):
        image_store.find("alpine")


async def test_unused_takes_old_builds_and_remains_and_no_entry(places: Path) -> None:
    await add("alpine")
    for name in ("micro-0123456789abcdef", "bare-0123456789abcdef", ".half.building"):
        (places / name).mkdir()
        (places / name / "file").write_bytes(b"x" * 4096)
    (places / ".disk.download.part").write_bytes(b"x")
    gone = image_store.remove_unused()
    assert set(gone) == {"micro-0123456789abcdef", "bare-0123456789abcdef", ".half.building", ".disk.download.part"}
    assert [image.name for image in image_store.kept()] == ["alpine"]


async def test_what_is_shown(places: Path) -> None:
    await add("alpine")
    shown = image_store.find("alpine").described()
    assert (
        shown["kind"] == "library" and shown["provenance"]["how"] == "by a test" and shown["access"]["user"] == "root"
    )
    (places / "alpine" / "disk.raw").unlink()
    assert image_store.find("alpine").kind == "damaged"


async def test_what_limosa_builds_itself_is_known_by_its_name(places: Path) -> None:
    with pytest.raises(StateError, match="the image micro is not built yet") as raised:
        image_store.find("micro")
    assert "image: micro" in raised.value.hint
    for number, name in enumerate(
        ("micro-0123456789abcdef", "micro-generic-0123456789abcdef", "micro-1123456789abcdef")
    ):
        (places / name).mkdir(parents=True)
        os.utime(places / name, (1_700_000_000 + number, 1_700_000_000 + number))
    assert image_store.find("micro").name == "micro-1123456789abcdef"
    assert image_store.find("micro-0123456789abcdef").name == "micro-0123456789abcdef"
    assert image_store.remove("micro").keys() == {"micro-0123456789abcdef", "micro-1123456789abcdef"}
    assert [image.name for image in image_store.kept()] == ["micro-generic-0123456789abcdef"]
    with pytest.raises(SpecError, match="there is no image 'micor'") as mistyped:
        image_store.find("micor")
    assert mistyped.value.hint.startswith("did you mean micro?")
