"""Who keeps the guest once post-copy was asked for: the whole table, and what holds however it is changed."""

from __future__ import annotations

from itertools import product

import pytest

from limosa.migration.between import SILENT
from limosa.migration.rescue.after_switch import Situation, decide
from limosa.migration.rescue.fate import GONE, UNREACHABLE, Verdict
from limosa.qemu.monitor import KNOWN, PAUSED, POST_COPY

STATES = (
    "running", "inmigrate", "postmigrate", "finish-migrate", "paused", "io-error", "internal-error", "guest-panicked",
    "shutdown", SILENT, GONE, UNREACHABLE,
)  # fmt: skip
SAYS = ("", *sorted(KNOWN))
LETTERS = {
    "S": Verdict.KEEP_SOURCE,
    "r": Verdict.RESUME_SOURCE,
    "T": Verdict.KEEP_TARGET,
    "w": Verdict.WAIT,
    "L": Verdict.LOST,
    "g": Verdict.GO_ON,
    "s": Verdict.STOP_SOURCE,
    "?": Verdict.ASK,
}

# A row: the source's run state and what it says, the target's, the verdict. Each was seen with a real QEMU 7.2, 10.0 or
# 11.1, or follows from how they hand over; what comes last says when.
SEEN = """
running        active            inmigrate  active            w  it has not obeyed yet, or waits for a link
running        failed            inmigrate  postcopy-active   S  11.1 took it back, the target never began
running        failed            running    postcopy-active   s  11.1 took it back, the target's word was lost (no disk)
running        failed            running    postcopy-paused   s  likewise 10.0, at the very end
paused         failed            running    postcopy-paused   ?  and was stopped
running        cancelled         gone       -                 S  it was cancelled before it obeyed
running        failed            gone       -                 S  the target died before it began, 11.1
running        active            running    postcopy-active   ?  which cannot be
finish-migrate postcopy-active   running    postcopy-active   g  all is well
finish-migrate postcopy-active   inmigrate  active            g  the target has not begun
finish-migrate postcopy-device   inmigrate  active            g  likewise 11.1
finish-migrate postcopy-paused   running    postcopy-active   g  a reset that only the source heard of
finish-migrate postcopy-active   running    postcopy-paused   g  one that only the target heard of
finish-migrate postcopy-paused   running    postcopy-paused   g  the link is cut
finish-migrate postcopy-recover  running    postcopy-recover  g  it finds the target again
finish-migrate postcopy-paused   silent     -                 g  the target waits for a page
finish-migrate postcopy-paused   gone       -                 L  the target died
finish-migrate postcopy-active   gone       -                 L  it died a moment ago
finish-migrate device            gone       -                 w  10.0 hangs so; it is lost when it does not change
finish-migrate failed            running    postcopy-active   L  11.1 could not take it back: the target has the disk
postmigrate    failed            gone       -                 r  7.2 failed before it had sent what begins
postmigrate    failed            inmigrate  active            r  likewise
postmigrate    failed            running    postcopy-active   ?  which cannot be
postmigrate    completed         running    completed         T  it is over
postmigrate    completed         shutdown   completed         T  the guest ended itself afterwards
postmigrate    completed         running    postcopy-active   w  the target has not said so yet
postmigrate    completed         inmigrate  active            w  likewise
postmigrate    completed         gone       -                 L  the target died with all of it
gone           -                 running    completed         T  it was over
gone           -                 running    postcopy-active   w  what was on its way may have been the last of it
gone           -                 running    postcopy-paused   L  it was not
gone           -                 inmigrate  active            w  what begins may be on its way
gone           -                 inmigrate  failed            L  it was not
gone           -                 silent     -                 w  nobody knows yet
gone           -                 gone       -                 L  both
unreachable    -                 running    postcopy-active   g  nothing is known of it
finish-migrate postcopy-paused   unreachable -                g  likewise
"""
ROWS = [line.split(maxsplit=5) for line in SEEN.strip().splitlines()]
ALL = [Situation(*words) for words in product(STATES, STATES, SAYS, SAYS)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row[:4]))
def test_seen(row: list[str]) -> None:
    source, source_says, target, target_says, letter, _ = row
    says = [word.replace("-", "", word == "-") for word in (source_says, target_says)]
    assert decide(Situation(source, target, *says)) is LETTERS[letter]


def test_neither_side_is_ended_while_the_other_may_hold_a_part_of_it() -> None:
    """A source is kept alone only where QEMU says that it has everything, a target only where that is said of it."""
    for now in ALL:
        verdict = decide(now)
        if verdict is Verdict.KEEP_SOURCE:
            assert now.source == "running" and now.source_says in {"failed", "cancelled", "none"}, now
            assert now.target in {GONE, "inmigrate"}, now
        if verdict is Verdict.RESUME_SOURCE:
            assert now.source == "postmigrate" and now.source_says == "failed", now
            assert now.target in {GONE, "inmigrate"}, now
        if verdict is Verdict.KEEP_TARGET:
            assert "completed" in (now.source_says, now.target_says) and now.target not in {GONE, "inmigrate"}, now
            assert now.target_says not in POST_COPY, now


def test_lost_only_where_a_side_is_proved_gone_or_qemu_says_that_it_failed() -> None:
    for now in ALL:
        if decide(now) is Verdict.LOST:
            assert GONE in (now.source, now.target) or now.source_says == "failed", now
            assert UNREACHABLE not in (now.source, now.target), now


def test_nothing_is_done_where_nothing_is_known() -> None:
    assert {decide(now) for now in ALL if UNREACHABLE in (now.source, now.target)} == {Verdict.GO_ON}


def test_a_cut_link_loses_nothing() -> None:
    alive = [state for state in STATES if state not in {GONE, UNREACHABLE, "running"}]
    for source, target in product(alive, (*alive, "running")):
        assert decide(Situation(source, target, PAUSED, PAUSED)) in {Verdict.GO_ON, Verdict.ASK}
    assert decide(Situation("finish-migrate", "running", PAUSED, PAUSED)) is Verdict.GO_ON
