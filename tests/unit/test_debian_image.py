"""What ``image build debian`` decides before anything runs, and what it makes of its tools' complaints."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from limosa.errors import CommandError, LimosaError, MachineError, SpecError
from limosa.guest import library
from limosa.guest.debian import additions, bootstrap, disk, image
from limosa.guest.debian.bootstrap import failure
from limosa.guest.debian.image import Choice, build, check, sources


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(suite="bookworm; rm"), "no release of Debian"),
        (Choice(size_bytes=1 << 20), "too small"),
        (Choice(mirror="ftp:nowhere"), "no mirror"),
        (Choice(packages=("fio", "-o=evil")), "no name of a package"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(choice: Choice, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        check("debian", choice)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["micro", "../up", "Über"])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(SpecError):
        check(name, Choice())


async def test_a_full_cache_is_said_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    from limosa.events import Events

    monkeypatch.setattr(image, "SPACE_BYTES", 1 << 60)
    with pytest.raises(MachineError, match="MiB, and there are"):
        await build("debian", Choice(), Events())
    assert [path.name for path in library.directory().iterdir()] == []
    assert library.find("debian") is None


def test_packages_come_with_security_updates_unless_a_mirror_is_named() -> None:
    assert any("bookworm-security" in line for line in sources(Choice()))
    assert sources(Choice(suite="trixie", mirror="http://mirror.test/debian")) == [
        "deb http://mirror.test/debian trixie main"
    ]


def test_the_bootstrap_dies_with_its_starter(tmp_path: Path) -> None:
    what = {"suite": "bookworm", "sources": ("deb http://mirror.test/debian bookworm main",), "root_uuid": "uuid"}
    system = bootstrap.System(**what, packages=("zstd",), units=("ssh",), size_bytes=2 << 30)  # type: ignore[arg-type]
    argv = bootstrap.argv(system, tmp_path, tmp_path / "disk.raw")
    assert argv[:3] == ["setpriv", "--pdeathsig", "KILL"]
    assert {"--mount", "--pid", "--kill-child"} <= set(argv)


@pytest.mark.parametrize("size_bytes", [1 << 30, (1 << 30) + 12345, 2 << 30])
def test_the_partitions_fit_on_the_disk(size_bytes: int) -> None:
    layout = disk.Layout(size_bytes)
    assert disk.ROOT_START_BYTES + layout.root_blocks * disk.BLOCK_BYTES <= size_bytes
    assert "type=ef" in layout.table() and "bootable" in layout.table()


async def test_the_disk_has_both_boot_loaders_and_keeps_its_table(tmp_path: Path) -> None:
    from limosa import requirements

    if await requirements.missing(("sfdisk", "mkfs.vfat", "mmd", "mcopy")):
        pytest.skip("fdisk, dosfstools and mtools are not installed")
    image = tmp_path / "disk.raw"
    await disk.partition(image, disk.Layout(64 << 20))
    (tmp_path / "boot.img").write_bytes(b"B" * 512)
    (tmp_path / "core.img").write_bytes(b"C" * 3000)
    (tmp_path / "grub.efi").write_bytes(b"E" * 100_000)
    await disk.make_bootable(image, tmp_path / "boot.img", tmp_path / "core.img", tmp_path / "grub.efi")
    data = image.read_bytes()
    assert data[:440] == b"B" * 440 and data[510:512] == b"\x55\xaa"
    assert data[512:3512] == b"C" * 3000
    assert data[disk.EFI_START_BYTES + 510 :][:2] == b"\x55\xaa"
    assert b"E" * 100_000 in data[disk.EFI_START_BYTES : disk.ROOT_START_BYTES]
    (tmp_path / "core.img").write_bytes(bytes(2 << 20))
    with pytest.raises(LimosaError, match="does not fit"):
        await disk.make_bootable(image, tmp_path / "boot.img", tmp_path / "core.img", tmp_path / "grub.efi")


def test_only_its_owner_may_read_the_key_file_and_no_password_is_set(tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    agent.write_bytes(b"agent")
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    additions.write(overlay, root_uuid="abc", authorized_key="ssh-ed25519 AAAA x", agent=agent)
    assert stat.S_IMODE((overlay / "root/.ssh/authorized_keys").stat().st_mode) == 0o600
    assert stat.S_IMODE((overlay / "root/.ssh").stat().st_mode) == 0o700
    assert "PasswordAuthentication no" in (overlay / "etc/ssh/sshd_config.d/10-limosa.conf").read_text()
    assert not (overlay / "etc/shadow").exists()
    assert "root=UUID=abc " in (overlay / "boot/grub/grub.cfg").read_text()


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("E: Unable to locate package nonesuch", SpecError, "no package nonesuch"),
        ("W: Failed to fetch http://x/InRelease  Could not connect", MachineError, "could not be fetched: Failed"),
        ("Err:1 http://x sid InRelease\nE: Failed to fetch http://x/sid  404", MachineError, "could not be fetched"),
        ("dpkg: error: No space left on device", MachineError, "not enough space"),
        ("unshare: failed to find subuids", MachineError, "range of user ids"),
        ("E: apt-get update failed\nE: worse", LimosaError, "apt-get update failed"),
    ],
)
def test_complaints_become_a_sentence(said: str, kind: type[LimosaError], words: str) -> None:
    error = failure(CommandError(["x"], 1, said))
    assert type(error) is kind
    assert words in error.message and error.hint
