"""How the medium of ``installer_iso`` is installed: a script answers its questions, and its disk boots by itself."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from limosa.events import Events
from limosa.guest.installer.installation import Installation, install
from limosa.guest.installer.player import TakeOver
from limosa.guest.installer.script import Prompt, Script, Secret, Step
from limosa.guest.installer.virtual_machine import Hardware
from limosa.guest.library import Entry
from tests.installer_iso import installer_iso

HOSTNAME = "godwit"
PASSWORD = "correct horse of the tests"
SIZE_BYTES = 512 << 20
DONE = r"The installation is complete\. Press Enter to reboot:"
HOST_KEY = re.compile(r"SSH host key: (ssh-ed25519 \S+)")


def install_script(key: str, *, by_hand: bool = False) -> Script:
    """Answers as a person gives them, a mistyped password included; *by_hand*: the last is left to a person."""
    questions = (
        Prompt("host name", r"Enter the host name \[example\]:", HOSTNAME),
        Prompt("password", r"New password for root:", Secret(PASSWORD)),
        Prompt("again", r"Retype the password:", lambda asked: Secret(PASSWORD if asked.before else "mistyped")),
        Prompt("key", r"Public SSH key of root \[none\]:", key, ends=True),
    )
    disk = (
        Prompt("disk", r"Which disk shall be used\? \[vda\]:", "vda"),
        Prompt(
            "erase", r"WARNING: everything on /dev/vda will be lost\. Continue\? \(yes/no\) \[no\]:", "yes", ends=True
        ),
    )
    end = (
        Prompt("failed", r"[^*\n]+\.\.\. failed", fails="{0}", anywhere=True),
        Prompt("done", DONE, "", ends=True) if not by_hand else Prompt("done", DONE, fails="a person has to end it"),
    )
    return Script(
        "install Example Linux",
        (Step("questions", questions, 180), Step("disk", disk, 30), Step("copy the system", end, 180)),
    )


def boot_script() -> Script:
    """The installed disk: its login lets root in by the password that was given."""
    login = (
        Prompt("user", rf"{HOSTNAME} login:", "root"),
        Prompt("password", r"Password:", Secret(PASSWORD)),
        Prompt("refused", r"Login incorrect", fails="the password was refused", anywhere=True),
        Prompt("shell", rf"root@{HOSTNAME}:~#", "exit", ends=True),
    )
    return Script("boot Example Linux", (Step("log in on the console", login, 240),))


async def install_example(name: str, events: Events, person: TakeOver | None = None) -> Entry:
    """The library's entry *name*: Example Linux as its own installer leaves it, perhaps with a *person* at its end."""
    medium = await installer_iso(events)
    wanted = Installation(
        name=name,
        title="Example Linux 1.0",
        size_bytes=SIZE_BYTES,
        installer=Hardware(disk=Path(), iso=medium, reboots=False),
        script=functools.partial(install_script, by_hand=person is not None),
        host_key=HOST_KEY,
        installed=Hardware(disk=Path(), memory_bytes=256 << 20, machine="q35", reboots=False),
        boot=boot_script(),
        provenance={"how": "installed by its own installer", "system": "Example Linux", "version": "1.0"},
    )
    return await install(wanted, events, person)
