"""What the page of the Python library has, and that docstrings say enough. That it is theirs is for the gate."""

from __future__ import annotations

import inspect
import re

import pytest

import limosa
from limosa.experiment.measurement import Measurement
from limosa.lab.guest_verbs import GuestVerbs
from limosa.lab.host_verbs import HostVerbs
from tests import documents, library_docs

VERBS = dict(library_docs.verbs())
SHOWN = [name for name in VERBS if not name.startswith("Events.") and not library_docs.is_property(name)]


@pytest.mark.parametrize("of", [limosa.Lab, GuestVerbs, HostVerbs, Measurement, limosa.Events])
def test_every_verb_is_on_the_page(of: type) -> None:
    there = {name.partition(".")[2] for name in VERBS if name.startswith(f"{of.__name__}.")}
    assert there - {"__getitem__"} == library_docs.public(of)


def test_every_public_name_is_on_the_page() -> None:
    told = re.findall(r"^(?:### `(?:await |async with )?|`)(\w+)", library_docs.reference(), re.MULTILINE)
    assert set(limosa.__all__) <= set(told)


@pytest.mark.parametrize("name", SHOWN)
def test_every_verb_has_an_example_that_names_it(name: str) -> None:
    prose, example = library_docs.split(VERBS[name])
    last = name.rpartition(".")[2]
    assert ("[" if last == "__getitem__" else last) in example
    function = VERBS[name]
    if inspect.signature(function).parameters.keys() - {"self"}:
        assert "aises" in prose, "what may go wrong with it?"


def test_all_examples_run() -> None:
    """Or with ``--slow``: nothing on the page needs what a test cannot have."""
    cells = [block for block in documents.read(library_docs.PAGE) if block.language == "python"]
    assert not any(block.needs for block in cells)
    assert sum(block.slow for block in cells) <= 1


def test_a_verb_on_the_page() -> None:
    text = library_docs.reference()
    assert "### `await lab.migrate(guest, host, settings=None)` → `Outcome`\n\nMove a running guest" in text
    assert "### `async with Lab.open(what='', *, events=None" in text
    assert "### `with events.stage(stage)` → `Step`" in text
    assert '```python\nprint(await lab.guests.where("guest1"))\n```' in text
    assert "| `stall_s` | float | `15.0` | Give up when nothing at all was transferred" in text
