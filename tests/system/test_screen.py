"""``limosa screen`` on a real screen: GRUB's prompt on a VGA card, typed at through a terminal, moved in between."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
import zlib
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pyte
import pytest

from limosa.lab import Lab, preparation
from limosa.lab.lab_hosts import LabHosts
from limosa.lab.record import GuestRecord
from limosa.spec import resolved
from tests.limosa_command import Command, Traces

pytestmark = pytest.mark.system

LAB = """\
name: looks
hosts: {host1: {}, host2: {}}
guests:
  web: {host: host1, memory: 160 MiB, display: vga, accel: tcg}
  blind: {host: host1, image: bare, accel: tcg}
"""
BOOT_S = 60.0
GRUB = Path("/usr/lib/grub/i386-pc")
SECTOR = 512


def grub_disk(folder: Path) -> Path:
    """A disk that holds GRUB and nothing else: its prompt after the start."""
    if shutil.which("grub-mkimage") is None or not (GRUB / "boot.img").exists():
        pytest.skip("GRUB's images for BIOS are missing (grub-common, grub-pc-bin)")
    core, disk = folder / "core.img", folder / "grub.raw"
    modules = ("biosdisk", "part_msdos", "minicmd", "echo", "normal", "vbe", "videotest")
    subprocess.run(["grub-mkimage", "-O", "i386-pc", "-p", "/", "-o", core, *modules], check=True, capture_output=True)
    sector = (GRUB / "boot.img").read_bytes()[:446].ljust(SECTOR - 2, b"\0") + b"\x55\xaa"
    disk.write_bytes((sector + core.read_bytes()).ljust(2 << 20, b"\0"))
    return disk


async def _up(home: Path, disk: Path) -> None:
    """The lab with its guest started from a disk of its own, as no image does: only what comes first is ours."""
    patch = pytest.MonkeyPatch()
    (home / "limosa").mkdir()

    async def boots_itself(hosts: LabHosts, guest: resolved.Guest) -> GuestRecord:
        folder = hosts.directory.storage(preparation.storage_of(hosts.lab, guest))
        shutil.copyfile(disk, folder / "grub.raw")
        seen = f"{hosts.lab.storage['shared'].mount_point}/grub.raw"
        return GuestRecord(
            host="host1", accel="tcg", accel_reason="", machine="pc-q35-7.2", cpu="Nehalem-v1", disk=seen
        )

    with patch.context() as here:
        here.setenv("XDG_STATE_HOME", str(home))
        here.setattr(preparation, "prepare", boots_itself)
        async with Lab.open(home / "looks.yaml") as lab:
            await lab.up(start=False)
            await lab.start("web", wait=False)


@pytest.fixture(scope="module")
def lab() -> Iterator[Command]:
    home = Path(tempfile.mkdtemp(prefix="limosa-screen-"))
    command, traces = Command(home), Traces(home)
    (home / "looks.yaml").write_text(LAB)
    try:
        asyncio.run(_up(home, grub_disk(home)))
        traces.look()
        wait_text(command, "grub>")
        yield command
    finally:
        command.ok("down", "--lab", "looks")
        traces.assert_gone(within_s=0)
        shutil.rmtree(home)


def wait_text(lab: Command, wanted: str) -> str:
    end = time.monotonic() + BOOT_S
    while wanted not in (text := lab.ok("screen", "web", "--text").text):
        assert time.monotonic() < end, text
    return text


class Looker:
    """``limosa screen`` on a pseudo-terminal, and what a terminal of that size shows."""

    def __init__(self, lab: Command, *, columns: int = 100, rows: int = 30) -> None:
        self.ours, self.theirs = pty.openpty()
        ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.theirs)
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        terminal = {"stdin": self.theirs, "stdout": self.theirs, "stderr": self.theirs}
        self.child = lab.begin("screen", "web", **terminal)

    def __enter__(self) -> Looker:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.ours)
        os.close(self.theirs)

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def read_until(self, wanted: str, within_s: float = 30) -> None:
        end = time.monotonic() + within_s
        while wanted not in self.text:
            assert time.monotonic() < end, self.text
            self.read()

    def read_until_gone(self, unwanted: str, within_s: float = 30) -> None:
        """Read on until *unwanted* is painted over: a picture arrives in parts."""
        end = time.monotonic() + within_s
        while unwanted in self.text:
            assert time.monotonic() < end, self.text
            self.read()

    def leave(self) -> int:
        """Press Ctrl-] and read on, as a terminal does, until the command has ended; return its exit status."""
        self.type(b"\x1d")
        return self.end()

    def end(self, within_s: float = 20) -> int:
        end = time.monotonic() + within_s
        while self.child.poll() is None:
            assert time.monotonic() < end, self.text
            self.read()
        self.read()
        return self.child.returncode

    def read(self) -> None:
        if select.select([self.ours], [], [], 0.2)[0]:
            data = os.read(self.ours, 65536)
            self.raw += data
            self._stream.feed(data)


def test_one_picture_as_text_as_json_and_as_png(lab: Command) -> None:
    text = wait_text(lab, "grub>")
    assert "GNU GRUB" in text
    png = lab.home / "screen.png"
    said = lab.ok("screen", "web", "--json", "--png", str(png)).json
    assert (said["guest"], said["host"], said["width"], said["height"]) == ("web", "host1", 720, 400)
    assert "GNU GRUB" in said["text"]
    width, height, dots = png_dots(png.read_bytes())
    assert (width, height) == (720, 400)
    assert 100 < sum(value != 0 for value in dots) < len(dots) / 2, "some dots are lit, and most are not"


def png_dots(data: bytes) -> tuple[int, int, bytes]:
    """Width, height and the unpacked lines (filter bytes included) of a PNG."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    packed, at, size = b"", 8, (0, 0)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        size = struct.unpack(">2I", body[:8]) if kind == b"IHDR" else size
        packed += body if kind == b"IDAT" else b""
        at += length + 12
    return *size, zlib.decompress(packed)


