"""``limosa status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limosa.cli.options import JsonOption, LabOption

if TYPE_CHECKING:
    from limosa.lab import LabStatus


def status(lab: LabOption = "", as_json: JsonOption = False) -> None:
    """Say which hosts are on and what each guest does where."""
    from limosa.cli.face import face, run, show_result
    from limosa.lab import Lab

    async def work() -> LabStatus:
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                return await opened.status()

    found = run(work)
    if as_json:
        show_result(found)
        return
    from limosa.cli.columns import print_table
    from limosa.cli.printable import print_sentence
    from limosa.cli.progress_line import move_line

    print(f"lab {found.name}: {'up' if found.up else 'down'}")
    print_table(
        ("host", "state", "addresses"),
        [(h.name, h.state, ", ".join(f"{n} {a}" for n, a in h.addresses.items())) for h in found.hosts],
    )
    print_table(
        ("guest", "state", "host", "address", "accel", "machine", "cpu"),
        [(g.name, g.state, g.host, g.address, g.accel, g.machine, g.cpu) for g in found.guests],
    )
    for host in found.hosts:
        if host.why:
            print_sentence(host.name, host.why)
            print_sentence("  hint", host.hint)
    if found.left:
        print(f"something may remain on {', '.join(found.left)}; take it away with: limosa down --lab {found.name}")
    for guest in found.guests:
        if guest.move is not None:
            print_sentence(guest.name, move_line(guest.move))
        if guest.state == "unknown":
            print_sentence(guest.name, f"whether it runs is not known; it was last on {guest.host}")
        if guest.unfinished:
            print_sentence(guest.name, guest.unfinished)
        if guest.hint:
            print_sentence("  hint", guest.hint)
