"""Which lab is meant by a file: the same by whatever path it is named, and never that of another file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from limosa import paths, spec
from limosa.errors import StateError
from limosa.hosts.namespaces import place
from limosa.lab import record, which
from limosa.lab.record import LabDirectory, Record

TEXT = "name: shop\nhosts: {alpha: {}, beta: {}}\nguests: {web: {host: alpha, disk: {source: disk.raw}}}\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "mine", tmp_path / "theirs"):
        folder.mkdir()
        (folder / "disk.raw").write_bytes(b"")
    (tmp_path / "mine/shop.yaml").write_text(TEXT)
    return tmp_path / "mine/shop.yaml"


@pytest.fixture(params=["up", "kept"])
def made(request: pytest.FixtureRequest, file: Path) -> LabDirectory:
    directory = LabDirectory.named("shop")
    directory.create(spec.load(file))
    directory.save(Record(up=request.param == "up", claimed=[]))
    return directory


def test_a_file_is_the_same_by_whatever_path_it_is_named(file: Path, made: LabDirectory) -> None:
    Path("link.yaml").symlink_to(file)
    Path("linked").symlink_to(file.parent)
    os.link(file, "theirs/shop.yaml")  # as a bind mount does: another path that no link leads from
    ways = ("mine/shop.yaml", "./mine/../mine/shop.yaml", "link.yaml", "linked/shop.yaml", "theirs/shop.yaml")
    for way in (*ways, str(file)):
        lab, directory = which.resolve(way)
        assert directory == made, way
        assert lab == spec.load(file), way


def test_a_link_does_not_change_the_name_that_a_file_gives_its_lab(file: Path) -> None:
    file.write_text(TEXT.removeprefix("name: shop\n"))
    Path("other.yaml").symlink_to(file)
    assert which.resolve("other.yaml")[0].name == "shop"


def test_an_identical_copy_is_another_lab_and_no_hint_ends_the_first(file: Path, made: LabDirectory) -> None:
    copy = Path("theirs/shop.yaml")
    copy.write_text(TEXT)
    with pytest.raises(StateError, match=f"made from {file}, not from .*theirs/shop.yaml") as refused:
        which.resolve(copy)
    assert "down" not in refused.value.hint
    assert "--lab shop" in refused.value.hint and "name: shop-2" in refused.value.hint
    copy.write_text(TEXT.replace("name: shop", "name: shop-2"))
    assert which.resolve(copy)[1].name == "shop-2"


def test_a_lab_that_is_down_goes_with_its_file(file: Path) -> None:
    directory = LabDirectory.named("shop")
    directory.create(spec.load(file))
    directory.save(Record(claimed=[]))
    file.rename("theirs/shop.yaml")
    assert which.resolve("theirs/shop.yaml")[0].file == str(Path("theirs/shop.yaml").absolute())


def test_a_changed_file_is_told_what_goes_on_before_what_ends(file: Path) -> None:
    directory = LabDirectory.named("shop")
    directory.create(spec.load(file))
    directory.save(Record(up=True, claimed=[]))
    file.write_text(TEXT.replace("beta", "gamma"))
    with pytest.raises(StateError, match=r"another description than .* is now") as refused:
        which.resolve(file)
    assert refused.value.hint.startswith("--lab shop goes on with it")


@pytest.mark.parametrize("held", [(), ("lock",), ("lock", "log")])
def test_a_directory_in_which_nothing_speaks_of_a_lab_is_none(file: Path, held: tuple[str, ...]) -> None:
    left = paths.labs() / "left"
    left.mkdir(parents=True)
    for name in held:
        (left / name).touch()
    assert record.existing() == []
    with pytest.raises(StateError, match="no lab is up"):
        which.resolve("")
    with pytest.raises(StateError, match="there is no lab called left") as refused:
        which.resolve("left")
    assert "labs here" not in refused.value.hint


@pytest.mark.parametrize("kept", ["spec.json", "record.json", "place"])
def test_whatever_speaks_of_a_lab_makes_it_one(file: Path, kept: str) -> None:
    assert place.file(Path()).name == "place"
    directory = LabDirectory.named("shop")
    directory.path.mkdir(parents=True)
    (directory.path / kept).touch()
    assert record.existing() == [directory]


def test_a_lock_that_nothing_came_of_leaves_no_directory(file: Path) -> None:
    directory = LabDirectory.named("shop")
    with directory.locked("limosa up"):
        assert directory.path.exists()
    assert not directory.path.exists()
    with directory.locked("limosa up"):
        directory.create(spec.load(file))
    assert directory.is_lab() and (directory.path / "lock").exists()
