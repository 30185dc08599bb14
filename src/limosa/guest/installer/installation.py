"""A whole installation: the script on a new disk, then that disk by itself, and what came of it in the library."""

from __future__ import annotations

import asyncio
import datetime
import re
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limosa import paths, temporary
from limosa.errors import LimosaError
from limosa.events import Events
from limosa.guest import library
from limosa.guest.download import space_errors
from limosa.guest.installer import login, virtual_machine
from limosa.guest.installer.player import Surprise, SwitchedOff, TakeOver, play
from limosa.guest.installer.room import while_room
from limosa.guest.installer.script import Script
from limosa.guest.installer.speaker import begun
from limosa.guest.installer.text_console import Console
from limosa.guest.installer.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncssh

DISK, KEY = "disk.raw", "user_key"

HOST_KEY = re.compile(r"limosa-hostkey (ssh-\S+ \S+)")
"""How an installation script has the new system's host key said on the console."""

POWER_OFF_S = 180.0

TIMER_PANIC = "IO-APIC + timer doesn't work"
"""What a kernel says when it gives up because the timer's interrupt came late, as it may under emulation."""

FORGET = (
    "[ ! -s /etc/machine-id ] || : > /etc/machine-id; "
    "rm -f /var/lib/dbus/machine-id /var/lib/dhcpcd/duid /var/lib/dhcpcd/secret"
)
"""What a system makes for itself at its first boot, which was ours: each guest of the image makes its own."""

Finish = Callable[["asyncssh.SSHClientConnection"], Awaitable[dict[str, Any]]]
"""What is still done over SSH, once the installed system runs by itself; returns what is to be remembered of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the person asked for; empty means: as it is usual."""

    version: str = ""
    iso: Path | None = None
    sha256: str = ""
    mirror: str = ""
    offline: bool = False
    """Whether the machine stays without a network, though there may be one."""
    as_a_person: bool = False
    name: str = ""
    size_bytes: int = 0
    public_keys: tuple[str, ...] = ()
    """The person's own keys, which may log in beside the image's."""
    password: str = field(default="", repr=False)
    step_limit_s: float = 0.0
    """The longest that one step may take; 0: as long as is usual for each."""


class Installation:
    """One installation. The machines' ``disk`` and ``ssh_port`` are filled in when it is carried out.

    *script* gives the script that installs; it is given the public key that has to be let in, before the machine
    starts. *boot* is for the installed disk by itself, up to a login on its console.
    """

    def __init__(
        self,
        *,
        name: str,
        title: str,
        size_bytes: int,
        installer: virtual_machine.Hardware,
        script: Callable[[str], Script],
        installed: virtual_machine.Hardware,
        boot: Script,
        provenance: dict[str, Any],
        again: Callable[[Path], virtual_machine.Hardware | None] | None = None,
        host_key: re.Pattern[str] = HOST_KEY,
        finish: Finish | None = None,
        ssh_within_s: float = 300.0,
    ) -> None:
        self.name = name
        """The image's name in the library."""
        self.title, self.size_bytes = title, size_bytes
        self.installer, self.script = installer, script
        self.again = again
        """The same machine started in another way, when its kernel gave up over its timer; it may write to the
        folder."""
        self.installed, self.boot = installed, boot
        self.host_key = host_key
        """How the new system's SSH host key is said on the installer's console; its first group is the key."""
        self.finish, self.ssh_within_s = finish, ssh_within_s
        self.provenance = provenance


async def install(wanted: Installation, events: Events, take_over: TakeOver | None = None) -> library.Entry:
    """Carry *wanted* out. The image appears when the installed system has answered over SSH, or not at all.

    Raises Surprise at a console that does something else, ImageExists when there is one of that name already, and
    MachineError or LimosaError. The transcript is kept in every case.
    """
    folder = transcripts(wanted.name)
    async with library.adding(wanted.name, events) as building:
        disk, key = building.directory / DISK, building.directory / KEY
        with space_errors(disk):
            await virtual_machine.new_disk(disk, wanted.size_bytes)
            # The script first: it may write what the machine is started with.
            script = wanted.script(login.make_key(key, f"limosa-{wanted.name}"))
            transcript = Transcript(folder, wanted.title)
        try:
            started = time.monotonic()
            host_key = await while_room(disk, _run_installer(wanted, script, disk, transcript, events, take_over))
            installed_s = time.monotonic() - started
            found = await while_room(disk, _check(wanted, disk, key, host_key, transcript, events, take_over))
        except asyncio.CancelledError:
            raise asyncio.CancelledError from LimosaError(
                f"the installation of {wanted.title} was interrupted; its disk is gone, and no image was made",
                hint=f"what went over its console is in {transcript.plain}; the same command begins it anew",
            )
        except LimosaError as error:
            if str(folder) not in error.hint:
                error.hint = "; ".join(filter(None, (error.hint, f"what went over its console: {transcript.plain}")))
            raise
        finally:
            transcript.close()
        for file in (transcript.cast, transcript.plain):
            await asyncio.to_thread(shutil.copyfile, file, building.directory / file.name)
        building.entry = library.Entry(
            disk=DISK,
            access=library.Access(key=KEY, host_keys=(host_key,)),
            provenance={**wanted.provenance, **found, "installed_s": round(installed_s, 1), "transcript": str(folder)},
        )
    entry = library.find(wanted.name)
    assert entry is not None
    return entry


