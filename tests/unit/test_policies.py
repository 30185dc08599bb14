"""What each system does, when: its specification, step by step, on histories that are made for it."""

from __future__ import annotations

import importlib
import itertools
import sys
import types
from collections.abc import Callable, Iterator, Sequence

import pytest

from limosa.errors import SpecError
from limosa.migration.choice import expanded
from limosa.migration.history import History, Look
from limosa.migration.policies import policy_table
from limosa.migration.policies.policy import Action, Brief, Judgement, Policy, pause_of
from limosa.spec.migration_options import value
from tests import policy_docs

MIB, GIB = 1 << 20, 1 << 30
TWO_GIB = Brief(memory_bytes=2 * GIB)
Saw = Callable[[int], float]
"""With how many bytes pass *n*, from 1, begins."""


def saw(begins: Saw, rate: float, until_s: float, every_s: float = 0.1) -> Iterator[Look]:
    """Looks at passes that are sent at *rate* bytes/s, one after the other."""
    number, began_s, sent = 1, 0.0, 0.0
    for step in itertools.count():
        at_s = step * every_s
        if at_s > until_s:
            return
        while at_s >= began_s + begins(number) / rate:
            began_s, sent, number = began_s + begins(number) / rate, sent + begins(number), number + 1
        gone = (at_s - began_s) * rate
        yield Look(
            at_s=at_s,
            iteration=number,
            total_bytes=2 * GIB,
            remaining_bytes=round(begins(number) - gone),
            sent_bytes=round(sent + gone),
        )


def steered(policy: Policy, brief: Brief, looks: Iterator[Look]) -> list[tuple[float, Action]]:
    """What *policy* did, and when."""
    seen, memory, done = History(), policy.memory, list[tuple[float, Action]]()
    next_s = brief.seconds(policy.tick_s)
    for look in looks:
        seen.add(look)
        if look.at_s + 1e-9 < next_s:
            continue
        next_s = look.at_s + brief.seconds(policy.tick_s)
        judged = policy.step(seen, brief, memory)
        memory = judged.memory
        if judged.action is not None:
            assert judged.why, "every action has its reason"
            done.append((round(look.at_s, 1), judged.action))
            if judged.action.kind in ("cancel", "post-copy"):
                break
    return done


def told(done: Sequence[tuple[float, Action]]) -> list[tuple[float, object]]:
    """A pause by its ms, everything else by its kind."""
    return [(at_s, action.options.get("downtime-limit", action.kind)) for at_s, action in done]


def stuck(until_s: float) -> Iterator[Look]:
    """100 MiB are dirty again after each pass of 1 s."""
    return saw(lambda _: 100 * MIB, 100 * MIB, until_s)


def act(name: str, looks: Iterator[Look], brief: Brief = TWO_GIB) -> list[tuple[float, object]]:
    return told(steered(policy_table.named(name), brief, looks))


def allowing(brief: Brief = TWO_GIB, **more: object) -> Brief:
    from msgspec.structs import replace

    return replace(brief, **more)


@pytest.mark.parametrize("name", ["qemu", "virsh", "incus", "fc-qemu"])
def test_what_leaves_all_to_qemu_does_nothing(name: str) -> None:
    assert act(name, stuck(4000.0)) == []


def test_virsh_does_one_thing_when_its_timeout_is_over() -> None:
    brief = allowing(deadline_s=30.0)
    assert act("virsh-timeout", stuck(60.0), brief) == [(30.0, "pause")]
    assert act("virsh-timeout", stuck(60.0), allowing(brief, post_copy="ok")) == [(30.0, "post-copy")]
    assert act("virsh-timeout", stuck(60.0)) == []


def test_nova_raises_the_pause_by_elapsed_time() -> None:
    """Two GiB: a step each 150 s, the top after 1500 s, given up after 1600 s."""
    steps = [(150.0 * number, 50 + 45 * number) for number in range(1, 11)]
    assert act("nova", stuck(2000.0)) == [*steps, (1600.5, "cancel")]
    assert act("nova-force", stuck(2000.0)) == [*steps, (1600.5, "pause")]
    assert act("nova-force", stuck(2000.0), allowing(post_copy="ok")) == [*steps, (1600.5, "post-copy")]


