"""What an Alpine medium says of itself, how it is started, and which mirror the machine to be installed can reach."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pycdlib
import pytest

from limosa import tasks
from limosa.errors import LimosaError, MachineError, SpecError
from limosa.events import Events
from limosa.guest.installer import Console, Prompt, Step, Surprise, alpine, alpine_image, alpine_medium, iso, speaker
from limosa.guest.installer.alpine_medium import Mirror, Source
from limosa.guest.installer.display import Display
from limosa.guest.installer.installation import Installation, Request
from tests.unit.console_program import program

CONFIGURATION = """\
SERIAL 0 115200
TIMEOUT 10
PROMPT 1
DEFAULT {flavour}

LABEL {flavour}
\tMENU LABEL Linux {flavour}
\tKERNEL /boot/vmlinuz-{flavour}
\tINITRD /boot/initramfs-{flavour}
\tFDTDIR /boot/dtbs-{flavour}
\tAPPEND modules=loop,squashfs,sd-mod,usb-storage quiet {more}
"""
LOUD = "console=tty0 console=ttyS0,115200"
STANDARD = ("alpine-base-3.20.3-r0", "openssh-9.7_p1-r4", "e2fsprogs-1.47.0-r5", "ca-certificates-bundle-20240705-r0")
EXTENDED = (*STANDARD, "sfdisk-2.40.1-r1", "syslinux-6.04_pre1-r15", "linux-virt-6.6.49-r0", "linux-lts-6.6.49-r0")
"""As in Alpine's scripts/mkimg.*.sh, shortened."""


def made(path: Path, label: str, *, flavour: str = "virt", more: str = "", packages: tuple[str, ...] = ()) -> Path:
    """An ISO laid out as Alpine's, with names instead of contents."""
    medium = pycdlib.PyCdlib()
    medium.new(rock_ridge="1.09", vol_ident=label)
    for folder in ("BOOT", "BOOT/SYSLINUX", "APKS", "APKS/X86_64"):
        medium.add_directory(f"/{folder}", rr_name=folder.rpartition("/")[2].lower())
    configuration = CONFIGURATION.format(flavour=flavour, more=more)
    files = [(f"BOOT/{name}", name, name * 100) for name in ("System.map-lts", f"initramfs-{flavour}")]
    files += [("BOOT", f"vmlinuz-{flavour}", f"vmlinuz-{flavour}"), ("BOOT/SYSLINUX", "syslinux.cfg", configuration)]
    files += [("APKS/X86_64", f"{name}.apk", name) for name in packages]
    for number, (folder, name, text) in enumerate(files):
        where = folder.removesuffix(f"/{name}")
        medium.add_fp(BytesIO(text.encode()), len(text), f"/{where}/F{number}.;1", rr_name=name)
    medium.write(str(path))
    medium.close()
    return path


def other(path: Path, label: str, info: str) -> Path:
    """An ISO of another system, which says what it is as Debian's do."""
    medium = pycdlib.PyCdlib()
    medium.new(rock_ridge="1.09", vol_ident=label)
    medium.add_directory("/DISK", rr_name=".disk")
    for short, name, text in (("DISK/INFO", "info", info), ("README", "README", "read me")):
        medium.add_fp(BytesIO(text.encode()), len(text), f"/{short}.;1", rr_name=name)
    medium.write(str(path))
    medium.close()
    return path


def volume(path: Path, label: str, blocks: int, there: int) -> Path:
    """A file with an ISO 9660 volume descriptor that says *blocks*, of which *there* are there."""
    data = bytearray(there * 2048)
    data[16 * 2048 : 16 * 2048 + 6] = b"\x01CD001"
    data[16 * 2048 + 40 : 16 * 2048 + 72] = label.encode().ljust(32)
    data[16 * 2048 + 80 : 16 * 2048 + 84] = blocks.to_bytes(4, "little")
    data[16 * 2048 + 128 : 16 * 2048 + 130] = (2048).to_bytes(2, "little")
    path.write_bytes(data)
    return path


def test_what_a_medium_says_of_itself(tmp_path: Path) -> None:
    medium = iso.examine(volume(tmp_path / "a.iso", "alpine-virt 3.15.4 x86_64", 20, 20))
    assert iso.alpine(tmp_path / "a.iso", medium) == iso.Alpine(version="3.15.4", known=True)
    with pytest.raises(LimosaError, match="cut off: 36864 of 40960 bytes"):
        iso.examine(volume(tmp_path / "b.iso", "alpine", 20, 18))
    (tmp_path / "c.iso").write_bytes(b"x" * 50_000)
    for name, why in (("c.iso", "is no ISO image"), ("none.iso", "cannot be read")):
        with pytest.raises(SpecError, match=why):
            iso.examine(tmp_path / name)


