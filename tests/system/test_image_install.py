"""``limosa image install`` by its command line: real QEMUs, media that do not serve, mirrors that fail, a person."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import pty
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pycdlib
import pytest

from tests.limosa_command import Command, fresh
from tests.tiny_linux import initramfs, tiny_linux

pytestmark = pytest.mark.system


@pytest.fixture
def limosa(tmp_path: Path) -> Command:
    home = fresh(tmp_path / "s")
    (tmp_path / "tmp").mkdir()
    return Command(home.home, environment={"XDG_CACHE_HOME": str(tmp_path / "c"), "TMPDIR": str(tmp_path / "tmp")})


@pytest.fixture
def no_system(tmp_path: Path) -> Path:
    """A whole ISO, labelled as Alpine's is, on which nothing boots."""
    medium = pycdlib.PyCdlib()
    medium.new(vol_ident="alpine-virt 3.15.4 x86_64")
    text = b"nothing to boot\n"
    medium.add_fp(BytesIO(text), len(text), "/README.;1")
    path = tmp_path / "alpine-virt-3.15.4-x86_64.iso"
    medium.write(str(path))
    medium.close()
    return path


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a web server on loopback, and the folder of the release that it has."""
    folder = tmp_path / "mirror/v3.15/releases/x86_64"
    folder.mkdir(parents=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "mirror")) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def machines(command: Command) -> list[Path]:
    """Our QEMUs: those whose command line names the test's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"limosa-install" in line and os.fsencode(command.home.parent) in line:
            found.append(entry)
    return found


def assert_nothing_left(command: Command) -> None:
    """No machine, and nothing in the library, nor where temporary files are."""
    end = time.monotonic() + 3
    while machines(command) and time.monotonic() < end:
        time.sleep(0.02)
    assert not machines(command)
    images = command.home.parent / "c/limosa/images"
    assert left(images) == left(command.home.parent / "tmp") == []


def test_an_iso_that_does_not_boot(limosa: Command, no_system: Path) -> None:
    started = time.monotonic()
    done = limosa.run("image", "install", "alpine", "--iso", str(no_system), "--offline", "--step-limit", "60s")
    done.refused(1, "stopped at “boot the ISO”: nothing there boots (Boot failed", hint="console.txt")
    assert time.monotonic() - started < 40, "it waited for the time limit"
    assert "  | Boot failed" in done.errors
    assert_nothing_left(limosa)
    transcripts = sorted((limosa.state / "installs").glob("alpine-3.15.4-*/*"))
    assert [path.name for path in transcripts] == ["console.cast", "console.txt"]
    assert "Boot failed" in transcripts[1].read_text()
    assert transcripts[0].read_text().startswith('{"version": 2')


MEDIUM = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
# As Alpine's initramfs does it: a login for each console of the command line, and the last is the system's.
exec </dev/console >/dev/console 2>&1
echo "consoles $(cat /sys/class/tty/console/active), words $(cat /proc/cmdline)"
printf "\\nWelcome to Alpine Linux\\n\\nlocalhost login: "; read name
echo "$name is here"
poweroff -f
"""
SILENT = b"""\
DEFAULT lts

LABEL lts
\tKERNEL /boot/vmlinuz-lts
\tAPPEND modules=loop,squashfs,sd-mod,usb-storage quiet
"""


def silent_medium(folder: Path, init: str) -> Path:
    """A medium laid out as Alpine's with a small Linux that carries out *init*."""
    linux, why = tiny_linux()
    if linux is None:
        pytest.skip(why)
    medium = pycdlib.PyCdlib()
    medium.new(rock_ridge="1.09", vol_ident="alpine-std 3.22.1 x86_64")
    for name in ("boot", "boot/syslinux"):
        medium.add_directory(f"/{name.upper()}", rr_name=name.rpartition("/")[2])
    initrd = initramfs(linux.busybox, init)
    files = {"BOOT/A vmlinuz-lts": linux.kernel.read_bytes(), "BOOT/B initramfs-lts": initrd}
    for name, content in {**files, "BOOT/SYSLINUX/C syslinux.cfg": SILENT}.items():
        short, _, long = name.partition(" ")
        medium.add_fp(BytesIO(content), len(content), f"/{short}.;1", rr_name=long)
    path = folder / "alpine-standard-3.22.1-x86_64.iso"
    medium.write(str(path))
    medium.close()
    return path


