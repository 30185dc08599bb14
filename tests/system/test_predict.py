"""What is said of a move beforehand, and the move."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from move_bench import GUEST, NEEDED, SLOW_LINK, Bench, bench

pytestmark = NEEDED


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("p"), SLOW_LINK.format(name="foretold"), "foretold") as made:
        made.run("up")
        yield made


def test_a_move_that_does_not_complete_is_foretold(lab: Bench) -> None:
    """The guest writes to all that it has, far faster than 200 Mbit/s: only post-copy and a pause of seconds do. The
    move itself says so too."""
    source, target = lab.ends()
    found = lab.run("predict", GUEST, target, "--policy", "nova", "--json").result
    assert (found["guest"], found["source"], found["target"]) == (GUEST, source, target)
    assert found["link_bytes_per_s"] == pytest.approx(23.9e6, rel=0.01) and found["memory"]["how"] == "memory"
    ways = {way["way"]["name"]: way for way in found["ways"]}
    assert list(ways) == ["qemu (300 ms)", "downtime 2 s", "throttle", "post-copy", "auto (300 ms)", "nova"]
    assert ways["qemu (300 ms)"]["forecast"]["completes"] < 0.5
    assert "a pause of" in ways["qemu (300 ms)"]["remark"]
    assert ways["post-copy"]["forecast"]["completes"] == 1 and "is the guest's loss" in ways["post-copy"]["remark"]
    assert ways["auto (300 ms)"]["ends_s"] and "--outage" in ways["auto (300 ms)"]["remark"]
    said = lab.migrate(target, "--policy", "auto", expect=6).result
    assert "the policy auto gives it up" in said["error"]
    lab.assert_once(source)
    (score,) = lab.run("predict", "--score", "--json").result
    assert (score["way"], score["moves"], score["completed"]) == ("auto (300 ms)", 1, 0) and score["brier"] < 0.3


def test_the_table(lab: Bench) -> None:
    _, target = lab.ends()
    said = lab.run("predict", GUEST, target, "--outage", "3 s").out
    assert "the link takes 22.8" in said and "bare dirties" in said
    assert "users notice" in said and "auto (3 s)" in said
    assert "completed" in lab.run("predict", "--score").out


@pytest.mark.parametrize(
    ("words", "says"),
    [(("nowhere",), "there is no host"), (("host2", "--policy", "novo"), "did you mean nova")],
)
def test_what_cannot_be_is_said_at_once(lab: Bench, words: tuple[str, ...], says: str) -> None:
    ran = lab.run("predict", GUEST, *words, "--json", expect=2)
    assert says in json.loads(ran.out)["error"] if ran.out else says in ran.err