@pytest.mark.parametrize(
    ("label", "name", "version"),
    [
        ("alpine-std 3.23.0 x86_64", "x.iso", "3.23.0"),
        ("alpine-ext 3.8.0 x86_64", "alpine-extended-3.8.0-x86_64.iso", "3.8.0"),
        # A release candidate's label leaves out that it is one.
        ("alpine-virt 3.20.0 x86_64", "alpine-virt-3.20.0_rc1-x86_64.iso", "3.20.0_rc1"),
        ("alpine-virt 3.20.0 x86_64", "alpine-virt-3.19.0-x86_64.iso", "3.20.0"),
        ("alpine-virt 20250108 x86_64", "x.iso", "20250108"),
        ("ALPINE", "alpine-virt-3.15.4-x86_64.iso", "3.15.4"),
        ("alpine-virt x86_64", "x.iso", ""),
        ("Debian 12.5.0", "debian-12.5.0-amd64.iso", ""),
    ],
)
def test_the_release_on_a_medium(tmp_path: Path, label: str, name: str, version: str) -> None:
    path = volume(tmp_path / name, label, 20, 20)
    assert iso.alpine(path, iso.examine(path)).version == version


def test_the_folder_of_a_release() -> None:
    branches = [alpine.branch(version) for version in ("3.15.4", "3.20", "3.20.0_rc1", "20250108", "edge")]
    assert branches == ["v3.15", "v3.20", "v3.20", "edge", "edge"]
    for version in ("3.15.4", "3.15", "3.20.0_rc1", "20250108", "edge", ""):
        alpine_medium.check_version(version)
    for version in ("three", "3", "3.15.4.1", "v3.15", "latest", "3.15/../x"):
        with pytest.raises(SpecError, match="no Alpine release"):
            alpine_medium.check_version(version)


def test_the_kernel_of_a_medium_is_found(tmp_path: Path) -> None:
    found = iso.kernel(made(tmp_path / "a.iso", "alpine-virt 3.15.4 x86_64"), tmp_path)
    assert found is not None
    assert [path.read_bytes()[:12] for path in found] == [b"vmlinuz-virt", b"initramfs-vi"]
    volume(tmp_path / "b.iso", "alpine", 20, 20)
    assert iso.kernel(tmp_path / "b.iso", tmp_path) is None


def installation_of(path: Path, folder: Path) -> Installation:
    holds = iso.alpine(path, iso.examine(path))
    source = Source(path=path, version=holds.version, holds=holds, provenance={})
    return alpine_image._installation(Request(), source, Mirror(), "alpine", folder, Events())


def test_a_medium_whose_kernel_speaks_is_started_as_it_is(tmp_path: Path) -> None:
    wanted = installation_of(made(tmp_path / "a.iso", "alpine-virt 3.15.4 x86_64", more=LOUD), tmp_path)
    assert wanted.installer.kernel is None
    assert wanted.provenance["started"] == "its boot loader"
    # Should its kernel panic, it is started with the same words and one more.
    assert wanted.again is not None
    again = wanted.again(tmp_path)
    assert again is not None
    assert again.append == (
        "BOOT_IMAGE=/boot/vmlinuz-virt modules=loop,squashfs,sd-mod,usb-storage quiet "
        "console=tty0 console=ttyS0,115200 no_timer_check"
    )


@pytest.mark.parametrize("flavour", ["virt", "lts"])
def test_a_medium_whose_kernel_is_silent_is_made_to_speak(tmp_path: Path, flavour: str) -> None:
    path = made(tmp_path / "a.iso", "alpine-virt 3.21.3 x86_64", flavour=flavour, more="nomodeset")
    wanted = installation_of(path, tmp_path)
    assert wanted.installer.kernel is not None
    assert wanted.installer.kernel.read_bytes() == f"vmlinuz-{flavour}".encode()
    assert wanted.installer.iso == path
    assert wanted.installer.append == (
        f"BOOT_IMAGE=/boot/vmlinuz-{flavour} modules=loop,squashfs,sd-mod,usb-storage quiet nomodeset "
        "console=tty0 console=ttyS0,115200 no_timer_check"
    )


def test_a_medium_of_another_kind_is_left_to_its_boot_loader(tmp_path: Path) -> None:
    wanted = installation_of(volume(tmp_path / "a.iso", "alpine-mine 3.21.3 x86_64", 20, 20), tmp_path)
    assert wanted.installer.kernel is None


