"""``limosa doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Option
from limosa.cli.options import JsonOption
from limosa.cli.values import LAB

if TYPE_CHECKING:
    from limosa.capabilities import Finding
    from limosa.lab.fitness import Examined
    from limosa.lab.prospect import Prospect


def doctor(
    lab: Annotated[
        str,
        Option(
            "--lab",
            kind=LAB,
            help="Examine the hosts of this lab too, by its file or its name: machines over SSH, containers.",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Try everything that limosa needs of this machine, and say how to mend what is amiss."""
    from limosa.cli.face import run

    if lab:
        _examine_lab(lab, as_json)
        return
    from limosa.capabilities import examine

    findings = run(examine)
    ready = all(finding.ok for finding in findings if finding.required)
    if as_json:
        from limosa.cli.face import show_result

        show_result({"ready": ready, "findings": findings})
    else:
        from limosa.cli.printable import print_prose

        _print(findings)
        print_prose(_verdict(findings))
    if not ready:
        raise SystemExit(3)


def _examine_lab(lab: str, as_json: bool) -> None:
    from limosa.cli.face import run, show_result

    async def work() -> tuple[list[Examined], list[Prospect]]:
        from limosa.lab import Lab

        async with Lab.open(lab) as opened:
            return await opened.hosts.examine(), await opened.guests.plans()

    examined, moves = run(work)
    unready = [one.name for one in examined if not one.ready]
    if as_json:
        hosts = [{"name": one.name, "kind": one.kind, "ready": one.ready, "findings": one.findings} for one in examined]
        from limosa.cli import prospect_text

        show_result({"ready": not unready, "examined": hosts, "moves": [prospect_text.as_data(move) for move in moves]})
    else:
        for one in examined:
            print(f"{one.name} ({one.kind})" if one.kind else one.name)
            _print(one.findings)
            print()
        _print_moves(moves)
        print(f"not ready: {', '.join(unready)}; see MISSING" if unready else "all is ready for this lab")
    if unready:
        raise SystemExit(3)


def _print_moves(moves: Sequence[Prospect]) -> None:
    """What ``limosa migrate --plan`` would say, briefly."""
    if not moves:
        return
    from limosa.cli import prospect_text
    from limosa.cli.columns import print_table

    print("moves of the guests that run")
    print_table(("", "guest", "from and to", "found"), prospect_text.rows(moves))
    if mended := prospect_text.fixes(moves):
        print("to mend it:")
        for sentence, fix in mended:
            print(f"  {sentence}\n      {fix}")
    print()


def _verdict(findings: Sequence[Finding]) -> str:
    """The last line: whether labs can run here, and what cannot be done with what is absent."""
    if not all(finding.ok for finding in findings if finding.required):
        return "this machine is not ready: see MISSING"
    lacks = dict.fromkeys(finding.needed_for for finding in findings if not finding.ok)
    return "this machine is ready" + (f"; what is absent is only for: {'; '.join(lacks)}" if lacks else "")


def _print(findings: Sequence[Finding]) -> None:
    from limosa.cli.columns import print_table

    rows = []
    for finding in findings:
        mark = "ok" if finding.ok else ("MISSING" if finding.required else "absent")
        needed_for = "every lab" if finding.required else finding.needed_for
        rows.append((mark, finding.name, finding.detail, needed_for))
    print_table(("", "what", "found", "needed for"), rows)
    mended = [finding for finding in findings if finding.fix and not finding.ok]
    if mended:
        # Below the table, whole: a line to be typed must not be broken in a narrow column.
        print("to mend it:")
        for finding in mended:
            print(f"  {finding.name}\n      {finding.fix}")
