"""``limosa image build``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption
from limosa.errors import SpecError

if TYPE_CHECKING:
    from limosa.guest.library import Entry


def build(
    system: Annotated[str, Argument(help="What to build: debian.", metavar="SYSTEM")],
    name: Annotated[str, Option(help="The image's name; without it as debian-bookworm.", show_default=False)] = "",
    suite: Annotated[str, Option(help="The release of Debian.")] = "bookworm",
    size: Annotated[str, Option(help="The disk's size.")] = "2GiB",
    mirror: Annotated[str, Option(help="The mirror; without it Debian's own.", show_default=False)] = "",
    package: Annotated[
        list[str] | None, Option(help="A package to install too; may be repeated.", show_default=False)
    ] = None,
    no_install: Annotated[
        bool, Option("--no-install", help="Install nothing on this machine; print the line that would.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a whole Debian on a disk that boots by itself, with BIOS and UEFI, without being root.

    Root logs in by a new key that is kept with the image; there is no password.
    """
    from limosa.cli.face import face, run, show_result

    if system != "debian":
        raise SpecError(f"limosa cannot build {system!r}", hint="debian; limosa image install can install others")
    size_bytes = _size(size)

    async def work() -> Entry:
        from limosa import requirements
        from limosa.guest import debian

        choice = debian.Choice(suite=suite, size_bytes=size_bytes, mirror=mirror, packages=tuple(package or ()))
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


def _size(text: str) -> int:
    from limosa.units import parse_bytes

    try:
        return int(parse_bytes(text))
    except ValueError as error:
        raise SpecError(f"--size: {error}", hint="as in --size 2GiB") from error