def transcripts(name: str) -> Path:
    """A new place for what goes over the consoles of an installation."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
    return paths.state() / "installs" / f"{name}-{stamp}"


@asynccontextmanager
async def _console(
    hardware: virtual_machine.Hardware, transcript: Transcript
) -> AsyncIterator[tuple[Console, virtual_machine.Running]]:
    async with (
        virtual_machine.running(hardware) as running,
        Console.over(running.console, transcript) as console,
    ):
        console.last_words = lambda: running.last_words
        yield console, running


async def _run_installer(
    wanted: Installation, script: Script, disk: Path, transcript: Transcript, events: Events, take_over: TakeOver | None
) -> str:
    """Play the script until the machine is off; the new system's public host key, empty when it was not said."""
    try:
        return await _with_hands(wanted, wanted.installer, script, disk, transcript, events, take_over)
    except Surprise as surprise:
        if wanted.again is None or TIMER_PANIC not in surprise.why:
            raise
    with temporary.folder("kernel") as folder:
        other = await asyncio.to_thread(wanted.again, folder)
        if other is None:
            raise LimosaError(
                "the installer's kernel gave up over its timer, as happens on a busy machine without KVM",
                hint="try again when the machine has less to do",
            )
        events.note("the kernel gave up over its timer, as happens under emulation: starting it without that check")
        return await _with_hands(wanted, other, script, disk, transcript, events, take_over)


async def _with_hands(
    wanted: Installation,
    hardware: virtual_machine.Hardware,
    script: Script,
    disk: Path,
    transcript: Transcript,
    events: Events,
    take_over: TakeOver | None,
) -> str:
    """Install, also when a person had the console and switched the machine off once the system was on its disk."""
    while True:
        try:
            return await _install_once(wanted, hardware, script, disk, transcript, events, take_over)
        except SwitchedOff as off:
            if not await asyncio.to_thread(_boots, disk):
                raise off.surprise from None
            if not script.resumed:
                said = wanted.host_key.search(off.said)
                return said.group(1) if said else ""
        events.note("the machine was switched off with a system on its disk: started again for what is left to do")
        script = replace(script, steps=script.resumed)


def _boots(disk: Path) -> bool:
    """Whether a firmware would start from *disk*: its first sector ends as that of a boot loader or a table does."""
    with disk.open("rb") as file:
        return file.read(512)[510:] == b"\x55\xaa"


async def _install_once(
    wanted: Installation,
    hardware: virtual_machine.Hardware,
    script: Script,
    disk: Path,
    transcript: Transcript,
    events: Events,
    take_over: TakeOver | None,
) -> str:
    async with _console(replace(hardware, disk=disk), transcript) as (console, running):
        async with begun(script, console, running, events, take_over) as (speaking, rest):
            await play(rest, speaking, events, take_over)
            said = wanted.host_key.search(speaking.text)
        if not await running.wait_ended(POWER_OFF_S):
            raise LimosaError("the installer did not power the machine off", hint=f"see {transcript.plain}")
    return said.group(1) if said else ""


async def _check(
    wanted: Installation,
    disk: Path,
    key: Path,
    host_key: str,
    transcript: Transcript,
    events: Events,
    take_over: TakeOver | None,
) -> dict[str, Any]:
    """Boot the installed disk, see the login on its console, log in over SSH, finish, and power it off."""
    if not host_key:
        raise LimosaError("the new system's SSH host key was not seen on its console", hint=f"see {transcript.plain}")
    port = virtual_machine.free_port()
    hardware = replace(wanted.installed, disk=disk, ssh_port=port)
    async with _console(hardware, transcript) as (console, running):
        started = time.monotonic()
        await play(wanted.boot, console, events, take_over)
        found: dict[str, Any] = {"boot_s": round(time.monotonic() - started, 1)}
        with events.stage("log in over SSH"):
            async with login.logged_in(port, key, host_key, wanted.ssh_within_s) as connection:
                found["kernel"] = (await login.run(connection, "uname -r", wanted.ssh_within_s)).strip()
                if wanted.finish is not None:
                    found |= await wanted.finish(connection)
                await login.run(connection, FORGET, 60)
                # The connection goes down with the system, so its end is no failure; the machine's is waited for.
                await login.run(connection, "sync; (sleep 1; poweroff) >/dev/null 2>&1 </dev/null &", 30)
        if not await running.wait_ended(POWER_OFF_S):
            raise LimosaError("the installed system did not power off", hint=f"see {transcript.plain}")
    return found