def test_a_medium_whose_kernel_is_silent_is_heard(limosa: Command, tmp_path: Path) -> None:
    """As alpine-standard is, and alpine-virt since 3.2x: its configuration names no serial console."""
    path = silent_medium(tmp_path, MEDIUM)
    done = limosa.run("image", "install", "alpine", "--iso", str(path), "--offline", timeout_s=180)
    done.refused(1, "stopped at “log in”: the machine ended")
    (said,) = (limosa.state / "installs").glob("alpine-3.22.1-*/console.txt")
    text = said.read_text()
    assert "consoles tty0 ttyS0, words BOOT_IMAGE=/boot/vmlinuz-lts modules=loop,squashfs,sd-mod" in text
    assert "no_timer_check" in text
    assert "root is here" in text
    assert_nothing_left(limosa)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_says_what_is_left(limosa: Command, no_system: Path, number: int, code: int) -> None:
    disk = limosa.home.parent / "c/limosa/images/.alpine-3.15.4.building/disk.raw"
    child = limosa.begin("image", "install", "alpine", "--iso", str(no_system), "--offline")
    end = time.monotonic() + 60
    while not (machines(limosa) and disk.exists()) and time.monotonic() < end:
        time.sleep(0.01)
    # Another installation's folder is not swept while that one lives. It stands still meanwhile, as on a busy machine
    # it would have ended by itself: nothing boots there.
    child.send_signal(signal.SIGSTOP)
    limosa.ok("image", "list")
    kept = disk.exists()
    child.send_signal(number)
    child.send_signal(signal.SIGCONT)
    _, errors = child.communicate(timeout=60)
    assert kept
    text = errors.decode() if isinstance(errors, bytes) else errors
    assert child.returncode == code, text
    assert "the installation of Alpine 3.15.4 was interrupted; its disk is gone, and no image was made" in text
    (transcript,) = (limosa.state / "installs").glob("*/console.txt")
    assert str(transcript) in text and "the same command begins it anew" in text
    assert not machines(limosa)
    assert left(limosa.home.parent / "c/limosa/images") == []
    assert left(limosa.home.parent / "tmp") == []


def test_a_command_that_is_killed_takes_its_machine_along(limosa: Command, no_system: Path, tmp_path: Path) -> None:
    # A medium that boots something else would do; this one is caught while its firmware runs.
    child = limosa.begin("image", "install", "alpine", "--iso", str(no_system), "--offline")
    end = time.monotonic() + 30
    while not machines(limosa) and time.monotonic() < end:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)
    end = time.monotonic() + 30
    while machines(limosa) and time.monotonic() < end:
        time.sleep(0.02)
    assert not machines(limosa)
    # What it left is swept by the next that can know that nobody is at it any more, and by no other.
    images = limosa.home.parent / "c/limosa/images"
    mine = tmp_path / "tmp/limosa-mine.tmp"
    mine.mkdir()
    assert left(images) == [".alpine-3.15.4.building", ".alpine-3.15.4.lock"] and left(tmp_path / "tmp")[1:]
    limosa.ok("image", "list")
    assert (left(images), left(tmp_path / "tmp")) == ([], [mine.name])
    mine.rmdir()
    done = limosa.run("image", "install", "alpine", "--iso", str(no_system), "--offline", "--step-limit", "60s")
    done.refused(1, "nothing there boots")
    assert_nothing_left(limosa)


