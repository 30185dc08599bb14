"""``limosa migrate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, cast

from limosa.cli.declared import Option
from limosa.cli.options import GuestArgument, HostArgument, JsonOption, LabOption
from limosa.cli.policy_options import (
    DeadlineOption,
    LastResortOption,
    OutageOption,
    PolicyOption,
    PostCopyOption,
    ThrottleOption,
    TimeScaleOption,
    steered,
)
from limosa.cli.values import DOWNTIME_LIMIT, METHOD, MIGRATION_BANDWIDTH, OPTION_VALUE, TLS, duration

if TYPE_CHECKING:
    from limosa.lab.prospect import Prospect
    from limosa.migration.settings import Settings
    from limosa.migration.transfer import Outcome
    from limosa.spec.migration_options import Value
    from limosa.spec.resolved import Method, Tls


MethodOption = Annotated[
    str, Option(kind=METHOD, help="Whether the guest moves once nearly all is sent, or before; without it pre-copy.")
]
SettingsOption = Annotated[
    list[str] | None,
    Option("--set", kind=OPTION_VALUE, help="Anything else that QEMU can be told; may be repeated."),
]
PlanOption = Annotated[
    bool, Option("--plan", help="Say what would be done, checked on both hosts, and change nothing.")
]
MeasureOption = Annotated[bool, Option("--measure", help="Watch it with the clocks, and leave a run with its report.")]


def migrate(
    guest: GuestArgument,
    host: HostArgument,
    lab: LabOption = "",
    max_bandwidth: Annotated[
        int | None,
        Option(kind=MIGRATION_BANDWIDTH, help="Upper limit; without it unlimited."),
    ] = None,
    downtime_limit: Annotated[
        int | None, Option(kind=DOWNTIME_LIMIT, help="The pause that QEMU may plan for; without it 300 ms.")
    ] = None,
    method: MethodOption = "",
    settings: SettingsOption = None,
    policy: PolicyOption = "",
    outage: OutageOption = None,
    deadline: DeadlineOption = None,
    post_copy: PostCopyOption = "never",
    throttle: ThrottleOption = 0,
    last_resort: LastResortOption = "give-up",
    policy_time_scale: TimeScaleOption = 1.0,
    timeout: Annotated[
        float | None, Option(kind=duration(0.001), help="Give up after this: it stays on the source, unless post-copy.")
    ] = None,
    tls: Annotated[
        str, Option(kind=TLS, help="Encrypt what is sent; without it auto: where it leaves this machine.")
    ] = "",
    plan: PlanOption = False,
    measured: MeasureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Move a running guest to another host. Ctrl-C cancels and leaves it running on the source; a post-copy goes on."""
    from limosa.cli.face import face, run, show_result
    from limosa.cli.printable import print_prose
    from limosa.lab import Lab

    asked = _asked(settings or [], {"max-bandwidth": max_bandwidth, "downtime-limit": downtime_limit})
    said = (outage, deadline, post_copy, throttle, last_resort, policy_time_scale)
    chosen = steered(_chosen(asked, method, tls, timeout), policy, said)
    if plan:
        _plan(lab, guest, host, chosen, as_json)
        return
    if measured:
        from limosa.cli.measured_move import measure_move

        measure_move(guest, host, lab, chosen, as_json)
        return

    async def work() -> Outcome:
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                return await opened.migrate(guest, host, chosen)

    moved = run(work)
    if as_json:
        show_result(_as_data(guest, moved))
    else:
        for sentence in _sentences(guest, moved):
            print_prose(sentence, then="  ")


def _chosen(asked: Mapping[str, Value | None], method: str, tls: str, timeout_s: float | None) -> Settings:
    """What the words come to; an empty one says nothing."""
    from limosa.migration.settings import Settings

    ways = cast("Method | None", method or None), cast("Tls | None", tls or None)
    return Settings(options=asked, method=ways[0], tls=ways[1], timeout_s=timeout_s)


def _asked(assigned: list[str], everyday: Mapping[str, Value | None]) -> dict[str, Value | None]:
    """The options by name: those of ``--set``, and those that have words of their own. Raises SpecError for both."""
    from limosa.errors import SpecError
    from limosa.spec.migration_options import read

    asked: dict[str, Value | None] = {name: value for name, value in everyday.items() if value is not None}
    for each in assigned:
        name, _, text = each.partition("=")
        if name in asked:
            raise SpecError(f"the option {name} is given twice", hint="leave one of them out")
        asked[name] = read(name, text)
    return asked


def _plan(lab: str, guest: str, host: str, settings: Settings, as_json: bool) -> None:
    """Exits with what the move itself would exit with."""
    from limosa.cli import prospect_text
    from limosa.cli.face import face, run, show_result
    from limosa.cli.printable import print_sentence
    from limosa.lab import Lab

    async def work() -> Prospect:
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                return await opened.guests.plan(guest, host, settings)

    found = run(work)
    if as_json:
        show_result(prospect_text.as_data(found))
    else:
        for label, sentence in prospect_text.lines(found):
            print_sentence(label, sentence)
        print(prospect_text.verdict(found))
    if found.refusal is not None:
        raise SystemExit(found.refusal.exit_code)


def _as_data(guest: str, moved: Outcome) -> dict[str, object]:
    from limosa.results.exposure import exposure_ms

    return {
        "guest": guest,
        "source": moved.source,
        "target": moved.target,
        "total_ms": moved.info.total_time or None,
        "qemu_downtime_ms": moved.qemu_downtime_ms,
        "stop_resume_ms": moved.pause_ms,
        "target_ahead_ns": moved.target_ahead_ns,
        "ahead_uncertainty_ns": moved.ahead_uncertainty_ns,
        "exposure_ms": exposure_ms(moved.phases),
        "transferred_bytes": moved.info.ram.transferred if moved.info.ram else None,
        "started_ns": moved.started_ns,
        "ended_ns": moved.ended_ns,
        "policy": moved.plan.policy,
        "decisions": [entry.decided for entry in moved.decisions],
        "phases": moved.phases,
        "capabilities_in_force": moved.capabilities,
        "parameters_in_force": moved.parameters,
    }


def _sentences(guest: str, moved: Outcome) -> list[str]:
    """What is known of the move; what QEMU did not say is not in it."""
    from limosa.results.exposure import exposure_ms
    from limosa.units import format_bytes

    figures = []
    if moved.info.total_time:
        figures.append(f"{moved.info.total_time} ms")
    if moved.info.ram is not None:
        figures.append(f"{format_bytes(moved.info.ram.transferred)} sent")
    if moved.qemu_downtime_ms is not None:
        figures.append(f"QEMU's downtime {moved.qemu_downtime_ms} ms")
    behind = "for a time that is not known"
    if (pause_ms := moved.pause_ms) is not None:
        behind = f"for {pause_ms:.0f} ms"
        figures.append(f"stopped to running {pause_ms:.0f} ms")
    if (exposed_ms := exposure_ms(moved.phases)) is not None:
        figures.append(f"its memory was on both hosts for {exposed_ms:.0f} ms")
    return [
        f"{guest} runs on {moved.target}{': ' if figures else ''}{', '.join(figures)}",
        f"its clocks stood still {behind}: its time of day is behind by that, until something in it sets it",
    ]
