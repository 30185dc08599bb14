"""Storage over NFS: a real server on a host, read by a real client; and what is said where the kernel cannot mount."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa import paths, spec
from limosa.errors import MachineError
from limosa.lab import Lab
from limosa.spec import resolved
from limosa.storage import nfs, proof
from tests.limosa_command import Command, fresh

pytestmark = pytest.mark.system

SUBNET = "10.98.1.0/24"
LAB = f"name: nfs\nnetworks: {{lan: {{subnet: {SUBNET}}}}}\nhosts: {{host1: {{}}, host2: {{}}}}\n"
WITH_GUEST = (
    LAB
    + """
storage: {vms: {kind: nfs, server: host1, path: "{path}", mount: /run/vms}}
guests: {guest1: {image: bare, host: host1, memory: 16 MiB}}
"""
)


def storage(path: str) -> resolved.Storage:
    return resolved.Storage("vms", kind="nfs", path=path, server="host1", mount="/run/vms")


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A directory on a disk's file system: newer versions of nfs-ganesha serve none in memory, as /tmp may be."""
    place = paths.cache() / "tests"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="export-", dir=place) as name:
        yield Path(name)


def mountable() -> bool:
    return "nfs4" in Path("/proc/filesystems").read_text()


def serves() -> None:
    for program in ("ganesha.nfsd", "nfs-cat"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (packages nfs-ganesha, nfs-ganesha-vfs, libnfs-utils)")


async def test_user_space_server_exports_to_the_lab(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, on_disk: Path
) -> None:
    serves()
    if os.geteuid() != 0:
        pytest.skip("only root serves NFS")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with Lab.open(spec.loads(LAB), ephemeral=True) as lab:
        await lab.up()
        host1, host2 = lab.host("host1"), lab.host("host2")
        (on_disk / "disk").write_text("on the server\n")
        served = storage(str(on_disk))
        await nfs.export(host1, served, SUBNET)
        await nfs.export(host1, served, SUBNET)  # twice is no error
        address = lab.hosts.address("host1", "lan")
        async with asyncio.timeout(30):
            done = await host2.run(["nfs-cat", f"nfs://{address}{on_disk}/disk?version=4"])
        assert done.text == "on the server"
        for host, stranger in ((host1, "10.97.9.1/24"), (host2, "10.97.9.2/24")):
            await host.run(["ip", "address", "add", stranger, "dev", "br0"])
        async with asyncio.timeout(30):
            refused = await host2.run(["nfs-cat", f"nfs://10.97.9.1{on_disk}/disk?version=4"], check=False)
        assert refused.returncode and not refused.stdout, "the subnet alone is served"
        if mountable():
            await nfs.mount(host2, served, address)
            assert (await host2.run(["cat", "/run/vms/disk"])).text == "on the server"
            await nfs.unmount(host2, served)
        else:
            with pytest.raises(MachineError, match=r"the kernel of host2 .* cannot mount NFS") as caught:
                await nfs.mount(host2, served, address)
            assert "CONFIG_NFS_V4" in caught.value.hint


async def test_an_ordinary_users_hosts_serve_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serves()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with Lab.open(spec.loads(LAB), ephemeral=True, rootless=True) as lab:
        try:
            await lab.up()
        except MachineError as error:
            pytest.skip(f"this machine makes no lab: {error}")
        with pytest.raises(MachineError, match="host1 cannot serve NFS") as caught:
            await nfs.export(lab.host("host1"), storage("/run/export"), SUBNET)
        assert "as root" in caught.value.hint


def test_up_says_that_the_kernel_cannot_mount(tmp_path: Path, on_disk: Path) -> None:
    if mountable():
        pytest.skip("this kernel mounts NFS")
    command: Command = fresh(tmp_path / "state")
    (tmp_path / "nfs.yaml").write_text(WITH_GUEST.replace("{path}", str(on_disk)))
    done = command.run("up", str(tmp_path / "nfs.yaml"))
    if shutil.which("ganesha.nfsd") is None and shutil.which("exportfs") is None:
        done.refused(3, "no NFS server", hint="nfs-ganesha")
    elif os.geteuid() != 0:
        done.refused(3, "cannot serve NFS", hint="as root")
    else:
        done.refused(3, "cannot mount NFS", hint="CONFIG_NFS_V4")
    command.ok("down", "--lab", "nfs")
    assert command.labs == []


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "shared").mkdir()
    return str(tmp_path / "shared")


async def test_a_storage_is_proved_to_be_one_and_its_locks_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    text = LAB + f"storage: {{vms: {{path: {folder}}}}}\n"
    async with Lab.open(spec.loads(text), ephemeral=True) as lab:
        await lab.up()
        hosts = [lab.host("host1"), lab.host("host2")]
        place = lab.spec.storage["vms"].mount_point
        await proof.prove(hosts, place)
        assert list(Path(folder).iterdir()) == [], "nothing is left of the proof"
        with pytest.raises(MachineError, match="is not the same on host1 and host2"):
            await proof.prove(hosts, "/run")  # each host has its own
        with pytest.raises(MachineError, match="host1 cannot write to /no/such"):
            await proof.prove(hosts, "/no/such")
        # A lock is not seen on another file of the same name and content: as on a mount without locks.
        await hosts[1].run(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        await hosts[1].run(["sh", "-c", "mkdir /mnt/vms && touch /mnt/vms/a"])
        (Path(folder) / "a").touch()
        with pytest.raises(MachineError, match="host2 does not see the locks of host1"):
            await proof.prove_locks(hosts[0], [Elsewhere(hosts[1], place, "/mnt/vms")], f"{place}/a")


class Elsewhere:
    """A host on which a folder stands for another: the file is there, and its locks are its own."""

    def __init__(self, host: object, place: str, other: str) -> None:
        self._host, self._place, self._other = host, place, other

    def __getattr__(self, name: str) -> object:
        return getattr(self._host, name)

    async def run(self, argv: list[str], **more: object) -> object:
        moved = [word.replace(self._place, self._other) for word in argv]
        return await self._host.run(moved, **more)  # type: ignore[attr-defined]


async def test_what_the_server_cannot_serve_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """/proc has no file handles, so no version of nfs-ganesha serves it: it listens, and has no export."""
    serves()
    if os.geteuid() != 0:
        pytest.skip("only root serves NFS")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with Lab.open(spec.loads(LAB), ephemeral=True) as lab:
        await lab.up()
        with pytest.raises(MachineError, match="cannot serve /proc/self") as caught:
            await nfs.export(lab.host("host1"), storage("/proc/self"), SUBNET)
        assert "file system of a disk" in caught.value.hint
