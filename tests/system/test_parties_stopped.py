"""Each party of a move stands still for a while at each of its steps: stopped, and let go on some seconds later; so
does the link.

Nobody has ended, so nothing may be lost, whoever has given up meanwhile; and the guest never ran twice. One lab serves
all cases: that each of them can begin is the proof that the one before left nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import pytest
from move_bench import AMPLE, NEEDED_BY_POST_COPY, POST_COPY, SLOW_LINK, Attempt, Bench, bench, cut, restore

from limosa.guest.bare import Fault, Lost, Pass

STOPPED_S = 8
"""Longer than anybody waits who watches the other side: for progress, for an answer, for the connection to end."""
PATIENCE_S = {"patient": 30.0, "impatient": 1.0}
"""When a pre-copy in which nothing moves is given up."""
PARTIES = ("controller", "source", "target", "source's keeper", "target's keeper", "link")
BEFORE = ("starting-target", "preparing", "moving", "sending")
AFTER = ("switched", "ending-source")
PRE_COPY_STEPS = (*BEFORE, "stopped", *AFTER)
POST_COPY_STEPS = (*BEFORE, "starting-post-copy", "post-copy", "waiting-for-link", "recovering", *AFTER)
ALWAYS = {
    ("stopped", "source", "impatient"),
    ("sending", "target", "impatient"),
    ("post-copy", "source"),
    ("post-copy", "target"),
}
"""The others are slow: each takes as long as its party stands still."""
pytestmark = NEEDED_BY_POST_COPY


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("s"), SLOW_LINK.format(name="still"), "still") as made:
        yield made


def cells(steps: tuple[str, ...], *more: Iterable[str]) -> list[Any]:
    """Every party at every step, with each of *more*; a target's QEMU is there once it was launched."""
    return [
        pytest.param(*cell, marks=() if cell in ALWAYS else pytest.mark.slow)
        for cell in product(steps, PARTIES, *more)
        if cell[:2] != ("starting-target", "target")
    ]


def stop(lab: Bench, party: str, source: str, target: str) -> str:
    keeper = {host: lab.host(host).keeper.pid for host in (source, target)}
    who = {
        "controller": "self",
        "source": f"process:{lab.pid(source)}",
        "target": f"qemu:{keeper[target]}",
        "source's keeper": f"process:{keeper[source]}",
        "target's keeper": f"process:{keeper[target]}",
        "link": f"link:{keeper[target]}",
    }
    return f"stop:{STOPPED_S}:{who[party]}"


def no_way(party: str, when: str) -> bool:
    """Whether the source may find no way to the target: the kernel refuses one to a host that does not answer."""
    return party == "link" and when in {"starting-target", "preparing", "moving"}


def assert_whole(lab: Bench, made: Attempt, place: str) -> None:
    """The guest is there alone, every page right, and no pass was done twice: two copies never ran."""
    lab.assert_once(place)
    reports = made.reports(lab)
    passes = [report.number for report in reports if isinstance(report, Pass)]
    assert len(passes) == len(set(passes)), passes
    assert not [report for report in reports if isinstance(report, Lost | Fault)]


@pytest.mark.parametrize(("when", "party", "who"), cells(PRE_COPY_STEPS, PATIENCE_S))
def test_pre_copy(lab: Bench, when: str, party: str, who: str) -> None:
    """It completes; a command that has given up meanwhile says that the guest is on the source, and so it is."""
    made = Attempt(lab, lambda *ends: stop(lab, party, *ends), when, AMPLE, PATIENCE_S[who])
    gave_up = made.ran.returncode == 6 and (who == "impatient" or no_way(party, when))
    assert made.ran.returncode == 0 or gave_up, made.ran
    assert "Traceback" not in made.ran.err
    assert_whole(lab, made, made.source if gave_up else made.target)


@pytest.mark.parametrize(("when", "party"), cells(POST_COPY_STEPS))
def test_post_copy(lab: Bench, when: str, party: str) -> None:
    """It completes: who stands still is taken for a link that is cut, and is waited for as that is."""

    def action(source: str, target: str) -> str:
        done = stop(lab, party, source, target)
        if when == "waiting-for-link":
            return f"{cut(lab, target)} ; at:{when}:{done} & {restore(lab, target)}"
        if when == "recovering":
            return f"{cut(lab, target)} ; at:waiting-for-link:{restore(lab, target)} ; at:{when}:{done}"
        return done

    late = when in {"waiting-for-link", "recovering"}
    made = Attempt(lab, action, "post-copy" if late else when, POST_COPY)
    gave_up = made.ran.returncode == 6 and no_way(party, when)
    assert made.ran.returncode == 0 or gave_up, made.ran
    assert "Traceback" not in made.ran.err
    assert_whole(lab, made, made.source if gave_up else made.target)
