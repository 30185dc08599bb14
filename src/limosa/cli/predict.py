"""``limosa predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption, LabOption
from limosa.cli.policy_options import (
    DeadlineOption,
    LastResortOption,
    OutageOption,
    PostCopyOption,
    ThrottleOption,
    TimeScaleOption,
    allowing,
)
from limosa.cli.values import GUEST, HOST, POLICY, RATE

if TYPE_CHECKING:
    from limosa.lab.foresight import Prediction
    from limosa.prediction.contender import Foretold
    from limosa.prediction.forecast import Range


def predict(
    guest: Annotated[str, Argument(kind=GUEST, help="A guest of the lab.")] = "",
    host: Annotated[str, Argument(kind=HOST, help="The host that it would go to.")] = "",
    lab: LabOption = "",
    link: Annotated[int | None, Option(kind=RATE, help="What the link takes; without it as the lab file says.")] = None,
    policy: Annotated[
        list[str] | None, Option(kind=POLICY, help="A policy beside the usual ways; may be repeated.")
    ] = None,
    outage: OutageOption = None,
    deadline: DeadlineOption = None,
    post_copy: PostCopyOption = "never",
    throttle: ThrottleOption = 0,
    last_resort: LastResortOption = "give-up",
    policy_time_scale: TimeScaleOption = 1.0,
    score: Annotated[bool, Option("--score", help="Say how predictions have held until now, and no more.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say beforehand what moving a guest would take by each way: whether it completes, how long, what users notice."""
    from limosa.cli.face import face, run, show_result
    from limosa.errors import SpecError
    from limosa.lab import Lab
    from limosa.migration import pause_estimate
    from limosa.migration.settings import Settings

    if score:
        _show_score(as_json)
        return
    if not (guest and host):
        raise SpecError("predict the move of which guest, to which host?", hint="limosa predict GUEST HOST")
    allowed = allowing(Settings(), (outage, deadline, post_copy, throttle, last_resort, policy_time_scale))
    stream = None if link is None else float(pause_estimate.stream(link))

    async def work() -> Prediction:
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                return await opened.guests.predict(guest, host, allowed, link_bytes_per_s=stream, also=policy or ())

    found = run(work)
    if as_json:
        show_result(found)
    else:
        _print(found)


def _show_score(as_json: bool) -> None:
    from limosa.cli.columns import print_table
    from limosa.cli.face import show_result
    from limosa.lab import foresight

    found = foresight.scores()
    if as_json:
        show_result(found)
    elif not found:
        print("no prediction was followed by its move yet: limosa predict GUEST HOST, then limosa migrate GUEST HOST")
    else:
        shares = ("total_error", "total_within", "pause_error", "pause_within")
        rows = []
        for row in found:
            first = (row.way, row.machine, f"{row.completed} of {row.moves}", f"{row.brier:.2f}")
            rows.append((*first, *(_percent(getattr(row, name)) for name in shares)))
        print_table(("way", "machine", "completed", "Brier", "time off", "within", "pause off", "within"), rows)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _print(found: Prediction) -> None:
    from limosa.cli.columns import print_table
    from limosa.cli.printable import print_prose

    print_prose(_facts(found), then="  ")
    rows = [(way.way.name, *_row(way)) for way in found.ways]
    print_table(("way", "completes", "takes", "users notice", "what else"), rows)


def _facts(found: Prediction) -> str:
    """How the guest writes, and what the link takes, in a line."""
    from limosa.units import format_bytes, format_bytes_per_s, format_duration

    memory = found.memory
    facts = [f"{found.guest} dirties {format_bytes(round(memory.dirtied_bytes(1.0)))} within 1 s"]
    last_s = memory.points[-1].t_s
    facts.append(f"{format_bytes(round(memory.dirtied_bytes(last_s)))} within {format_duration(last_s)}")
    if memory.lasted_s is not None:
        facts[-1] += f" (looked at for {format_duration(memory.lasted_s)})"
    if memory.zero_share is not None:
        facts.append(f"{memory.zero_share:.0%} of its pages are zeros")
    if found.busy_share is not None:
        facts.append(f"its processors are {found.busy_share:.0%} busy")
    return f"{', '.join(facts)}; the link takes {format_bytes_per_s(found.link_bytes_per_s)}"


def _row(way: Foretold) -> tuple[str, str, str, str]:
    completes = way.forecast.completes
    words = "yes" if completes >= 0.95 else "no" if completes <= 0.05 else f"{completes:.0%}"
    if words != "no":
        return words, _range(way.forecast.total_s), _range(way.outage_s), way.remark
    if way.ends_s is None:
        return words, "–", "–", way.remark
    from limosa.units import format_duration

    return words, f"gives up after {format_duration(way.ends_s)}", "–", way.remark


def _range(found: Range | None) -> str:
    """From low to high, in one unit."""
    if found is None:
        return "–"
    scale, unit = (1000, "ms") if found.high < 1 else (1, "s")
    low, high = (f"{value * scale:.3g}" for value in (found.low, found.high))
    return f"{low} {unit}" if low == high else f"{low}–{high} {unit}"