def test_media_and_mirrors_that_do_not_serve(limosa: Command, no_system: Path, mirror: tuple[str, Path]) -> None:
    url, folder = mirror
    install = ("image", "install", "alpine")
    cut = no_system.with_name("cut.iso")
    cut.write_bytes(no_system.read_bytes()[:40_000])
    limosa.run(*install, "--iso", str(cut)).refused(1, "is cut off", hint="download it again")
    limosa.run(*install, "--iso", str(no_system), "--sha256", "0" * 64).refused(1, "is not what --sha256 says")
    limosa.run(*install, "--iso", "/etc/hostname").refused(2, "shorter than any ISO")
    from_mirror = (*install, "--mirror", url, "--version", "3.15.4")
    limosa.run(*from_mirror).refused(2, "the server has no", hint="check the version")
    # A checksum that does not fit, then a mirror that is right.
    (folder / no_system.name).write_bytes(no_system.read_bytes())
    (folder / f"{no_system.name}.sha256").write_text("0" * 64 + f"  {no_system.name}\n")
    limosa.run(*from_mirror).refused(1, "is not what its checksum says", hint="another mirror")
    digest = hashlib.sha256(no_system.read_bytes()).hexdigest()
    (folder / f"{no_system.name}.sha256").write_text(f"{digest}  {no_system.name}\n")
    limosa.run(*from_mirror, "--step-limit", "60s").refused(1, "nothing there boots")
    downloads = limosa.home.parent / "c/limosa/downloads"
    assert (downloads / no_system.name).read_bytes() == no_system.read_bytes()
    assert not list(downloads.glob("*.part"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        gone = limosa.run(*install, "--mirror", nobody, "--version", "3.18.0")
    gone.refused(3, "cannot be reached", hint="check the network")


def test_a_disk_that_fills_up_ends_it_at_once(limosa: Command, no_system: Path, tmp_path: Path) -> None:
    """QEMU stops a machine whose disk cannot be written, and would stand there until the step's deadline."""
    unshare = ("unshare", "--user", "--map-root-user", "--mount")
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine permits no user namespace, so no small disk can be mounted")
    images = tmp_path / "c/limosa/images"
    images.mkdir(parents=True)
    mounted = ("sh", "-c", f'mount -t tmpfs -o size=6m small "{images}" && exec "$@"', "sh")
    small = dataclasses.replace(limosa, prefix=(*unshare, *mounted))
    started = time.monotonic()
    done = small.run("image", "install", "alpine", "--iso", str(no_system), "--offline")
    done.refused(3, "no space left for disk.raw", hint="XDG_CACHE_HOME")
    assert time.monotonic() - started < 40, "it waited for the time limit"
    assert not machines(limosa)


def test_nonsense_is_refused(limosa: Command, no_system: Path) -> None:
    install = ("image", "install")
    limosa.run(*install, "windows").refused(2, "'windows' is none of alpine, debian", hint="limosa image install -h")
    iso = (*install, "alpine", "--iso", str(no_system))
    limosa.run(*install, "alpine", "--version", "three").refused(2, "no Alpine release")
    limosa.run(*iso, "--name", "../x").refused(2, "cannot be the name of an image")
    limosa.run(*iso, "--size", "10MiB").refused(2, "too small for Alpine")
    limosa.run(*iso, "--size", "many").refused(2, "--size: 'many' is not a size", hint="--size '2 GiB'")
    limosa.run(*iso, "--step-limit", "0s").refused(2, "--step-limit: '0s' is less than 1 s")
    limosa.run(*iso, "--ssh-key", "/etc/hostname").refused(2, "is no public SSH key")
    limosa.run(*iso, "--attach").refused(4, "--attach needs a terminal")
    limosa.run(*iso, "--password-ask").refused(4, "--password-ask needs a terminal")
    limosa.run(*iso, "--step-limit", "0s").refused(2, "--step-limit", "is less than 1 s")
    limosa.run(*install, "debian", "--version", "12").refused(2, "installed from its mirror")
    limosa.run(*install, "debian", "--mirror", "ftp://x").refused(2, "is no mirror")
    assert not machines(limosa)


def test_a_person_may_take_over_and_give_up(limosa: Command, no_system: Path) -> None:
    with attached(limosa, no_system) as (child, master):
        seen = _until(master, "Ctrl-] gives it back")
        assert "nothing there boots" in seen
        _until(master, "Boot failed")
        time.sleep(0.2)
        os.write(master, b"\x1d")
        _until(master, "go on with the script?")
        os.write(master, b"n")
        seen = _until(master, "hint:")
        assert "limosa: the installation stopped" in seen
        assert child.wait(timeout=10) == 1
    assert_nothing_left(limosa)


@contextlib.contextmanager
def attached(limosa: Command, iso: Path, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """An installation at a terminal of a person, and the person's end of that terminal."""
    argv = limosa.argv("image", "install", "alpine", "--iso", str(iso), "--offline", "--attach", *more)
    master, slave = pty.openpty()
    child = subprocess.Popen(
        argv, stdin=slave, stdout=slave, stderr=slave, env=limosa.env(), cwd=limosa.home, start_new_session=True
    )
    os.close(slave)
    try:
        yield child, master
    finally:
        child.kill()
        child.wait()
        os.close(master)


LIVE = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
mount -t proc none /proc
exec </dev/console >/dev/console 2>&1
printf "initramfs emergency recovery shell launched\\n~ # "; read line
printf "\\nWelcome to Alpine Linux\\n\\nlocalhost login: "; read name
while printf "localhost:~# "; read -r line; do
    case $line in
        setup-alpine) printf "Enter where to store configs ('floppy' or 'none') [none]: "; read where ;;
        *limosa-hostkey*) echo "limosa-hostkey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPerson"; echo limosa-exit=0 ;;
        *limosa-*exit*) echo limosa-exit=0 ;;
        poweroff) poweroff -f ;;
        *) echo "a person typed $line" ;;
    esac
