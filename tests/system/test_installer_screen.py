"""A medium that speaks on its screen alone, with a real Linux behind it: its login, hidden and long lines, its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from limosa.events import Event, Events, Note, StageFinished
from limosa.guest.installer import (
    Console,
    Prompt,
    Script,
    Secret,
    Step,
    Transcript,
    command,
    play,
    speaker,
    virtual_machine,
)
from limosa.guest.installer.installation import HOST_KEY
from tests.tiny_linux import initramfs, tiny_linux

pytestmark = pytest.mark.system

INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
mount -t proc none /proc
exec setsid -c sh -c '
exec </dev/tty1 >/dev/tty1 2>&1
printf "\n\nWelcome to a medium without a serial console\n\nlocalhost login: "; read name
stty -echo; printf "Password: "; read password; stty echo; echo
seq 1 60
echo "limosa-hostkey @KEY@ $name ${#password}" >/who
export PS1="/ # "; exec /bin/sh'
"""

PASSWORD = "Tz7-correct|horse"
KEY = "ssh-ed25519 " + "Az09+/" * 11 + "Az"
SHELL = Prompt("shell", r"/ # ?")
SIGNS = "{}[]~!@#%^&*()_+|<>?:;,./='"
# What is typed wraps, and has signs of a keyboard's upper level; so does what comes back.
SAY = 'cat /who; echo "' + SIGNS + "\" '$`\\'"

SCRIPT = Script(
    "screen",
    (
        Step("boot", (Prompt("login", r"[\w.-]+ login: ?", ends=True),), 300, unknown_s=300),
        Step(
            "log in",
            (
                Prompt("login", r"login: ?", "root"),
                Prompt("password", r"Password: ?", Secret(PASSWORD)),
                Prompt("shell", SHELL.pattern, ends=True),
            ),
            300,
        ),
        command("say", SAY, SHELL, 300),
        Step("power off", (Prompt("shell", SHELL.pattern, "poweroff -f", ends=True),), 300),
        Step("wait for the end", (), 120, ends_with_machine=True),
    ),
)


async def test_a_medium_that_knows_no_serial_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaker, "GRACE_S", 0.5)
    monkeypatch.setattr(speaker, "LOOK_S", 0.5)
    linux, why = tiny_linux()
    if linux is None:
        pytest.skip(why)
    initrd, disk = tmp_path / "initrd", tmp_path / "disk"
    initrd.write_bytes(initramfs(linux.busybox, INIT.replace("@KEY@", KEY)))
    await virtual_machine.new_disk(disk, 1 << 20)
    hardware = virtual_machine.Hardware(
        disk=disk,
        kernel=linux.kernel,
        initrd=initrd,
        append="console=tty0 no_timer_check quiet",
        memory_bytes=256 << 20,
        network="none",
        reboots=False,
        display=True,
    )
    transcript, said = Transcript(tmp_path / "transcript", "screen"), list[Event]()
    events = Events(said.append)
    async with (
        virtual_machine.running(hardware) as running,
        Console.over(running.console, transcript) as serial,
        speaker.begun(SCRIPT, serial, running, events, None) as (console, rest),
    ):
        await play(rest, console, events)
        assert console is not serial
        text = console.text
    transcript.close()
    assert "login:" not in serial.text, "it was to speak on its screen alone"
    assert [event for event in said if isinstance(event, StageFinished) and not event.ok] == []
    assert any("on its screen alone" in event.text for event in said if isinstance(event, Note))
    assert f" root {len(PASSWORD)}\n" in text
    assert f"\n{SIGNS} $`\\\n" in text
    found = HOST_KEY.search(text)
    assert found is not None, text
    assert found.group(1) == KEY
    for kept in (transcript.plain, transcript.cast):
        assert PASSWORD not in kept.read_text()
        assert "limosa-exit=0" in kept.read_text()
