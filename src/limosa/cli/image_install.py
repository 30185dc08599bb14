"""``limosa image install``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption
from limosa.cli.values import CHECKSUM, DISK_SIZE, FILE, NEW_NAME, URL, VERSION, choice, duration
from limosa.errors import SpecError, StateError

if TYPE_CHECKING:
    from limosa.events import Events
    from limosa.guest.installer.installation import Request
    from limosa.guest.installer.player import TakeOver
    from limosa.guest.library import Entry


System = Annotated[str, Argument(kind=choice("alpine", "debian"), help="What to install.")]
Version = Annotated[
    str, Option(kind=VERSION, help="Alpine's release, as 3.15.4 or 3.15; else the newest, or the ISO's.")
]
Iso = Annotated[Path | None, Option(kind=FILE, help="Alpine's ISO, if it is here already.")]
Sha256 = Annotated[str, Option(kind=CHECKSUM, help="What the ISO's checksum has to be.")]
Mirror = Annotated[str, Option(kind=URL, help="The mirror; without it the system's own.")]
Offline = Annotated[bool, Option("--offline", help="Install from the ISO alone.")]
AsAPerson = Annotated[bool, Option("--as-a-person", help="Answer every question, instead of by an answer file.")]
Name = Annotated[str, Option(kind=NEW_NAME, help="The image's name; without it as alpine-3.15.4.")]
Size = Annotated[int | None, Option(kind=DISK_SIZE, help="The disk's size; else 2 GiB, Debian's 4 GiB.")]
SshKey = Annotated[Path | None, Option(kind=FILE, help="A public key that may log in too, as ~/.ssh/id_ed25519.pub.")]
PasswordAsk = Annotated[
    bool, Option("--password-ask", help="Ask for a password for root's console; else root has none.")
]
Attach = Annotated[bool, Option("--attach", help="On a surprise, hand the console over to you.")]
StepLimit = Annotated[
    float | None, Option(kind=duration(1), help="The longest that one step may take; else 5 to 30 min.")
]


def install(
    system: System,
    version: Version = "",
    iso: Iso = None,
    sha256: Sha256 = "",
    mirror: Mirror = "",
    offline: Offline = False,
    as_a_person: AsAPerson = False,
    name: Name = "",
    size: Size = None,
    ssh_key: SshKey = None,
    password_ask: PasswordAsk = False,
    attach: Attach = False,
    step_limit: StepLimit = None,
    as_json: JsonOption = False,
) -> None:
    """Install a system from its own installer on a text console, unattended; the image boots by itself.

    Root logs in by a new key that is kept with the image. The console's transcript is kept too.
    """
    from limosa.guest.installer import takeover
    from limosa.guest.installer.installation import Request

    if system == "debian" and (version or iso or sha256 or offline or as_a_person or password_ask):
        raise SpecError(
            "Debian is installed from its mirror, by its own release's installer and without a password",
            hint="--mirror, --name, --size, --ssh-key, --attach and --step-limit are for both",
        )
    if attach:
        takeover.check_terminal()
    request = Request(
        version=version,
        iso=iso,
        sha256=sha256,
        mirror=mirror,
        offline=offline,
        as_a_person=as_a_person,
        name=name,
        size_bytes=size or 0,
        public_keys=(_public_key(ssh_key),) if ssh_key else (),
        password=_ask_password() if password_ask else "",
        step_limit_s=step_limit or 0.0,
    )
    _carry_out(system, request, takeover.take_over if attach else None, as_json)


def _carry_out(system: str, request: Request, take_over: TakeOver | None, as_json: bool) -> None:
    from limosa.cli.face import run, show_result

    async def alpine(events: Events) -> Entry:
        from limosa.guest.installer.alpine_image import install_alpine

        return await install_alpine(request, events, take_over)

    async def debian(events: Events) -> Entry:
        from limosa.guest.installer.debian import install_debian

        return await install_debian(request, events, take_over)

    work = alpine if system == "alpine" else debian
    entry = run(lambda: _shown(work, take_over is not None, as_json))
    if as_json:
        show_result({"name": entry.name, "directory": entry.directory, "disk": entry.disk_path, "image": entry})
    else:
        print(f"{entry.name} is installed: {entry.disk_path}")
        print(f"root logs in by the key {entry.path(entry.access.key)}")
        print(f"transcript: asciinema play {entry.path('console.cast')}")


async def _shown(work: Callable[[Events], Awaitable[Entry]], attach: bool, as_json: bool) -> Entry:
    from limosa.cli.face import PlainFace, face
    from limosa.events import Events

    if attach and not as_json:
        # A live display would write over the console that the person may get.
        return await work(Events(PlainFace()))
    with face(as_json) as events:
        return await work(events)


def _public_key(path: Path) -> str:
    import re

    if path.suffix != ".pub" and path.with_name(path.name + ".pub").is_file():
        path = path.with_name(path.name + ".pub")
    try:
        line = path.expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"the key {path} cannot be read: {error}", hint="give a public key, as id_ed25519.pub"
        ) from error
    if not re.fullmatch(r"(?:ssh|ecdsa|sk)-\S+ [A-Za-z0-9+/=]+(?: [^\n']*)?", line):
        raise SpecError(f"{path} is no public SSH key", hint="it is one line that begins with ssh-ed25519 or the like")
    return line


def _ask_password() -> str:
    import getpass
    import sys

    if not sys.stdin.isatty():
        raise StateError("--password-ask needs a terminal", hint="without it root logs in by key alone")
    first = getpass.getpass("Password for root: ")
    if not first or first != getpass.getpass("Again: "):
        raise SpecError("the passwords are empty or differ", hint="try again")
    return first
