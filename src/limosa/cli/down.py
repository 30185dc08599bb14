"""``limosa down``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption, LabOption
from limosa.cli.values import HOST, LAB
from limosa.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limosa.errors import LimosaError


def down(
    file: Annotated[str, Argument(kind=LAB, help="The lab file; without it as for --lab.")] = "",
    lab: LabOption = "",
    keep_disks: Annotated[bool, Option("--keep-disks", help="Keep the guests' disks, keys and logs.")] = False,
    forget: Annotated[
        list[str],
        Option(
            "--forget",
            kind=HOST,
            help="Give this host up if it does not answer: what is on it stays, and is said. May be repeated.",
        ),
    ] = [],  # noqa: B006
    every: Annotated[
        bool, Option("--all", help="All labs of this user; what goes is named, and asked for on a terminal.")
    ] = False,
    yes: Annotated[bool, Option("--yes", help="With --all: ask nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """End everything the lab runs, prove that nothing is left, and delete its disks.

    A host that does not answer keeps what it has, and the lab's record says so: down again takes the rest.
    """
    from limosa.cli.face import face, run, show_result
    from limosa.lab import take_down, which

    if every:
        if file or lab or forget:
            raise SpecError("--all means every lab", hint="name neither a lab nor a host beside it")
        _down_all(purge=not keep_disks, yes=yes, as_json=as_json)
        return

    async def work() -> bool:
        with face(as_json) as events:
            return await take_down(file or lab, events=events, purge=not keep_disks, forget=forget)

    was_there = run(work)
    if as_json:
        show_result({"down": True, "was_there": was_there})
    elif not was_there:
        print(f"nothing to do: nothing is there of lab {which.locate(file or lab)[1].name}")


def _down_all(*, purge: bool, yes: bool, as_json: bool) -> None:
    """One failure keeps none of the others; the exit code is theirs where they agree."""
    from limosa.cli.face import face, run, show_result
    from limosa.lab import take_all_down
    from limosa.lab.known_labs import known_labs

    labs = known_labs()
    names = [lab.name for lab in labs]
    if names and not yes:
        from limosa.cli.ls import show_labs

        if not as_json:
            show_labs(labs)
        _confirm(names, purge=purge, may_ask=not as_json)

    async def work() -> dict[str, LimosaError | None]:
        with face(as_json) as events:
            return await take_all_down(names, events=events, purge=purge)

    ends = run(work)
    failed = {name: error for name, error in ends.items() if error is not None}
    gone = [name for name in ends if name not in failed]
    if as_json:
        told = {name: {"error": e.message, "hint": e.hint, "exit_code": e.exit_code} for name, e in failed.items()}
        show_result({"down": gone, "failed": told})
    else:
        _summarise(gone, failed)
    if codes := {error.exit_code for error in failed.values()}:
        raise SystemExit(codes.pop() if len(codes) == 1 else 1)


def _confirm(names: list[str], *, purge: bool, may_ask: bool) -> None:
    """Raise DecisionError where nobody can be asked; end with 1 when the answer is no."""
    import sys

    from limosa.errors import DecisionError

    what = f"{len(names)} labs" if len(names) > 1 else f"the lab {names[0]}"
    if not (may_ask and sys.stdin.isatty() and sys.stderr.isatty()):
        raise DecisionError(f"{what} would be taken down: {', '.join(names)}", hint="limosa down --all --yes does it")
    disks = "and delete the guests' disks" if purge else "and keep the guests' disks"
    print(f"Take {what} down, {disks}? [y/N] ", end="", file=sys.stderr, flush=True)
    if input().strip().lower() not in {"y", "yes"}:
        print("nothing was done")
        raise SystemExit(1)


def _summarise(gone: list[str], failed: Mapping[str, LimosaError]) -> None:
    import sys

    if not gone and not failed:
        print("nothing to do: there is no lab")
    if gone:
        print(f"down: {', '.join(gone)}")
    if failed:
        print(f"not wholly down: {', '.join(failed)}")
    for name, error in failed.items():
        which = "" if name in error.message else f"lab {name}: "
        print(f"limosa: {which}{error.message}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
