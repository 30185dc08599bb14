"""``limosa explain``."""

from __future__ import annotations

from typing import Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption, LabOption
from limosa.cli.values import GUEST, RUN


def explain(
    guest: Annotated[str, Argument(kind=GUEST, help="A guest of the lab.")] = "",
    migration: Annotated[
        str,
        Option("--migration", kind=RUN, help="A run: explain the QMP commands of its migrations."),
    ] = "",
    bench: Annotated[
        str,
        Option("--bench", kind=RUN, help="A run of a bench: explain its figures."),
    ] = "",
    run: Annotated[str, Argument(kind=RUN, help="With the word bench: its run.")] = "",
    lab: LabOption = "",
    as_json: JsonOption = False,
) -> None:
    """Explain a guest's real command line, a migration's QMP commands (--migration), or a bench's figures (--bench).

    `limosa explain bench RUN` is the same as `limosa explain --bench RUN`.
    """
    from limosa.cli.face import show_result
    from limosa.cli.printable import print_prose
    from limosa.errors import SpecError

    if guest == "bench" and run:
        guest, bench, run = "", run, ""
    if guest == "bench" and not (migration or bench):
        raise SpecError("explain which run of a bench?", hint="limosa explain bench RUN, which the bench has printed")
    if sum(map(bool, (guest, migration, bench))) != 1 or run:
        hint = "limosa explain GUEST, limosa explain --migration RUN, or limosa explain --bench RUN"
        raise SpecError("explain what?", hint=hint)
    if bench:
        _of_bench(bench, as_json)
        return
    pairs = _of_migration(migration) if migration else _of_guest(guest, lab)
    if as_json:
        show_result([{"what": what, "purpose": purpose} for what, purpose in pairs])
        return
    for what, purpose in pairs:
        print(what)
        print_prose(purpose, indent="    ", then="    ")


def _of_guest(guest: str, lab: str) -> list[tuple[str, str]]:
    from limosa.cli.face import run
    from limosa.lab import Lab

    async def work() -> list[tuple[str, str]]:
        async with Lab.open(lab) as opened:
            return await opened.guests.explain(guest)

    return run(work)


def _of_migration(run: str) -> list[tuple[str, str]]:
    from limosa.errors import StateError
    from limosa.qemu.purpose import explain_exchanges
    from limosa.results.meant import MIGRATION, find
    from limosa.results.store import read_events

    chosen = find(run, holding=MIGRATION)
    told = explain_exchanges(read_events(chosen))
    if not told:
        raise StateError(f"the run {chosen.id} has no migration in it", hint="limosa runs lists what others have")
    return told


def _of_bench(run: str, as_json: bool) -> None:
    from limosa.bench.benches import told
    from limosa.cli.face import show_result
    from limosa.cli.printable import print_prose, print_sentence
    from limosa.results.meant import BENCH, find

    account = told(find(run, holding=BENCH))
    if as_json:
        show_result({"explanations": account.explanations, "findings": account.findings})
        return
    for explanation in account.explanations or ["nothing follows from these figures"]:
        print_prose(explanation)
    for finding in account.findings:
        print_sentence(finding.severity, finding.text)