done
"""


def test_what_a_person_did_is_gone_on_with(limosa: Command, tmp_path: Path) -> None:
    """They log in at the medium's boot, mend the setup, and switch the machine off themselves: the keys are put on the
    disk by the medium started anew, and the disk is looked at by itself. It is a stand-in, which is seen then."""
    path = silent_medium(tmp_path, LIVE)
    with attached(limosa, path, "--as-a-person") as (child, master):
        _until(master, "Ctrl-] gives it back", 120)
        os.write(master, b"exit\r")
        _until(master, "localhost login: ")
        os.write(master, b"root\r")
        _until(master, "localhost:~# ")
        _give_back(master)
        seen = _until(master, "Ctrl-] gives it back")
        assert "setup-alpine" in seen and "the disk was not installed (Enter where to store configs" in seen
        os.write(master, b"none\r")
        _until(master, "localhost:~# ")
        # In place of a system: a boot sector that asks the firmware for another device.
        with (tmp_path / "c/limosa/images/.alpine-3.22.1.building/disk.raw").open("r+b") as disk:
            disk.write(b"\xcd\x18".ljust(510, b"\0") + b"\x55\xaa")
        os.write(master, b"poweroff\r")
        _until(master, "the machine is off: go on with what is on its disk? [Y/n]")
        os.write(master, b"\r")
        seen = _until(master, "Ctrl-] gives it back", 120)
        assert "started again for what is left to do" in seen
        os.write(master, b"exit\r")
        _until(master, "localhost login: ")
        _give_back(master)
        seen = _until(master, "Ctrl-] gives it back", 120)
        assert "write everything to the disk" in seen and "stopped at “login on the serial console”" in seen
        assert "nothing there boots" in seen
        _give_back(master, answer=b"n")
        _until(master, "hint:")
        assert child.wait(timeout=10) == 1
    assert_nothing_left(limosa)


def _give_back(master: int, answer: bytes = b"\r") -> None:
    os.write(master, b"\x1d")
    _until(master, "go on with the script? [Y/n]")
    os.write(master, answer)


def _until(master: int, text: str, within_s: float = 40) -> str:
    """What the terminal has shown up to *text*; what is behind it stays for the next, which may be there already."""
    seen, end = b"", time.monotonic() + within_s
    while text.encode() not in seen:
        assert time.monotonic() < end, seen.decode(errors="replace")
        if select.select([master], [], [], 0.2)[0]:
            seen += os.read(master, 1)
    return seen.decode(errors="replace")