def test_a_medium_without_what_a_disk_needs_wants_a_mirror(tmp_path: Path) -> None:
    # One made in another way may name its kernel's package otherwise: it is tried.
    mine = (*STANDARD, "sfdisk-2.40.1-r1", "syslinux-6.04_pre1-r15", "linux-amd64-6.1.90-r0")
    for name, packages in (("standard", STANDARD), ("extended", EXTENDED), ("mine", mine), ("unknown", ())):
        path = made(tmp_path / f"{name}.iso", "MINE", packages=packages)
        source = Source(path=path, version="3.20.3", holds=iso.alpine(path, iso.examine(path)), provenance={})
        # Where neither label nor name says the release, its base package does.
        assert source.holds.version == ("3.20.3" if packages else "")
        alpine_medium.check_enough(source, Mirror(url=alpine.MIRROR))
        if name != "standard":
            alpine_medium.check_enough(source, Mirror())
            continue
        with pytest.raises(
            MachineError, match=r"\(sfdisk, syslinux, linux-virt\), and .* fetch it from: nobody answers"
        ) as caught:
            alpine_medium.check_enough(source, Mirror(why="nobody answers"))
        assert "alpine-extended" in (caught.value.hint or "")


async def test_the_release_that_is_asked_for_has_to_be_the_one_on_the_iso(tmp_path: Path) -> None:
    path = made(tmp_path / "a.iso", "alpine-virt 3.20.3 x86_64")
    for version in ("", "3.20", "3.20.3"):
        source = await alpine_medium.medium(Request(iso=path, version=version), Events())
        assert source.version == (version or "3.20.3")
    with pytest.raises(SpecError, match=r"holds Alpine 3\.20\.3, not 3\.18"):
        await alpine_medium.medium(Request(iso=path, version="3.18"), Events())
    with pytest.raises(SpecError, match="does not say which Alpine"):
        await alpine_medium.medium(Request(iso=made(tmp_path / "b.iso", "MINE")), Events())


