"""What may be left of a lab where nobody could look: said, kept on record, and given up by a person's word."""

from __future__ import annotations

from pathlib import Path

import pytest

from limosa import spec
from limosa.errors import SpecError, StateError
from limosa.events import Event, Events, Note
from limosa.lab import take_down
from limosa.lab.record import LabDirectory, Record


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabDirectory:
    """A lab that is down, but for a host that its file does not have any more."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = LabDirectory.named("two")
    made.create(spec.loads("name: two\nhosts: {host1: {}}\n"))
    made.save(Record(claimed=["host9"]))
    return made


async def test_a_host_that_the_file_has_no_more_can_be_given_up(directory: LabDirectory) -> None:
    said: list[Event] = []
    with pytest.raises(StateError, match="two is not wholly down") as refused:
        await take_down("two", events=Events(said.append))
    assert "--forget host9" in refused.value.hint
    with pytest.raises(SpecError, match="host8"):
        await take_down("two", events=Events(said.append), forget=["host8"])
    assert await take_down("two", events=Events(said.append), forget=["host9"])
    assert any(isinstance(event, Note) and "host9 is given up" in event.text for event in said)
    assert not directory.path.exists()
