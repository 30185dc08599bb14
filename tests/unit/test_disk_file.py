"""The one door to disk files: what is let in, what is refused, and that nothing on the way follows what a file says."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Literal

import pytest

from limosa.errors import LimosaError, SpecError
from limosa.guest import root_disk
from limosa.qemu import argv
from limosa.qemu.argv import DiskFile
from limosa.spec.resolved import Disk, Guest
from limosa.storage import disk_file
from limosa.storage.disk_file import Claim, Head
from limosa.storage.shelf import HostShelf, LocalShelf, Shelf
from tests.local_host import LocalHost

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")

SECRET = b"what nobody else may read\n" * 40000


def qemu_img(*argv: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, argv)], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


@pytest.fixture(params=["here", "host"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    folder = tmp_path / "storage"
    folder.mkdir()
    return LocalShelf(folder) if request.param == "here" else HostShelf(LocalHost(str(tmp_path)), str(folder))


def overlaid(folder: Path, base: str) -> Path:
    """A qcow2 file whose header names *base*, whatever that is."""
    path = folder / "overlaid.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", base, path, "1M")
    return path


def data_elsewhere(folder: Path) -> Path:
    path = folder / "elsewhere.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={folder}/private,data_file_raw=on", path, "1M")
    return path


def plain(folder: Path, *options: str) -> Path:
    path = folder / "plain.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", *options, path, "4M")
    return path


def said(path: Path, form: Literal["raw", "qcow2"] = "qcow2") -> Claim:
    return Claim(path=path, format=form, key="guests.g.disk.source")


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-o", "compat=0.10"),
        ("-o", "cluster_size=512"),
        ("-o", "cluster_size=2M"),
        ("-o", "extended_l2=on,cluster_size=128k"),
        ("-o", "lazy_refcounts=on"),
        ("-o", "preallocation=metadata"),
    ],
    ids=str,
)
def test_every_whole_qcow2_is_let_in(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert disk_file.inspect(said(plain(tmp_path, *options))) == disk_file.DiskFacts("qcow2", 4 << 20)


def test_snapshots_within_the_file_are_its_own(tmp_path: Path) -> None:
    path = plain(tmp_path)
    qemu_img("snapshot", "-c", "one", path)
    assert disk_file.inspect(said(path)).virtual_bytes == 4 << 20


@pytest.mark.parametrize(
    "base",
    [
        "/etc/shadow",
        "relative",
        'json:{{"driver":"raw","file":{{"driver":"file","filename":"{secret}"}}}}',
        "nbd:127.0.0.1:10809",
        "fat:/etc",
    ],
)
def test_a_base_is_refused_however_it_is_named(tmp_path: Path, secret: Path, base: str) -> None:
    named = base.format(secret=secret) if base.startswith("json") else base
    with pytest.raises(SpecError, match="is only a part") as raised:
        disk_file.inspect(said(overlaid(tmp_path, named)))
    assert raised.value.message.startswith("guests.g.disk.source: ") and "-f qcow2" in raised.value.hint


def test_data_elsewhere_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"it needs {tmp_path}/private"):
        disk_file.inspect(said(data_elsewhere(tmp_path)))


def test_data_elsewhere_is_refused_without_a_name_too(tmp_path: Path) -> None:
    head = bytearray(data_elsewhere(tmp_path).read_bytes())
    struct.pack_into(">II", head, struct.unpack_from(">I", head, 100)[0], 0, 0)  # no header extension at all
    with pytest.raises(SpecError, match="it needs a file with its data"):
        said(tmp_path / "x").check(Head(bytes(head), len(head)))


def test_only_the_base_that_is_meant_is_let_in(tmp_path: Path) -> None:
    for base, right in (("base-1.raw", True), ("base-2.raw", False), ("/base-1.raw", False)):
        head = Head(overlaid(tmp_path, base).read_bytes(), 1 << 20)
        claim = Claim(path=Path("g.qcow2"), format="qcow2", base="base-1.raw")
        if right:
            assert claim.check(head).virtual_bytes == 1 << 20
        else:
            with pytest.raises(SpecError, match="is only a part"):
                claim.check(head)


@pytest.mark.parametrize("form", ["vmdk", "vdi", "vhdx", "vpc", "qed", "parallels", "qcow"])
@pytest.mark.parametrize("claimed", ["raw", "qcow2"])
def test_other_formats_are_refused_with_the_way_out(
    tmp_path: Path, form: str, claimed: Literal["raw", "qcow2"]
) -> None:
    path = tmp_path / f"disk.{form}"
    made = subprocess.run(["qemu-img", "create", "-q", "-f", form, path, "8M"], check=False, capture_output=True)
    if made.returncode:  # QEMU need not be built with every format: the header is what counts
        _, offset, magic = next(other for other in disk_file._OTHERS if other[0] == form)
        path.write_bytes(bytes(offset) + magic + bytes(4096))
    with pytest.raises(SpecError, match=f"but it is {form}") as raised:
        disk_file.inspect(said(path, claimed))
    assert f"qemu-img convert -f {form} -O qcow2" in raised.value.hint


@pytest.mark.parametrize(
    "text", ["# Disk DescriptorFile\nversion=1\n", '\n# a comment\n\nversion=3\nRW 2048 FLAT "/etc/shadow" 0\n']
)
def test_a_text_that_names_other_files_is_no_raw_disk(tmp_path: Path, text: str) -> None:
    path = tmp_path / "disk.raw"
    path.write_text(text + "\0" * 1024)
    with pytest.raises(SpecError, match="but it is vmdk"):
        disk_file.inspect(said(path, "raw"))


def test_a_packed_file_is_to_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\xfd7zXZ\0" + bytes(100))
    with pytest.raises(SpecError, match="is no disk") as raised:
        disk_file.inspect(said(path, "raw"))
    assert raised.value.hint == f"unxz {path} first"


@pytest.mark.parametrize("length", [0, 3, 5, 40, 80, 110, 65535])
def test_what_is_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    whole = plain(tmp_path).read_bytes()
    path = tmp_path / "cut.qcow2"
    path.write_bytes(whole[:length])
    with pytest.raises(SpecError):
        disk_file.inspect(said(path))


def test_a_damaged_header_ends_in_a_sentence(tmp_path: Path) -> None:
    """Each byte of the header, wrong in turn: an error of ours, or a disk that names no other file."""
    whole = plain(tmp_path).read_bytes()
    for at in range(4, 112):
        for value in (0x00, 0x01, 0x7F, 0xFF):
            data = bytearray(whole)
            data[at] = value
            try:
                said(tmp_path / "x").check(Head(bytes(data), len(data)))
            except SpecError:
                continue
            assert data[8:16] == bytes(8) and not data[79] & 4


def test_a_pipe_in_the_place_of_a_disk_does_not_hold_us_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SpecError, match="is not a disk file"):
        disk_file.inspect(said(tmp_path / "pipe", "raw"))


async def refused(shelf: Shelf, folder: Path, work: str, path: Path, form: Literal["raw", "qcow2"]) -> None:
    """As it is when the file was another one at the first look."""
    claim = said(path, form)
    with pytest.raises(SpecError):
        await (shelf.copy(path, "g.disk", claim) if work == "copy" else shelf.convert(claim, "g.disk", "raw"))
    assert list((folder / "storage").iterdir()) == []


@pytest.mark.parametrize("work", ["copy", "convert"])
async def test_a_file_that_changed_after_it_was_looked_at(
    tmp_path: Path, secret: Path, shelf: Shelf, work: str
) -> None:
    for path in (overlaid(tmp_path, str(secret)), data_elsewhere(tmp_path)):
        await refused(shelf, tmp_path, work, path, "qcow2")
    await refused(shelf, tmp_path, work, plain(tmp_path), "raw")


async def test_the_checksum_is_that_of_the_copy(tmp_path: Path, shelf: Shelf) -> None:
    path = plain(tmp_path)
    wrong = Claim(path=path, format="qcow2", sha256="0" * 64)
    with pytest.raises(LimosaError, match="is not what its checksum says"):
        await shelf.copy(path, "g.qcow2", wrong)
    assert list((tmp_path / "storage").iterdir()) == []


async def test_converted_without_a_guess(tmp_path: Path, secret: Path, shelf: Shelf) -> None:
    """A raw disk is what its bytes are, though a guest may have written a header into it since."""
    odd = tmp_path / "a disk, with a comma.raw"
    shutil.copy(overlaid(tmp_path, str(secret)), odd)
    await disk_file.convert(odd, "raw", tmp_path / "made.qcow2", "qcow2")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", tmp_path / "made.qcow2", tmp_path / "back.raw")
    assert (tmp_path / "back.raw").read_bytes().rstrip(b"\0") == odd.read_bytes().rstrip(b"\0")


async def test_a_base_is_not_followed_even_by_what_converts(tmp_path: Path, secret: Path) -> None:
    await disk_file.convert(overlaid(tmp_path, str(secret)), "qcow2", tmp_path / "made.raw", "raw")
    assert not (tmp_path / "made.raw").read_bytes().strip(b"\0")


async def test_a_disk_on_the_storage_that_somebody_else_wrote(tmp_path: Path, secret: Path, shelf: Shelf) -> None:
    shutil.copy(overlaid(tmp_path, str(secret)), tmp_path / "storage" / "g.qcow2")
    with pytest.raises(SpecError, match=r"g\.qcow2 is only a part"):
        await root_disk.check_kept(shelf, "g.qcow2", "qcow2")
    await root_disk.check_kept(shelf, "g.qcow2", "raw")  # whatever its guest wrote


def guest(source: Path, form: Literal["raw", "qcow2"]) -> Guest:
    return Guest("g", "host1", disk=Disk("shared", f"g.{form}", format=form, source=str(source)))


@pytest.mark.parametrize("form", ["raw", "qcow2"])
async def test_a_source_that_starts_a_disk(tmp_path: Path, shelf: Shelf, form: Literal["raw", "qcow2"]) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(b"the system" + bytes(1 << 20))
    claim = root_disk.source_claim(guest(raw, form))
    await root_disk.place_whole(shelf, claim, f"g.{form}", form)
    qemu_img("convert", "-f", form, "-O", "raw", tmp_path / "storage" / f"g.{form}", tmp_path / "back.raw")
    assert (tmp_path / "back.raw").read_bytes().startswith(b"the system")


def test_a_qcow2_source_is_never_taken_for_raw(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"guests.g.disk.source: .*plain.qcow2 is said to be raw") as raised:
        disk_file.inspect(root_disk.source_claim(guest(plain(tmp_path), "raw")))
    assert raised.value.hint == "write `format: qcow2` beside it"
    assert root_disk.source_claim(guest(plain(tmp_path), "qcow2")).format == "qcow2"


@pytest.mark.parametrize("form", ["raw", "qcow2"])
async def test_a_link_in_the_place_of_a_disk(
    tmp_path: Path, secret: Path, shelf: Shelf, form: Literal["raw", "qcow2"]
) -> None:
    (tmp_path / "storage" / f"g.{form}").symlink_to(secret)
    with pytest.raises(SpecError, match="is a link to another file"):
        await root_disk.check_kept(shelf, f"g.{form}", form)


def test_there_is_one_door() -> None:
    """Nobody else runs qemu-img, and each qcow2 on a command line says what stands behind it."""
    source = Path(disk_file.__file__).parents[1]
    callers = {p.name for p in source.rglob("*.py") if '"qemu-img"' in p.read_text()}
    assert callers == {"disk_file.py", "requirements.py"}
    for disk in (
        DiskFile("/a", "qcow2"),
        DiskFile("/a", "qcow2", base="/b"),
        DiskFile("/a", "qcow2", base="/b", base_format="qcow2"),
        DiskFile("/a", "raw"),
    ):
        nodes = [json.loads(argument.value) for argument in argv._disk(disk) if argument.option == "-blockdev"]
        assert {node["driver"] for node in nodes} <= {"file", "raw", "qcow2"}
        for node in nodes:
            assert ("backing" in node) == (node["driver"] == "qcow2")
            assert node.get("backing") == ("base" if disk.base and node["node-name"] == "root" else None)