async def test_a_medium_of_another_system_is_refused_whatever_its_file_is_called(tmp_path: Path) -> None:
    """With its label and what it says of itself."""
    path = other(tmp_path / "alpine-virt-3.20.3-x86_64.iso", "Debian 12.5.0 amd64 n", "Debian GNU/Linux 12.5.0")
    for version in ("", "3.20.3"):
        with pytest.raises(SpecError, match=r"holds no Alpine: its label is 'Debian 12\.5\.0 amd64 n'") as caught:
            await alpine_medium.medium(Request(iso=path, version=version), Events())
        assert "on it is 'Debian GNU/Linux 12.5.0'" in caught.value.message
    path = other(tmp_path / "b.iso", "", "")
    with pytest.raises(SpecError, match=r"it has no label, and on it is \.disk, README"):
        await alpine_medium.medium(Request(iso=path), Events())
    # Made in another way, with Alpine's packages on it, it is one.
    path = made(tmp_path / "c.iso", "MINE")
    assert iso.alpine(path, iso.examine(path)).known


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_checksum_beside_the_iso_has_to_be_its_own(tmp_path: Path, algorithm: str) -> None:
    path = made(tmp_path / "alpine-virt-3.20.3-x86_64.iso", "alpine-virt 3.20.3 x86_64")
    beside = path.with_name(f"{path.name}.{algorithm}")
    beside.write_text(f"{hashlib.new(algorithm, path.read_bytes()).hexdigest()}  {path.name}\n")
    source = await alpine_medium.medium(Request(iso=path), Events())
    assert source.provenance["iso_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    for said in (beside.read_text().replace(beside.read_text()[0], "x"), f"{'0' * 64}  {path.name}\n", ""):
        beside.write_text(said)
        with pytest.raises(LimosaError, match=rf"is not what {path.name}.{algorithm} beside it says"):
            await alpine_medium.medium(Request(iso=path), Events())


LISTED = """\
---
-
  title: "Standard"
  branch: {branch}
  iso: alpine-standard-{version}-x86_64.iso
  version: {version}
-
  title: "Virtual"
  iso: alpine-virt-{version}-x86_64.iso
"""


class Loopback(http.server.ThreadingHTTPServer):
    """A mirror on loopback that has a few files; asked as a proxy, for a whole address, it has the same."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Loopback

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = self.path.removeprefix("http://mirror.invalid")
        releases = {"latest-stable": "3.23.0", "v3.20": "3.20.3", "edge": "20250108"}
        text = {
            f"/{b}/releases/x86_64/latest-releases.yaml": LISTED.format(branch=b, version=v)
            for b, v in releases.items()
        }
        text["/v3.20/main/x86_64/APKINDEX.tar.gz"] = "index"
        body = text.get(path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    with Loopback() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_a_release_without_its_last_number_is_the_newest_of_its_branch(loopback: Loopback) -> None:
    for branch, version in (("latest-stable", "3.23.0"), ("v3.20", "3.20.3"), ("edge", "20250108")):
        assert await alpine_medium._newest(loopback.url, branch) == version
    with pytest.raises(SpecError, match="the server has no"):
        await alpine_medium._newest(loopback.url, "v3.99")


async def test_a_mirror_on_this_machine_has_another_name_in_the_machine_to_be_installed(loopback: Loopback) -> None:
    for host in ("127.0.0.1", "localhost"):
        mirror = await alpine_medium.reachable(f"http://{host}:{loopback.server_port}/", "3.20.3")
        assert mirror == Mirror(url=f"http://10.0.2.2:{loopback.server_port}", passing=True)
    assert await alpine_medium.reachable(loopback.url, "3.99.0") == Mirror(
        why=f"{loopback.url} cannot be reached (it answered 404)"
    )


async def test_a_mirror_behind_a_proxy(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", loopback.url + "/")
    mirror = await alpine_medium.reachable("http://mirror.invalid", "3.20.3")
    assert mirror == Mirror(url="http://mirror.invalid", proxy=f"http://10.0.2.2:{loopback.server_port}")
    assert loopback.asked == ["http://mirror.invalid/v3.20/main/x86_64/APKINDEX.tar.gz"]
    monkeypatch.setenv("no_proxy", "mirror.invalid")
    assert (await alpine_medium.reachable("http://mirror.invalid", "3.20.3")).url == ""
    monkeypatch.delenv("no_proxy")
    # Its password would be typed on a console that is recorded.
    monkeypatch.setenv("http_proxy", loopback.url.replace("//", "//me:secret@"))
    assert (await alpine_medium.reachable("http://mirror.invalid", "3.20.3")).url == ""
    assert len(loopback.asked) == 1


async def test_alpines_own_mirror_is_asked_without_tls_when_certificates_are_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody on the way who replaces certificates cannot be made here without a CA, so the asking is a fake."""
    asked = list[str]()

    async def why_not(url: str, proxy: str) -> str:
        asked.append(f"{url.partition(':')[0]} {proxy}".strip())
        return "certificate verify failed" if url.startswith("https:") else ""

    monkeypatch.setattr(alpine_medium, "_why_not", why_not)
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    mirror = await alpine_medium.reachable(alpine.MIRROR, "3.20.3")
    assert mirror == Mirror(url="http://dl-cdn.alpinelinux.org/alpine")
    assert asked == ["https", "https http://proxy:3128", "http"]
    # Another's is taken as it was named.
    assert (await alpine_medium.reachable("https://mirror.invalid", "3.20.3")).url == ""


class Still(Display):
    """A screen that shows one picture."""

    def __init__(self, text: str) -> None:
        self._text, self.seen = text, asyncio.Event()

    async def lines(self) -> tuple[str, ...]:
        self.seen.set()
        return tuple(self._text.splitlines())


def free() -> asyncio.Event:
    """Nobody has the serial console."""
    event = asyncio.Event()
    event.set()
    return event


async def test_a_kernel_that_gives_up_on_the_screen_alone_is_heard(tmp_path: Path) -> None:
    panic = "[    0.4] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug"
    step = Step("boot the ISO", (*alpine.NOT_BOOTED,), 60)
    async with program("input()", tmp_path) as console:
        assert isinstance(console, Console)
        with pytest.raises(Surprise, match=r"the kernel gave up \(Kernel panic .* timer doesn't work") as caught:
            await speaker._asks(Still(f"SeaBIOS\n{panic}"), step, console, free())
    assert caught.value.screen.endswith(panic)


async def test_what_both_consoles_say_is_heard_on_the_serial_one(tmp_path: Path) -> None:
    """There a person may have taken it over."""
    said = "Boot failed: Could not read from CDROM (code 0009)"
    step = Step("boot the ISO", (*alpine.NOT_BOOTED,), 60)
    async with program(f"print({said!r}, flush=True); input()", tmp_path) as console:
        while said not in console.text:
            await console.wait_news(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(speaker._asks(Still(said), step, console, free()), 0.3)


async def test_while_a_person_has_the_serial_console_the_screen_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would take the machine out of their hands, since its login stands there all the time."""
    monkeypatch.setattr(speaker, "LOOK_S", 0.01)
    monkeypatch.setattr(speaker, "GRACE_S", 0.05)
    step = Step("boot the ISO", (Prompt("login", alpine.LOGIN, ends=True),), 60)
    looked, held = Still("localhost login: "), asyncio.Event()
    async with (
        program("input()", tmp_path) as console,
        tasks.beside(speaker._asks(looked, step, console, held)) as (watching,),
    ):
        await looked.seen.wait()
        assert not (await asyncio.wait([watching], timeout=0.5))[0]
        held.set()
        await asyncio.wait_for(watching, 30)
