"""Placing a disk that boots by itself: what is refused, what is shared, what is copied."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from limosa.errors import LimosaError, MachineError, SpecError
from limosa.events import Events
from limosa.guest import library
from limosa.guest.library import Access, Entry
from limosa.guest.own_disk import access, origin, storage_files
from limosa.qemu import firmware
from limosa.spec.resolved import Disk, DiskImage, Guest
from limosa.storage.shelf import LocalShelf

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "storage").mkdir()


def qemu_img(*argv: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, argv)], check=True, stdout=subprocess.DEVNULL)


def disk(folder: Path, form: str = "qcow2", size: str = "4M") -> Path:
    path = folder / f"disk.{form}"
    qemu_img("create", "-q", "-f", form, path, size)
    return path


def guest(name: str, image: DiskImage | str, overlay: bool | None = None) -> Guest:
    made = Guest(name, "host1", disk=Disk("shared", f"{name}.raw", overlay=overlay))
    if isinstance(image, str):
        return msgspec.structs.replace(made, image=image)
    return msgspec.structs.replace(made, image="disk", disk_image=image)


async def placed(folder: Path, who: Guest) -> storage_files.Files:
    return await storage_files.place(LocalShelf(folder / "storage"), who, await origin.find(who, Events()))


async def test_two_guests_share_the_base_of_a_library_image_which_is_not_even_copied(tmp_path: Path) -> None:
    async with library.adding("alpine", Events()) as building:
        disk(building.directory)
        building.entry = Entry(disk="disk.qcow2", format="qcow2")
    found = [await placed(tmp_path, guest(name, "alpine")) for name in ("one", "two")]
    assert found[0].base == found[1].base and [f.disk for f in found] == ["one.qcow2", "two.qcow2"]
    entry = library.find("alpine")
    assert entry is not None and (tmp_path / "storage" / found[0].base).samefile(entry.disk_path)


async def test_a_file_of_the_users_is_copied_even_as_a_base(tmp_path: Path) -> None:
    path = disk(tmp_path)
    found = await placed(tmp_path, guest("one", DiskImage(path=str(path))))
    base = tmp_path / "storage" / found.base
    assert not base.samefile(path) and base.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("form", "overlay", "disk_name", "over"),
    [
        ("qcow2", None, "one.qcow2", True),
        ("qcow2", False, "one.raw", False),
        ("raw", None, "one.raw", False),
        ("raw", True, "one.qcow2", True),
    ],
)
async def test_overlay_or_copy(tmp_path: Path, form: str, overlay: bool | None, disk_name: str, over: bool) -> None:
    path = disk(tmp_path, form)
    image = DiskImage(path=str(path), format="raw" if form == "raw" else "qcow2")
    found = await placed(tmp_path, guest("one", image, overlay))
    assert (found.disk, bool(found.base)) == (disk_name, over)
    assert (tmp_path / "storage" / found.disk).exists()


async def test_a_disk_that_is_there_is_kept(tmp_path: Path) -> None:
    who = guest("one", DiskImage(path=str(disk(tmp_path, "raw")), format="raw"))
    found = await placed(tmp_path, who)
    (tmp_path / "storage" / found.disk).write_bytes(b"written by the guest")
    await placed(tmp_path, who)
    assert (tmp_path / "storage" / found.disk).read_bytes() == b"written by the guest"


async def refused(tmp_path: Path, image: DiskImage, kind: type[LimosaError], said: str) -> None:
    with pytest.raises(kind, match=said) as raised:
        await placed(tmp_path, guest("one", image))
    assert raised.value.hint and list((tmp_path / "storage").iterdir()) == []


async def test_a_format_that_lies(tmp_path: Path) -> None:
    await refused(tmp_path, DiskImage(path=str(disk(tmp_path)), format="raw"), SpecError, "but it is qcow2")
    await refused(tmp_path, DiskImage(path=str(disk(tmp_path, "raw"))), SpecError, "but it is raw")


async def test_a_part_of_a_disk(tmp_path: Path) -> None:
    part, secret = tmp_path / "part.qcow2", disk(tmp_path, "raw")
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, part)
    await refused(tmp_path, DiskImage(path=str(part)), SpecError, "it needs .*disk.raw")


async def test_a_disk_with_its_data_elsewhere(tmp_path: Path) -> None:
    part, data = tmp_path / "part.qcow2", tmp_path / "elsewhere"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={data}", part, "4M")
    await refused(tmp_path, DiskImage(path=str(part)), SpecError, "it needs .*elsewhere")


async def test_a_wrong_checksum(tmp_path: Path) -> None:
    await refused(tmp_path, DiskImage(path=str(disk(tmp_path)), sha256="0" * 64), LimosaError, "checksum")


async def test_a_disk_larger_than_its_storage(tmp_path: Path) -> None:
    image = DiskImage(path=str(disk(tmp_path, size="1000T")))
    await refused(tmp_path, image, MachineError, "its storage holds")


async def test_a_file_that_went_away(tmp_path: Path) -> None:
    await refused(tmp_path, DiskImage(path=str(tmp_path / "gone.qcow2")), SpecError, "does not exist")


def test_the_key_of_an_image_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    entry = Entry(disk="d", access=Access(key=str(tmp_path / "key"), host_keys=("ssh-ed25519 AAAA",)))
    who = msgspec.structs.replace(guest("one", "alpine"), address="10.77.1.101")
    (tmp_path / "keys").mkdir()
    access.place_login(tmp_path / "keys", who, entry)
    assert access.key_file(tmp_path / "keys", "one").stat().st_mode & 0o777 == 0o600
    assert access.known_hosts_file(tmp_path / "keys", "one").read_text() == "10.77.1.101 ssh-ed25519 AAAA\n"


def description(folder: Path, name: str, *features: str) -> None:
    for part in ("code", "vars"):
        (folder / f"{name}.{part}").write_bytes(b"x")
    described = {
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": {"filename": str(folder / f"{name}.code"), "format": "raw"},
            "nvram-template": {"filename": str(folder / f"{name}.vars"), "format": "raw"},
        },
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": list(features),
    }
    (folder / f"{name}.json").write_bytes(msgspec.json.encode(described))


def test_the_first_fitting_firmware_is_taken(tmp_path: Path) -> None:
    description(tmp_path, "40-secure", "secure-boot", "requires-smm")
    description(tmp_path, "60-plain", "acpi-s3")
    (tmp_path / "10-broken.json").write_text("{")
    assert firmware.uefi([tmp_path]).code == tmp_path / "60-plain.code"


def test_no_firmware_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as raised:
        firmware.uefi([tmp_path, tmp_path / "nowhere"])
    assert "ovmf" in raised.value.hint
