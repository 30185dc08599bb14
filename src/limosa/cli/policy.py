"""``limosa policy`` and ``limosa policy replay``: how a migration can be steered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Argument
from limosa.cli.options import JsonOption
from limosa.cli.policy_options import (
    DeadlineOption,
    LastResortOption,
    OutageOption,
    PostCopyOption,
    ThrottleOption,
    TimeScaleOption,
    allowing,
)
from limosa.cli.values import RUN

if TYPE_CHECKING:
    from limosa.experiment.recorded_moves import Replay
    from limosa.prediction.replay import Course

SIMULATED = "≈"
"""Behind a time of a move that is simulated, since it is another one than that of the record."""
_POST_COPY = {"no": "never", "may": "where it is allowed", "must": "always"}


def list_policies(as_json: JsonOption = False) -> None:
    """List the policies that can steer a migration: what each does, and whose it is."""
    from limosa.cli.columns import print_table
    from limosa.cli.face import show_result
    from limosa.migration.policies import policy_table

    found = list(policy_table.all_policies())
    if as_json:
        keys = ("name", "says", "source", "post_copy", "needs_deadline")
        show_result([{key: getattr(policy, key) for key in keys} for policy in found])
        return
    rows = [(policy.name, policy.says, _POST_COPY[policy.post_copy]) for policy in found]
    print_table(("policy", "what it does", "post-copy"), rows)


def replay(
    run: Annotated[str, Argument(kind=RUN, help="A run's id, its beginning, or its directory; else the latest.")] = "",
    outage: OutageOption = None,
    deadline: DeadlineOption = None,
    post_copy: PostCopyOption = "never",
    throttle: ThrottleOption = 0,
    last_resort: LastResortOption = "give-up",
    policy_time_scale: TimeScaleOption = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Have every policy steer a recorded migration again: who would have done what, and when.

    What each would have done is known until it does what the recorded move did not; what follows (≈) is simulated.
    """
    from limosa.cli.face import show_result
    from limosa.experiment import recorded_moves
    from limosa.migration.settings import Settings
    from limosa.results.meant import LATEST, find

    allowed = allowing(Settings(), (outage, deadline, post_copy, throttle, last_resort, policy_time_scale))
    found = recorded_moves.replay(find(run or LATEST), allowed)
    if as_json:
        show_result(found)
        return
    for each in found:
        _print(each)


def _print(move: Replay) -> None:
    from limosa.cli.columns import print_table
    from limosa.migration.policies.policy import Action

    steered = "" if move.policy == "qemu" else f", steered by {move.policy}"
    print(f"migration {move.index}, {move.source} → {move.target}{steered}: {move.outcome} after {move.took_s:.1f} s")
    rows = []
    for course in move.courses:
        if course.begins:
            rows.append((course.policy, "0 s", Action("set", course.begins).words, "begins so"))
        rows += [
            (course.policy, f"{step.after_s:.1f} s{_mark(course, step.after_s)}", step.action.words, step.why)
            for step in course.steps
        ]
        if course.leaves_s is not None and course.steps[-1].action.kind != "cancel":
            rows.append((course.policy, *_rest(course)))
        if not course.begins and not course.steps:
            rows.append((course.policy, "", "leaves all as it was", ""))
    print_table(("policy", "after", "does", "why"), rows)


def _mark(course: Course, after_s: float) -> str:
    return f" {SIMULATED}" if course.leaves_s is not None and after_s > course.leaves_s else ""


def _rest(course: Course) -> tuple[str, str, str]:
    """How the move that it leaves the record for ends: when, what, and the pause."""
    from limosa.units import format_duration

    rest = course.rest
    if rest is None:
        return "", "another move from here", "too little was seen to simulate it"
    after = f"{rest.total_s or 0.0:.1f} s {SIMULATED}"
    if not rest.completed:
        return after, "still under way", ""
    pause = "" if rest.pause_s is None else f"a pause of {format_duration(rest.pause_s)}"
    return after, "completed", pause
