"""Every argument and every QMP command of a migration has its sentence."""

from __future__ import annotations

import shlex

import pytest

from limosa.qemu.argv import arguments, command_line
from limosa.qemu.purpose import ARGUMENTS, EVENTS, QMP, explain, explain_qmp
from tests.launches import LAUNCHES, MICRO


@pytest.mark.parametrize("name", LAUNCHES)
def test_every_argument_of_the_golden_texts_has_a_sentence(name: str) -> None:
    explained = explain(arguments(LAUNCHES[name]))
    assert all(sentence.endswith(".") for _, sentence in explained)
    words = [word for text, _ in explained for word in shlex.split(text)]
    assert tuple(words) == command_line(LAUNCHES[name])[1:]


def test_no_sentence_is_left_over() -> None:
    used = {a.purpose for launch in LAUNCHES.values() for a in arguments(launch)}
    assert used == set(ARGUMENTS)


def test_two_arguments_never_share_a_sentence_by_mistake() -> None:
    keys = [a.purpose for a in arguments(MICRO)]
    assert len(set(keys)) == len(keys)
    everything = [*ARGUMENTS.values(), *QMP.values(), *EVENTS.values()]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("table", [ARGUMENTS, QMP, EVENTS], ids=["arguments", "qmp", "events"])
def test_sentences_are_sentences(table: dict[str, str]) -> None:
    for sentence in table.values():
        assert sentence[0].isupper() and sentence.endswith(".") and "  " not in sentence
        assert 20 < len(sentence) < 420


def test_the_commands_of_a_migration_are_explained() -> None:
    commands = ["qmp_capabilities", "migrate-set-capabilities", "migrate-set-parameters", "migrate-incoming"]
    commands += ["query-migrate", "migrate", "migrate_cancel", "query-status", "cont", "stop", "quit"]
    assert all(sentence for _, sentence in explain_qmp([*commands, "STOP", "RESUME", "MIGRATION"]))
    assert explain_qmp(["x-unknown"]) == [("x-unknown", "")]
