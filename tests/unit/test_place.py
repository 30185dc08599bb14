"""Where a lab may be commanded from, by what is known of where it was made."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec
import pytest

from limosa.errors import StateError
from limosa.hosts.namespaces import place
from limosa.hosts.namespaces.place import Place, judge

THIS = Place(machine="6e2c one", name="one", boot="b1", pid_namespace="pid:[1]")
CONTAINER = Place(machine="77aa box", name="box", boot="b1", pid_namespace="pid:[2]")
EARLIER = Place(machine="6e2c one", name="one", boot="b0", pid_namespace="pid:[1]")
OTHER = Place(machine="6e2c two", name="two", boot="b2", pid_namespace="pid:[1]")
"""Made from the same image, so it has the same machine-id."""


@pytest.mark.parametrize(("there", "held", "refusal"), [
    (THIS, True, ""), (THIS, False, ""),
    (CONTAINER, True, "another pid namespace of this machine"), (CONTAINER, False, ""),
    (EARLIER, False, ""), (EARLIER, True, "on another machine, one"),
    (OTHER, True, "on another machine, two"), (OTHER, False, "another machine, two, where it may run still"),
    (None, True, "damaged"), (None, False, ""),
])  # fmt: skip
def test_who_may_command(there: Place | None, held: bool, refusal: str) -> None:
    said = judge(THIS, there, held=held)
    assert bool(said) == bool(refusal) and refusal in said


def test_a_boot_that_cannot_be_read_is_never_the_same() -> None:
    unknown = Place(machine="6e2c two", name="two", boot="", pid_namespace="pid:[1]")
    assert judge(Place(machine="6e2c one", name="one", boot="", pid_namespace="pid:[1]"), unknown, held=False)


def test_the_lock_lasts_as_long_as_whoever_has_the_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.require_here(tmp_path, int)
    first = place.take(tmp_path)
    container = msgspec.structs.replace(place.here(), pid_namespace="pid:[2]")
    monkeypatch.setattr(place, "here", lambda: container)
    inherited = os.dup(first)
    os.close(first)
    with pytest.raises(StateError, match="another pid namespace") as refused:
        place.require_here(tmp_path, int)
    assert "rm " not in refused.value.hint, "it runs: nobody is told to forget it"
    stranger = msgspec.structs.replace(place.here(), machine="6e2c two", name="two", boot="b2")
    monkeypatch.setattr(place, "here", lambda: stranger)
    with pytest.raises(StateError, match="on another machine") as refused:
        place.require_here(tmp_path, int)
    assert f"rm {tmp_path / 'place'}" in refused.value.hint
    monkeypatch.setattr(place, "here", lambda: container)
    os.close(inherited)
    place.require_here(tmp_path, int)


def test_looking_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "APPEAR_S", 0)
    descriptor = place.take(tmp_path)
    for _ in range(3):
        with pytest.raises(StateError, match="cannot be reached"):  # no process bears the mark
            place.require_here(tmp_path, int)
    with (tmp_path / "place").open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(descriptor)
    place.leave(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b'{"boot": 1}'])
def test_a_damaged_place_does_not_pass_for_no_place(tmp_path: Path, damage: bytes) -> None:
    descriptor = place.take(tmp_path)
    (tmp_path / "place").write_bytes(damage)
    with pytest.raises(StateError, match="damaged"):
        place.require_here(tmp_path, int)
    os.close(descriptor)
    place.require_here(tmp_path, int)
