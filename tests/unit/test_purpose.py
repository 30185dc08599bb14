"""Every argument and every QMP command of a migration has its sentence."""

from __future__ import annotations

import shlex

import pytest
from msgspec.structs import replace

from limosa.events import QmpExchanged
from limosa.guest.bare import kernel_arguments
from limosa.guest.micro import KERNEL_ARGUMENTS
from limosa.qemu.argv import arguments, command_line
from limosa.qemu.purpose import ARGUMENTS, EVENTS, QMP, STATES, WORDS, explain, explain_exchanges
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
    everything = [*ARGUMENTS.values(), *QMP.values(), *EVENTS.values(), *STATES.values()]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("table", [ARGUMENTS, QMP, EVENTS, STATES], ids=["arguments", "qmp", "events", "states"])
def test_sentences_are_sentences(table: dict[str, str]) -> None:
    for sentence in table.values():
        assert sentence[0].isupper() and sentence.endswith(".") and "  " not in sentence
        assert 20 < len(sentence) < 420


def test_the_commands_of_a_migration_are_explained() -> None:
    commands = ["qmp_capabilities", "migrate-set-capabilities", "migrate-set-parameters", "migrate-incoming"]
    commands += ["query-migrate", "migrate", "migrate_cancel", "query-status", "cont", "stop", "quit"]
    assert set(commands) <= set(QMP)
    assert {"STOP", "RESUME", "MIGRATION"} <= set(EVENTS)


def test_each_state_of_a_move_has_its_own_sentence() -> None:
    def event(data: dict[str, object], name: str = "MIGRATION") -> QmpExchanged:
        return QmpExchanged(guest="guest1", host="host1", qmp_event=name, data=data)

    told = explain_exchanges([event({"status": "setup"}), event({"status": "active"}), event({"status": "new"})])
    assert [what for what, _ in told] == [
        f'host1  event MIGRATION {{"status": "{status}"}}' for status in ("setup", "active", "new")
    ]
    assert [why for _, why in told] == [STATES["setup"], STATES["active"], EVENTS["MIGRATION"]]
    assert explain_exchanges([event({}, "STOP")]) == [("host1  event STOP", EVENTS["STOP"])]


def test_every_word_of_a_kernel_has_its_meaning() -> None:
    [(_, said)] = [
        pair for pair in explain(arguments(replace(MICRO, append=KERNEL_ARGUMENTS))) if pair[0].startswith("-append")
    ]
    for word in KERNEL_ARGUMENTS.split():
        assert f"{word} {WORDS[word]}" in said
    [(_, said)] = [
        pair for pair in explain(arguments(replace(MICRO, append=kernel_arguments()))) if pair[0].startswith("-append")
    ]
    assert "mode=write is the guest's work" in said
