"""``limosa image build``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption, NoInstallOption
from limosa.cli.values import DISK_SIZE, NEW_NAME, PACKAGE, URL, Kind, choice

if TYPE_CHECKING:
    from limosa.guest.library import Entry


def _suites() -> tuple[str, ...]:
    from limosa.guest.debian.image import SUITES

    return SUITES


SUITE = Kind("SUITE", known=_suites)
"""A release of Debian; those that are known are offered, others taken."""


def build(
    system: Annotated[str, Argument(kind=choice("debian"), help="What to build.")],
    name: Annotated[str, Option(kind=NEW_NAME, help="The image's name; without it as debian-bookworm.")] = "",
    suite: Annotated[str, Option(kind=SUITE, help="The release of Debian.")] = "bookworm",
    size: Annotated[int, Option(kind=DISK_SIZE, help="The disk's size.")] = 2 << 30,
    mirror: Annotated[str, Option(kind=URL, help="The mirror; without it Debian's own.")] = "",
    package: Annotated[
        list[str] | None, Option(kind=PACKAGE, help="A package to install too; may be repeated.")
    ] = None,
    no_install: NoInstallOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build a whole Debian on a disk that boots by itself, with BIOS and UEFI, without being root.

    Root logs in by a new key that is kept with the image; there is no password.
    """
    from limosa.cli.face import face, run, show_result

    async def work() -> Entry:
        from limosa import requirements
        from limosa.guest import debian

        choice = debian.Choice(suite=suite, size_bytes=size, mirror=mirror, packages=tuple(package or ()))
        chosen = name or f"debian-{suite}"
        debian.check(chosen, choice)
        with face(as_json) as events:
            lacking = await requirements.missing(debian.needed())
            await requirements.install(lacking, events, no_install=no_install)
            return await debian.build(chosen, choice, events)

    entry = run(work)
    if as_json:
        show_result({"name": entry.name, "directory": entry.directory, "disk": entry.disk_path, "image": entry})
    else:
        print(f"{entry.name} is built: {entry.disk_path}")
        print(f"root logs in by the key {entry.path(entry.access.key)}")
