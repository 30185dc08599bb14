"""Names that become paths: one check stands before every one, so that none leads out of its folder."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from limosa import durable, spec
from limosa.errors import LimosaError, SpecError, StateError
from limosa.events import Events
from limosa.guest import library
from limosa.lab.lab import take_down
from limosa.lab.record import LabDirectory

ODD = ("", ".", "..", "../runs", "a/b", ".hidden", "x\x1b[2J", "x" * 300)

LAB = "name: two\nhosts: {host1: {}, host2: {}}\nguests: {g: {host: host1, image: bare}}\n"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "limosa/labs").mkdir(parents=True)
    return tmp_path / "limosa"


@pytest.mark.parametrize("name", [name for name in ODD if "/" not in name and name])
async def test_no_name_of_a_lab_deletes_what_is_no_lab(state: Path, name: str) -> None:
    """A record that lies where the name would lead made `down --lab ..` delete everything."""
    for folder in (state, state / "labs"):
        (folder / "record.json").write_text("damaged")
        (folder / "spec.json").write_text("damaged")
    with pytest.raises(SpecError, match="cannot be the name of a lab"):
        await take_down(name, events=Events())
    assert (state / "record.json").exists() and (state / "labs/record.json").exists()


@pytest.mark.parametrize("name", ODD)
def test_no_name_leads_out_of_a_lab(name: str) -> None:
    lab = LabDirectory.named("two")
    for work in (LabDirectory.named, lab.guest, lab.journal, lab.guest_record, lab.busy):
        with pytest.raises(SpecError, match="cannot be the name"):
            work(name)
    assert library.find(name) is None
    with pytest.raises(SpecError):
        library.remove(name)


@pytest.mark.parametrize("what", ["networks", "storage", "hosts", "guests"])
@pytest.mark.parametrize("name", ODD)
def test_a_spec_that_was_edited_by_hand(what: str, name: str) -> None:
    written = json.loads(spec.encode(spec.loads(LAB)))
    key, thing = next(iter(written[what].items()))
    for odd in ({name: thing | {"name": name}}, {key: thing | {"name": name}}, {name: thing}):
        with pytest.raises(SpecError):
            spec.decode(json.dumps(written | {what: odd}).encode())
    with pytest.raises(SpecError):
        spec.decode(json.dumps(written | {"name": name}).encode())


@pytest.mark.parametrize("file", ["spec.json", "record.json", "guests/g/record.json"])
@pytest.mark.parametrize(
    "damage", [None, b"", b"\xff", b"[" * 100_000, b'{"ephemeral": true, "format": ' + b"9" * 4301 + b"}", b"null"]
)
def test_a_damaged_file_ends_in_a_sentence_and_can_be_removed(file: str, damage: bytes | None) -> None:
    lab = LabDirectory.named("two")
    lab.create(spec.loads(LAB))
    path = lab.path / file
    path.unlink(missing_ok=True)
    path.mkdir() if damage is None else path.write_bytes(damage)
    read = {"spec.json": lab.spec, "record.json": lab.record}.get(file, lambda: lab.guest_record("g"))
    with pytest.raises(StateError, match="is damaged") as raised:
        read()
    assert raised.value.hint and len(raised.value.message) < 1000
    assert lab.readable_spec() is (file != "spec.json")
    durable.remove(path)
    assert not path.exists()


def test_a_directory_in_the_place_of_a_lock(tmp_path: Path) -> None:
    lab = LabDirectory.named("two")
    (lab.path / "lock").mkdir(parents=True)
    with pytest.raises(LimosaError, match="is a directory, where a file") as raised, lab.locked():
        pass
    assert raised.value.hint == f"remove {lab.path}/lock"


def test_what_was_written_is_read_back() -> None:
    lab = spec.loads(LAB)
    assert msgspec.json.encode(spec.decode(spec.encode(lab))) == msgspec.json.encode(lab)