def test_a_scale_of_time_is_of_durations_alone() -> None:
    done = act("nova", stuck(100.0), allowing(time_scale=0.05))
    assert done[0] == (7.5, 95) and done[-1] == (80.1, "cancel") and len(done) == 11


def test_nova_counts_gibibytes() -> None:
    assert act("nova", stuck(700.0), allowing(memory_bytes=8 * GIB)) == [(600.0, 95)]


def test_ovirt_acts_once_a_look_by_passes() -> None:
    """A pass each second: the limits are long over, and each look takes one action; six of them end after 70 s."""
    pauses = [(20.0, 150), (30.0, 200), (40.0, 300), (50.0, 400), (60.0, 500)]
    assert act("ovirt-minimal", stuck(100.0)) == [*pauses, (70.0, "cancel")]
    assert act("ovirt-suspend", stuck(100.0)) == [*pauses, (70.0, 5000), (80.0, "cancel")]
    assert act("ovirt-post-copy", stuck(100.0)) == [*pauses[:2], (40.0, "post-copy")]
    assert act("ovirt-very-large", stuck(100.0))[-2:] == [(70.0, 5000), (80.0, "cancel")]


def test_ovirt_waits_for_passes_not_for_time() -> None:
    """A pass each 15 s: the first look is in pass 1; more than one pass since then are two, at 30 s."""
    long = saw(lambda _: 1500 * MIB, 100 * MIB, 200.0)
    assert act("ovirt-minimal", long)[:3] == [(30.0, 150), (50.0, 200), (60.0, 300)]


def test_proxmox_doubles_the_pause_at_the_sixth_rise() -> None:
    """A pass of 1.5 s, looked at each second: every other look finds more left than the one before. The look at 1 s
    follows one of nothing sent, which does not count."""
    done = act("proxmox", saw(lambda _: 1024 * MIB, 683 * MIB, 60.0, every_s=1.0))
    assert [limit for _, limit in done] == [200 * 2**number for number in range(len(done))] and len(done) >= 3
    begins = policy_table.named("proxmox").begins(allowing(memory_bytes=4 * GIB))
    assert begins["xbzrle-cache-size"] == 512 * MIB and begins["downtime-limit"] == 100


def test_proxmox_stops_doubling_where_qemu_takes_no_more() -> None:
    done = act("proxmox", saw(lambda _: 1024 * MIB, 683 * MIB, 400.0, every_s=1.0))
    assert done[-1][1] == 2_000_000 and len({limit for _, limit in done}) == len(done), "it is told once"


def test_kubevirt_gives_up_by_time() -> None:
    """Two GiB are three GB, rounded up: 450 s."""
    assert act("kubevirt", stuck(1000.0)) == [(450.4, "cancel")]
    assert act("kubevirt", stuck(1000.0), allowing(post_copy="ok")) == [(450.4, "post-copy")]


def test_kubevirt_gives_up_where_no_look_finds_less() -> None:
    still = (Look(at_s=step / 10, iteration=1, remaining_bytes=MIB, sent_bytes=0) for step in range(2000))
    assert act("kubevirt", still) == [(150.8, "cancel")]


def test_kubevirt_tuning_raises_the_pause_in_seven_steps() -> None:
    done = act("kubevirt-tuning", stuck(200.0))
    assert [limit for _, limit in done] == [257, 364, 471, 579, 686, 793, 900]
    assert done[0][0] == 10.0 and done[1][0] == pytest.approx(20.0, abs=0.8)


def test_kubevirt_finds_a_stall_after_40_s() -> None:
    """100 MiB at 100 MiB/s take a pause of 1 s: more than the 900 ms, and not more than 1.5 times them."""
    ((at_s, what), *late) = act("kubevirt-stall", stuck(200.0))
    assert (at_s, what) == (pytest.approx(41.0, abs=1.2), 900)
    assert [(round(when - at_s), end) for when, end in late] == [(60, "cancel")]
    assert act("kubevirt-stall", stuck(200.0), allowing(post_copy="ok"))[0][1] == "post-copy"
    assert act("kubevirt-stall", stuck(200.0), allowing(exceed=True))[0][1] == 2_000_000


