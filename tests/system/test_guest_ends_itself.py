"""The guest powers off, or starts anew, at each step of a move of either method: it does so itself, told on its serial
line, where it runs by then.

One that has powered off is said to be stopped, and nothing of it is left on either host; one that starts anew arrives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from move_bench import AMPLE, GUEST, NEEDED_BY_POST_COPY, POST_COPY, SLOW_LINK, Attempt, Bench, bench, cut, restore

from limosa.deadline import Deadline
from limosa.guest.bare import Ready

BEFORE = ("starting-target", "preparing", "moving", "sending")
AFTER = ("switched", "ending-source")
AT_THE_SOURCE = {*BEFORE, "starting-post-copy"}
"""Where the guest still runs there."""
ALWAYS = {
    ("pre-copy", "sending"),
    ("pre-copy", "switched"),
    ("post-copy", "starting-post-copy"),
    ("post-copy", "post-copy"),
}
"""The others are slow."""
METHODS = {"pre-copy": AMPLE, "post-copy": POST_COPY}
STEPS = {"pre-copy": (*BEFORE, *AFTER), "post-copy": (*BEFORE, "starting-post-copy", "post-copy", *AFTER)}
pytestmark = NEEDED_BY_POST_COPY


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("i"), SLOW_LINK.format(name="itself"), "itself") as made:
        yield made


def cells(last: tuple[str, ...] = ()) -> list[Any]:
    return [
        pytest.param(method, when, marks=() if (method, when) in ALWAYS else pytest.mark.slow)
        for method in METHODS
        for when in (*STEPS[method], *last)
    ]


def told(lab: Bench, method: str, when: str, word: str) -> Attempt:
    def action(source: str, target: str) -> str:
        # Where it still runs at the source QEMU may hand it over before it has read what it is told.
        places = (source, target) if when in AT_THE_SOURCE else (target,)
        return f"tell:{word}:{'+'.join(str(lab.host(place).keeper.pid) for place in places)}"

    return Attempt(lab, action, when, METHODS[method])


def assert_stopped(lab: Bench) -> None:
    """Nothing of it is left, it can be started again, and then it can move."""
    assert lab.states() == {} and sum(lab.processes().values()) == 0
    status = lab.status()
    assert (status["state"], status["unfinished"]) == ("stopped", ""), status
    lab.run("up")
    lab.assert_once(lab.place())


def started_anew(lab: Bench, made: Attempt) -> int:
    return len([report for report in made.reports(lab) if isinstance(report, Ready)])


@pytest.mark.parametrize(("method", "when"), cells(("completed",)))
def test_it_powers_off(lab: Bench, method: str, when: str) -> None:
    made = told(lab, method, when, "power-off")
    assert made.ran.returncode == 1 and f"{GUEST} shut itself down" in made.ran.result["error"], made.ran
    assert f"limosa start {GUEST}" in made.ran.result["hint"]
    assert_stopped(lab)


@pytest.mark.parametrize(("method", "when"), cells())
def test_it_starts_anew(lab: Bench, method: str, when: str) -> None:
    made = told(lab, method, when, "start-anew")
    assert made.ran.returncode == 0 and "Traceback" not in made.ran.err, made.ran
    assert started_anew(lab, made) >= 1
    lab.assert_once(made.target)


def without_link(lab: Bench, word: str) -> Attempt:
    """What it is told when its memory is on both hosts and nothing follows: it hears of it when it can."""

    def action(_: str, target: str) -> str:
        say = f"say:{word}:{lab.host(target).keeper.pid}"
        return f"{cut(lab, target)} ; at:waiting-for-link:{say} & {restore(lab, target)}"

    return Attempt(lab, action, "post-copy")


@pytest.mark.slow
def test_it_powers_off_while_the_link_is_cut(lab: Bench) -> None:
    """Or a moment after it has arrived: the guest decides that."""
    made = without_link(lab, "power-off")
    assert made.ran.returncode in {0, 1}, made.ran
    if made.ran.returncode == 1:
        assert f"{GUEST} shut itself down" in made.ran.result["error"], made.ran
    patience = Deadline.after(30)
    while sum(lab.processes().values()):
        assert not patience.passed
    assert_stopped(lab)


@pytest.mark.slow
def test_it_starts_anew_while_the_link_is_cut(lab: Bench) -> None:
    made = without_link(lab, "start-anew")
    assert made.ran.returncode == 0, made.ran
    lab.assert_once(made.target)
    assert started_anew(lab, made) == 1