def test_typing_survives_a_migration_and_leaving_restores_the_terminal(lab: Command) -> None:
    with Looker(lab) as looker:
        looker.read_until("grub>")
        looker.read_until("web on host1; Ctrl-] leaves")
        assert not termios.tcgetattr(looker.theirs)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        # What GRUB answers differs from what is typed, so that an echo cannot pass for it.
        looker.type(b"echo 'one   two'\\!  three\r")
        looker.read_until("\none   two! three")
        lab.ok("migrate", "web", "host2")
        looker.type(b'echo FOUR  "#5"\r')
        looker.read_until("\nFOUR #5")
        looker.read_until("web on host2; Ctrl-] leaves")
        looker.type(b'\x1b[A\x7f\x7f6"\r')
        looker.read_until("\nFOUR #6")
        refused = lab.run("screen", "web", "--text")
        refused.refused(5, "another command shows the screen of web", hint="Ctrl-]")
        assert looker.leave() == 0
        assert b"left the screen; web goes on" in looker.raw
        assert looker.raw.index(b"\x1b[?1049h") < looker.raw.rindex(b"\x1b[?1049l"), "the other screen is given back"
        assert termios.tcgetattr(looker.theirs) == looker.before
    lab.ok("migrate", "web", "host1")


def test_graphics_are_drawn_in_half_blocks(lab: Command) -> None:
    with Looker(lab) as looker:
        looker.read_until("grub>")
        looker.type(b"videotest 640x480x32\r")
        looker.read_until("▀" * 60)
        looker.read_until_gone("grub>")
        assert looker.leave() == 0
    said = lab.ok("screen", "web", "--json").json
    assert (said["width"], said["height"], said["text"]) == (640, 480, None)
    lab.run("screen", "web", "--text").refused(4, "shows no text that can be read", hint="--png")
    with Looker(lab) as looker:
        looker.read_until("▀" * 60)
        looker.type(b" ")  # the picture ends with any key
        looker.read_until("grub>")
        assert looker.leave() == 0


def test_a_small_terminal_shows_the_end_of_the_screen(lab: Command) -> None:
    with Looker(lab, columns=40, rows=6) as looker:
        looker.read_until("grub>")
        assert "GNU GRUB" not in looker.text
        looker.child.send_signal(signal.SIGTERM)
        assert looker.end() == 143
        assert termios.tcgetattr(looker.theirs) == looker.before


def test_what_cannot_be_shown_is_said(lab: Command) -> None:
    lab.run("screen", "blind", "--text").refused(4, "blind has no screen", hint="display: vga")
    lab.run("screen", "web").refused(4, "needs a terminal", hint="--text")
    lab.run("screen", "nobody", "--text").refused(2, "nobody")
    lab.run("screen", "web", "--png", "/nowhere/x.png").refused(2, "/nowhere/x.png", hint="--png")


def test_the_screen_ends_with_its_guest(lab: Command) -> None:
    with Looker(lab) as looker:
        looker.read_until("grub>")
        lab.ok("stop", "web", "--force")
        assert looker.end() == 0
        assert b"web has ended" in looker.raw
    lab.run("screen", "web", "--text").refused(4, "web does not run", hint="limosa start web")