def test_kubevirt_waits_for_a_local_minimum() -> None:
    """Every tenth pass finds half: that one is taken."""

    def begins(number: int) -> float:
        return (50 if number % 10 == 0 else 100) * MIB

    at_s, what = act("kubevirt-stall", saw(begins, 100 * MIB, 200.0))[0]
    before = sum(begins(number) for number in range(1, 60)) / (100 * MIB)
    assert what == 900 and at_s > 40 and before > at_s
    passes = list(itertools.accumulate(begins(number) / (100 * MIB) for number in range(1, 60)))
    began = max(began for began in passes if began <= at_s)
    assert begins(passes.index(began) + 2) == 50 * MIB


def test_cloud_hypervisor_judges_between_passes() -> None:
    """Passes get shorter by half: the first that takes at most 300 ms at the rate of the last one is the last."""
    done = act("cloud-hypervisor", saw(lambda number: max(MIB, 2 * GIB / 2**number), 200 * MIB, 10.06, every_s=0.02))
    assert [what for _, what in done] == [2_000_000]
    passes = list(itertools.accumulate(10.24 / 2**number for number in range(1, 10)))
    assert done[0][0] == pytest.approx(passes[4], abs=0.25)  # the next would take 160 ms; the one before took 320
    assert act("cloud-hypervisor", stuck(4000.0)) == [(pytest.approx(3600.0, abs=1.2), "cancel")]
    assert act("cloud-hypervisor", stuck(4000.0), allowing(exceed=True))[0][1] == 2_000_000


def test_ganeti_goes_over_with_the_second_pass() -> None:
    assert act("ganeti", stuck(60.0)) == []
    assert act("ganeti", stuck(60.0), allowing(post_copy="ok")) == [(1.0, "post-copy")]


def test_the_ladder_goes_up_when_passes_bring_nothing() -> None:
    done = steered(policy_table.named("converge"), allowing(post_copy="ok"), stuck(60.0))
    assert [action.kind for _, action in done] == ["set", "post-copy"]
    assert done[0][1].options["cpu-throttle-initial"] == 50
    assert done[1][0] - done[0][0] == pytest.approx(4.0, abs=0.3)
    assert [action.kind for _, action in steered(policy_table.named("converge"), TWO_GIB, stuck(60.0))] == ["set"]


@pytest.mark.parametrize("name", policy_table.POLICIES)
@pytest.mark.parametrize("post_copy", ["never", "ok"])
def test_what_a_policy_begins_with_is_an_option_with_a_value_that_it_takes(name: str, post_copy: str) -> None:
    brief = allowing(post_copy=post_copy, deadline_s=10.0)
    begins = policy_table.named(name).begins(brief)
    assert begins == {each: value(each, given) for each, given in begins.items()}
    expanded(begins)  # nothing of it needs what is not there
    assert not (post_copy == "ok" and "multifd-channels" in expanded(begins))


@pytest.mark.parametrize("name", policy_table.POLICIES)
def test_each_has_its_words(name: str) -> None:
    policy = policy_table.named(name)
    assert policy.name == name and policy.says and policy.source


def test_the_page_has_them_all() -> None:
    text = policy_docs.PAGE.read_text()
    assert text == policy_docs.written(text), "python -m tests.policy_docs writes it"


def test_adding_one_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that nobody has heard of is planned, steers, and is in the documents' table and the command's words."""
    from limosa.cli.values import POLICY

    def step(seen: History, _brief: Brief, done: bool) -> Judgement:
        if done or seen.now.at_s < 2:
            return Judgement(memory=done)
        return Judgement(pause_of(1234), "two seconds are over", memory=True)

    mine = Policy(name="mine", says="waits two seconds", source="this test", step=step, memory=False)
    module = types.ModuleType("mine")
    module.POLICIES = (mine,)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"{policy_table.__package__}.mine", module)
    monkeypatch.setitem(policy_table.POLICIES, "mine", "mine")  # type: ignore[arg-type]
    assert act("mine", stuck(10.0)) == [(2.0, 1234)]
    assert "mine" in POLICY.complete("mi") and "| `mine` | waits two seconds | no | this test |" in policy_docs.table()


def test_no_file_has_one_that_is_not_listed() -> None:
    files = {
        file: importlib.import_module(f"{policy_table.__package__}.{file}") for file in policy_table.POLICIES.values()
    }
    found = {policy.name: file for file, module in files.items() for policy in module.POLICIES}
    assert found == policy_table.POLICIES


def test_a_policy_that_there_is_not() -> None:
    with pytest.raises(SpecError, match="no policy 'novo', did you mean 'nova'"):
        policy_table.named("novo")
