"""``limosa ls``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limosa.cli.options import JsonOption

if TYPE_CHECKING:
    from limosa.lab.known_labs import KnownLab


def ls(as_json: JsonOption = False) -> None:
    """List all labs: which is up and which down, where each came from, since when.

    Nothing is asked of machines elsewhere, so it is over at once; limosa status asks them.
    """
    from limosa.lab.known_labs import known_labs

    found = known_labs()
    if as_json:
        from limosa.cli.face import show_result

        show_result(found)
    elif found:
        show_labs(found)
    else:
        print("no lab: limosa up FILE makes one, and limosa init writes a FILE")


def show_labs(labs: list[KnownLab]) -> None:
    """A table of labs, and below it what is to be said of one or another."""
    from limosa.cli.columns import print_table
    from limosa.cli.printable import print_sentence

    print_table(("lab", "state", "since", "hosts", "guests on", "file"), [_row(lab) for lab in labs])
    for lab in labs:
        if lab.why:
            print_sentence(lab.name, lab.why)
            print_sentence("  hint", lab.hint)
        if lab.left:
            told = f"something may remain on {', '.join(lab.left)}; limosa down --lab {lab.name} takes it away"
            print_sentence(lab.name, told)


def _row(lab: KnownLab) -> tuple[str, ...]:
    guests = f"{len(lab.started)} of {len(lab.guests)}"
    counts = (str(len(lab.hosts)), guests) if lab.hosts else ("", "")
    state = f"{lab.state}, ephemeral" if lab.ephemeral and lab.state == "up" else str(lab.state)
    return lab.name, state, _local(lab.since), *counts, _told(lab.file)


def _local(since: str) -> str:
    """A moment as people here call it: of today its time, of another day that too."""
    import datetime

    if not since:
        return ""
    then, now = datetime.datetime.fromisoformat(since).astimezone(), datetime.datetime.now().astimezone()
    return then.strftime("%H:%M" if then.date() == now.date() else "%d %b" if then.year == now.year else "%Y-%m-%d")


def _told(file: str) -> str:
    from pathlib import Path

    from limosa import paths

    return paths.told(Path(file)) if file else ""
