"""Who keeps the guest: the whole table, and the invariants that it must have however it is changed."""

from __future__ import annotations

from itertools import product

import pytest

from limosa.migration.rescue.before_switch import Situation, decide
from limosa.migration.rescue.fate import GONE, UNREACHABLE, Verdict

# The run states of QEMU (qapi/run-state.json, RunState), and ours for a side without an answer.
STATES = (
    "running", "inmigrate", "postmigrate", "finish-migrate", "paused", "io-error", "suspended", "save-vm", "watchdog",
    "prelaunch", "internal-error", "guest-panicked", "shutdown", "debug", "restore-vm", "colo", GONE, UNREACHABLE,
)  # fmt: skip

LETTERS = {
    "S": Verdict.KEEP_SOURCE,
    "r": Verdict.RESUME_SOURCE,
    "T": Verdict.KEEP_TARGET,
    "w": Verdict.WAIT,
    "L": Verdict.LOST,
    "?": Verdict.ASK,
}

# A row for each state of the source, a column for each of the target, both in the order of STATES. It is what is
# decided when the target may have run; the tests below say where it differs when it cannot have.
TABLE = """
running        ?SSSSSSSSSSSSSSSSS
inmigrate      T?????????????????
postmigrate    Tw??TTTTTT????????
finish-migrate Twwwwwwwwwwwwwwwww
paused         TS??????????????S?
io-error       TS??????????????S?
suspended      TS??????????????S?
save-vm        TS??????????????S?
watchdog       TS??????????????S?
prelaunch      TS??????????????S?
internal-error TS??????????????S?
guest-panicked TS??????????????S?
shutdown       TS??????????????S?
debug          T?????????????????
restore-vm     T?????????????????
colo           T?????????????????
gone           Tw??TTTTTTTTT???L?
unreachable    ??????????????????
"""
ROWS = {line.split()[0]: line.split()[1] for line in TABLE.strip().splitlines()}
ALL = list(product(STATES, STATES, (True, False), (True, False)))


def test_table_is_whole() -> None:
    assert list(ROWS) == list(STATES)
    assert {len(row) for row in ROWS.values()} == {len(STATES)}


@pytest.mark.parametrize("source", STATES)
def test_target_may_have_run(source: str) -> None:
    said = {target: decide(Situation(source, target, target_may_have_run=True)) for target in STATES}
    assert said == {target: LETTERS[letter] for target, letter in zip(STATES, ROWS[source], strict=True)}


def test_target_cannot_have_run() -> None:
    """What is certain then changes one field of the table: the source may go on."""
    changed = {
        (source, target)
        for source, target in product(STATES, STATES)
        if decide(Situation(source, target, target_may_have_run=False)) is not decide(Situation(source, target))
    }
    assert changed == {("postmigrate", GONE)}
    assert decide(Situation("postmigrate", GONE, target_may_have_run=False)) is Verdict.RESUME_SOURCE


def test_target_receives_nothing() -> None:
    """A target to which no source has connected cannot be waited for."""
    changed = {
        (source, target)
        for source, target in product(STATES, STATES)
        if decide(Situation(source, target, target_receives=False)) is not decide(Situation(source, target))
    }
    assert changed == {(GONE, "inmigrate")}
    assert decide(Situation(GONE, "inmigrate", target_receives=False)) is Verdict.LOST


def test_invariants() -> None:
    for source, target, may_have_run, receives in ALL:
        assert_sound(source, target, may_have_run, receives)


def assert_sound(source: str, target: str, may_have_run: bool, receives: bool) -> None:
    verdict = decide(Situation(source, target, may_have_run, receives))
    runs = {side for side, state in (("source", source), ("target", target)) if state == "running"}
    if verdict is Verdict.RESUME_SOURCE:
        # Only when nothing runs, the target is known to be gone, and it is sure that it never ran.
        assert not runs and target == GONE and not may_have_run
    if runs == {"source"}:
        assert verdict is Verdict.KEEP_SOURCE
    if runs == {"target"}:
        assert verdict in {Verdict.KEEP_TARGET, Verdict.ASK}
        assert verdict is Verdict.KEEP_TARGET or source == UNREACHABLE
    if len(runs) == 2:
        assert verdict is Verdict.ASK
    if verdict is Verdict.KEEP_SOURCE:  # it ends the target's QEMU, so that must hold nothing that has run
        assert target != "running" and source not in {GONE, UNREACHABLE, "postmigrate", "inmigrate"}
    if verdict is Verdict.KEEP_TARGET:  # it ends the source's
        assert source != "running" and target not in {GONE, UNREACHABLE, "inmigrate"}
    if verdict is Verdict.LOST:
        assert source == GONE and (target == GONE or not receives)


def test_nothing_is_decided_about_what_is_not_known() -> None:
    for state in STATES:
        assert decide(Situation(UNREACHABLE, state)) is Verdict.ASK
        wanted = {"running": Verdict.KEEP_SOURCE, "finish-migrate": Verdict.WAIT}.get(state, Verdict.ASK)
        assert decide(Situation(state, UNREACHABLE)) is wanted
