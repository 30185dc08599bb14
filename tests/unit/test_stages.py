"""A stage that did not do what it is named for is not ticked, whether it raised or its failure is a result."""

from __future__ import annotations

import pytest

from limosa.cli.face import PlainFace
from limosa.events import Event, Events, StageFinished


def finished(heard: list[Event]) -> list[bool]:
    return [event.ok for event in heard if isinstance(event, StageFinished)]


def test_stages_that_fail() -> None:
    heard: list[Event] = []
    events = Events(heard.append)
    with events.stage("good"):
        pass
    with events.stage("its failure is a result") as step:
        step.fail()
    with pytest.raises(ZeroDivisionError), events.stage("raises"):
        raise ZeroDivisionError
    assert finished(heard) == [True, False, False]


def test_failed_stage_is_said_to_have_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with Events(PlainFace()).stage("migrate guest1 host1 → host2") as step:
        step.fail()
    assert capsys.readouterr().err == "migrate guest1 host1 → host2: failed after 0.0 s\n"
