"""Incus and LXD containers as hosts: made, found, adopted, taken away; and what happens when something is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from limosa.errors import LimosaError, MachineError, SpecError, StateError
from limosa.events import Event, Events, Note
from limosa.hosts.containers import software
from limosa.hosts.containers.kind import Containers
from limosa.hosts.kind import HostState
from limosa.lab import Lab
from limosa.spec import resolved
from tests import daemons

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=daemons.PARAMETERS)
def daemon(request: pytest.FixtureRequest) -> Iterator[daemons.Daemon]:
    with daemons.running(request.param) as daemon, pytest.MonkeyPatch.context() as patch:
        for name, value in daemon.variables.items():
            patch.setenv(name, value)
        yield daemon


@pytest.fixture(autouse=True)
def _nothing_is_left(daemon: daemons.Daemon) -> Iterator[None]:
    before = everything(daemon)
    yield
    assert everything(daemon) == before


def everything(daemon: daemons.Daemon) -> dict[str, Any]:
    """Instances and volumes with their settings, apart from what the daemon itself notes."""
    instances = json.loads(daemon.client("list", "--format", "json"))
    volumes = json.loads(daemon.client("storage", "volume", "list", "default", "--format", "json"))
    return {
        "instances": {i["name"]: (settings(i["config"]), i["devices"], i["status"]) for i in instances},
        "volumes": {v["name"]: settings(v["config"]) for v in volumes if v["type"] == "custom"},
    }


def settings(config: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in config.items() if not key.startswith(("volatile.", "image."))}


def lab_of(daemon: daemons.Daemon, storage: list[resolved.Storage] | None = None, **host: Any) -> resolved.Lab:
    spec = resolved.Host("host1", kind=daemon.flavour.name, **({"image": "tiny"} | host))  # type: ignore[arg-type]
    return resolved.Lab("tl", {}, {s.name: s for s in storage or []}, {"host1": spec}, {})


@asynccontextmanager
async def containers(
    daemon: daemons.Daemon, lab: resolved.Lab, mark: str = "/marks/tl", *, events: Events | None = None, **paths: Path
) -> AsyncIterator[Containers]:
    """The kind, taken down at the end."""
    kind = Containers(daemon.flavour.name, lab, mark, paths, events)
    try:
        yield kind
    finally:
        try:
            assert await kind.remove() == {}
            assert await kind.left() == []
        finally:
            await kind.close()


def user_container(daemon: daemons.Daemon, name: str, *words: str) -> None:
    daemon.client("launch", "tiny", name, *words)


# -- made, found, taken away ------------------------------------------------------------------------------------------


async def test_a_container_is_made_marked_found_and_taken_away(daemon: daemons.Daemon) -> None:
    storage = [resolved.Storage("nfs", "volume", pool="default", volume="nfs", mount="/mnt/nfs")]
    lab = lab_of(daemon, storage)
    async with containers(daemon, lab) as kind:
        host = await kind.make("host1")
        config, devices, status = everything(daemon)["instances"]["tl-host1"]
        assert status == "Running"
        assert config["security.privileged"] == "false"
        marks = {"user.limosa.lab": "tl", "user.limosa.host": "host1", "user.limosa.mark": "/marks/tl"}
        assert marks.items() <= config.items()
        assert {"limosa-kvm", "limosa-tun", "limosa-vhost-net", "limosa-nfs"} == set(devices)
        assert everything(daemon)["volumes"]["nfs"]["user.limosa.mark"] == "/marks/tl"
        facts = await host.facts()
        assert facts.tun and facts.kvm == os.access("/dev/kvm", os.R_OK)
        assert (await host.run(["stat", "-c", "%a", host.runtime_directory])).text == "700"
        await host.run(["sh", "-c", "echo text >/mnt/nfs/file"])
        await other_command_finds_it(daemon, lab)
        await kind.power_off("host1")
        assert (await kind.find(["host1"]))["host1"].state is HostState.OFF and not await host.alive()
        again = await kind.power_on("host1")
        assert (await again.run(["cat", "/mnt/nfs/file"])).text == "text"
        assert (await again.run(["hostname"])).text == "host1"


async def other_command_finds_it(daemon: daemons.Daemon, lab: resolved.Lab) -> None:
    other, stranger = (Containers(daemon.flavour.name, lab, mark, {}) for mark in ("/marks/tl", "/marks/other"))
    try:
        found = await other.find(["host1"])
        assert found["host1"].host is not None
        assert (await found["host1"].host.run(["hostname"])).text == "host1"
        assert (await stranger.find(["host1"]))["host1"].state is HostState.OFF and await stranger.left() == []
        assert await stranger.remove() == {}
        assert await other.left() == [
            f"{daemon.flavour.name} container tl-host1",
            f"{daemon.flavour.name} volume nfs in pool default",
        ]
    finally:
        await other.close()
        await stranger.close()


async def test_a_directory_of_this_machine_is_shared_or_it_is_said_why_not(
    daemon: daemons.Daemon, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    lab = lab_of(daemon, [resolved.Storage("here", path=str(tmp_path), mount="/mnt/here")])
    async with containers(daemon, lab, here=tmp_path) as kind:
        try:
            host = await kind.make("host1")
        except LimosaError as error:
            assert "idmapping abilities are required" in error.message and "kind volume" in error.hint
            pytest.skip(
                f"{daemon.flavour.name} cannot show a directory of this machine in a container: {error.message}"
            )
        await host.run(["sh", "-c", "echo text >/mnt/here/file"])
        # What root there writes belongs to root here.
        assert (tmp_path / "file").read_text() == "text\n" and (tmp_path / "file").stat().st_uid == 0


async def test_a_volume_of_the_users_is_used_and_kept(daemon: daemons.Daemon) -> None:
    daemon.client("storage", "volume", "create", "default", "own")
    try:
        before = everything(daemon)
        volume = resolved.Storage("nfs", "volume", pool="default", volume="own", mount="/mnt/nfs")
        async with containers(daemon, lab_of(daemon, [volume])) as kind:
            host = await kind.make("host1")
            await host.run(["touch", "/mnt/nfs/file"])
        assert everything(daemon) == before
    finally:
        daemon.client("storage", "volume", "delete", "default", "own")


async def test_a_maker_that_is_killed_leaves_what_can_be_taken_away(daemon: daemons.Daemon) -> None:
    volume = resolved.Storage("nfs", "volume", pool="default", volume="nfs", mount="/mnt/nfs")
    lab = lab_of(daemon, [volume])
    script = f"""
        import asyncio
        from limosa.hosts.containers import software
from limosa.hosts.containers.kind import Containers
        from limosa.spec import codec
        kind = Containers({daemon.flavour.name!r}, codec.decode({msgspec.json.encode(lab)!r}), "/marks/tl", {{}})
        asyncio.run(kind.make("host1"))
    """
    for moment_s in (0.3, 0.6, 1.0):
        argv = [sys.executable, "-c", textwrap.dedent(script)]
        maker = await asyncio.create_subprocess_exec(*argv, env=dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")})
        await asyncio.sleep(moment_s)
        if maker.returncode is None:
            maker.kill()
        await maker.wait()
        async with containers(daemon, lab):
            pass
        assert everything(daemon) == {"instances": {}, "volumes": {}}


async def test_what_was_left_half_made_is_finished(daemon: daemons.Daemon) -> None:
    marks = ("user.limosa.mark=/marks/tl", "user.limosa.host=host1", "user.limosa.lab=tl")
    daemon.client("init", "tiny", "tl-host1", *(word for mark in marks for word in ("-c", mark)))
    async with containers(daemon, lab_of(daemon)) as kind:
        host = await kind.make("host1")
        assert (await host.run(["hostname"])).text == "host1"


# -- adopted ----------------------------------------------------------------------------------------------------------


async def test_an_adopted_container_is_given_back_as_it_was(daemon: daemons.Daemon) -> None:
    user_container(daemon, "box", "-c", "user.mine=yes")
    daemon.client("config", "device", "add", "box", "kvm", "unix-char", "source=/dev/kvm", "path=/dev/kvm")
    daemon.client("storage", "volume", "create", "default", "own")
    daemon.client("config", "device", "add", "box", "nfs", "disk", "pool=default", "source=own", "path=/mnt/nfs")
    try:
        before = everything(daemon)
        storage = [
            resolved.Storage("nfs", "volume", pool="default", volume="own", mount="/mnt/nfs"),
            resolved.Storage("more", "volume", pool="default", volume="more", mount="/mnt/more"),
        ]
        async with containers(daemon, lab_of(daemon, storage, image="", adopt="box")) as kind:
            host = await kind.make("host1")
            assert host.runtime_directory == "/run/limosa-tl"
            devices = everything(daemon)["instances"]["box"][1]
            assert set(devices) - {"kvm", "nfs"} == {"limosa-tun", "limosa-vhost-net", "limosa-more"}
            await host.run(["touch", "/mnt/more/file", "/mnt/nfs/file", f"{host.runtime_directory}/file"])
            pid = await host.spawn(["sleep", "86399"], log="/dev/null")
            assert (await host.run(["hostname"])).text == "box"
        assert everything(daemon) == before
        assert f" {pid} " not in daemon.client("exec", "box", "--", "ps", "ax")
        assert daemon.client("exec", "box", "--", "ls", "/run", "/mnt/nfs").split() == ["/mnt/nfs:", "file", "/run:"]
    finally:
        daemon.client("delete", "--force", "box")
        daemon.client("storage", "volume", "delete", "default", "own")


async def test_a_container_is_adopted_by_one_lab_at_a_time(daemon: daemons.Daemon) -> None:
    user_container(daemon, "box")
    try:
        lab = lab_of(daemon, image="", adopt="box")
        async with containers(daemon, lab) as kind:
            await kind.make("host1")
            async with containers(daemon, lab, "/marks/other") as other:
                with pytest.raises(StateError, match="container box is in use already, by lab tl"):
                    await other.make("host1")
            assert (await kind.find(["host1"]))["host1"].state is HostState.ON
    finally:
        daemon.client("delete", "--force", "box")


async def test_a_storage_place_that_is_taken_is_said(daemon: daemons.Daemon, tmp_path: Path) -> None:
    user_container(daemon, "box")
    daemon.client("config", "device", "add", "box", "data", "disk", f"source={tmp_path}", "path=/mnt/nfs")
    try:
        before = everything(daemon)
        storage = [resolved.Storage("nfs", "volume", pool="default", volume="nfs", mount="/mnt/nfs")]
        async with containers(daemon, lab_of(daemon, storage, image="", adopt="box")) as kind:
            with pytest.raises(StateError, match="container box has something else at /mnt/nfs: type=disk"):
                await kind.make("host1")
            assert everything(daemon) == before
    finally:
        daemon.client("delete", "--force", "box")


# -- what is wrong ----------------------------------------------------------------------------------------------------


async def test_a_name_that_is_taken_is_said_and_the_container_left_alone(daemon: daemons.Daemon) -> None:
    user_container(daemon, "tl-host1")
    try:
        before = everything(daemon)
        async with containers(daemon, lab_of(daemon)) as kind:
            with pytest.raises(StateError, match="tl-host1 exists already, and it is not limosa's") as caught:
                await kind.make("host1")
            assert "adopt: tl-host1" in caught.value.hint
            assert (await kind.find(["host1"]))["host1"].state is HostState.OFF
        assert everything(daemon) == before
    finally:
        daemon.client("delete", "--force", "tl-host1")


async def failure(daemon: daemons.Daemon, lab: resolved.Lab) -> LimosaError:
    """How making the host fails; nothing of it is left."""
    before = everything(daemon)
    async with containers(daemon, lab) as kind:
        with pytest.raises(LimosaError) as caught:
            await kind.make("host1")
    assert everything(daemon) == before
    return caught.value


WRONG = {
    "image": ({"image": "tinny"}, SpecError, "has no local image 'tinny', did you mean 'tiny'", "it has tiny; images:"),
    "server": ({"image": "nowhere:alpine"}, SpecError, "knows no image server 'nowhere'", "images:"),
    "fingerprint": ({"image": "abcdefabcdef"}, SpecError, "has no local image", "tiny"),
    "project": (
        {"project": "defualt"},
        SpecError,
        "has no project 'defualt', did you mean 'default'",
        "it has default",
    ),
    "adopted": ({"image": "", "adopt": "bix"}, MachineError, "has no container bix in project default", "list"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_not_there_is_said(daemon: daemons.Daemon, case: str) -> None:
    host, kind, message, hint = WRONG[case]
    error = await failure(daemon, lab_of(daemon, **host))  # type: ignore[arg-type]
    assert type(error) is kind and message in error.message and hint in error.hint + error.message


async def test_other_things_that_are_not_there(daemon: daemons.Daemon) -> None:
    volume = resolved.Storage("nfs", "volume", pool="defualt", volume="nfs", mount="/mnt/nfs")
    error = await failure(daemon, lab_of(daemon, [volume]))
    assert isinstance(error, MachineError) and "no storage pool defualt" in error.message and "default" in error.hint
    user_container(daemon, "box")
    daemon.client("stop", "--force", "box")
    try:
        error = await failure(daemon, lab_of(daemon, image="", adopt="box"))
        assert isinstance(error, StateError) and "container box is off" in error.message
    finally:
        daemon.client("delete", "--force", "box")


async def test_a_network_without_an_interface_is_said(daemon: daemons.Daemon) -> None:
    nets = {name: resolved.Network(name, f"10.8{n}.0.0/24", f"10.8{n}.0.1") for n, name in ((3, "lan"), (4, "more"))}
    host = resolved.Host("host1", kind=daemon.flavour.name, image="tiny", links={"lan": "eth0", "more": "eth1"})  # type: ignore[arg-type]
    error = await failure(daemon, resolved.Lab("tl", nets, {}, {"host1": host}, {}))
    assert "network more is to be carried by eth1, and the container has only eth0" in error.message
    daemon.client("network", "create", "testbr1", "ipv4.address=none", "ipv6.address=none")
    try:
        nets["more"] = msgspec.structs.replace(nets["more"], bridge="testbr1")
        async with containers(daemon, resolved.Lab("tl", nets, {}, {"host1": host}, {})) as kind:
            made = await kind.make("host1")
            links = json.loads((await made.run(["ip", "-json", "link"])).stdout)
            assert {"eth0", "eth1"} <= {link["ifname"] for link in links}
    finally:
        daemon.client("network", "delete", "testbr1")


async def test_a_python_that_goes_away_is_said(daemon: daemons.Daemon) -> None:
    async with containers(daemon, lab_of(daemon)) as kind:
        host = await kind.make("host1")
        python = "/usr/bin/python3.11" if Path("/usr/bin/python3.11").exists() else os.path.realpath("/usr/bin/python3")
        daemon.client("exec", "tl-host1", "--", "mount", "--bind", "/etc/hostname", python)
        with pytest.raises(MachineError, match="container tl-host1 does not let limosa work in it"):
            await host.run(["true"])


# -- programs inside --------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(daemon: daemons.Daemon, tmp_path: Path) -> Iterator[str]:
    """An image of nothing but busybox and a package manager that the test writes."""
    busybox = Path("/bin/busybox")
    if not busybox.exists() or b"/lib64/ld-linux" in busybox.read_bytes():
        pytest.skip("busybox-static is not installed")
    metadata, rootfs = daemons.busybox_image(tmp_path, busybox)
    daemon.client("image", "import", str(metadata), str(rootfs), "--alias", "bare")
    profile = daemons.PROFILE_WITHOUT_USR.format(bridge=daemon.flavour.bridge)
    own = daemon.client("profile", "show", "default")
    daemon.client("profile", "edit", "default", stdin=profile.encode())
    yield "bare"
    daemon.client("profile", "edit", "default", stdin=own.encode())
    daemon.client("image", "delete", "bare")


APK_WITHOUT_NETWORK = """#!/bin/sh
[ "$1 $2 $3" = "add --no-progress --update-cache" ] || exit 9
echo "fetch https://mirror.invalid/alpine/v3.20/main/x86_64/APKINDEX.tar.gz"
echo "WARNING: fetching https://mirror.invalid/alpine/v3.20/main: temporary error (try again later)" >&2
echo "ERROR: unable to select packages:" >&2
echo "  qemu-system-x86_64 (no such package):" >&2
echo "    required by: world[qemu-system-x86_64]" >&2
exit 1
"""


async def test_programs_that_cannot_be_installed_are_named(daemon: daemons.Daemon, bare: str) -> None:
    error = await failure(daemon, lab_of(daemon, image=bare))
    assert isinstance(error, MachineError)
    assert "qemu-system-x86_64, ip, tc, python3 is not installed in container tl-host1" in error.message
    assert "no package manager" in error.message and "use an image" in error.hint


async def test_a_package_manager_without_network_is_quoted(
    daemon: daemons.Daemon, bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []
    real = Containers._settle

    async def settle(kind: Containers, name: str) -> None:
        daemon.client("file", "push", "-", "tl-host1/bin/apk", "--mode=755", stdin=APK_WITHOUT_NETWORK.encode())
        await real(kind, name)

    monkeypatch.setattr(Containers, "_settle", settle)
    monkeypatch.setattr(software, "NETWORK_S", 0.5)
    async with containers(daemon, lab_of(daemon, image=bare), events=Events(heard.append)) as kind:
        with pytest.raises(MachineError, match="apk could not install it: ERROR: unable to select") as caught:
            await kind.make("host1")
    assert "qemu-system-x86_64 (no such package)" in caught.value.message
    assert caught.value.message.endswith("v3.20/main: temporary error (try again later))")
    assert "network" in caught.value.hint
    notes = [event.text for event in heard if isinstance(event, Note)]
    assert any("apk: iproute2 python3 qemu-system-x86_64" in note for note in notes), "it is said before it is done"


# -- looked at --------------------------------------------------------------------------------------------------------


async def test_doctor_looks_at_containers_and_touches_none(
    daemon: daemons.Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    user_container(daemon, "box")
    try:
        before = everything(daemon)
        hosts = {
            "one": resolved.Host("one", kind=daemon.flavour.name, image="tiny"),  # type: ignore[arg-type]
            "two": resolved.Host("two", kind=daemon.flavour.name, image="tina"),  # type: ignore[arg-type]
            "three": resolved.Host("three", kind=daemon.flavour.name, adopt="box"),  # type: ignore[arg-type]
        }
        async with Lab.open(resolved.Lab("seen", {}, {}, hosts, {})) as lab:
            found = {one.name: one for one in await lab.hosts.examine()}
        assert [finding.detail for finding in found["one"].findings] == [
            "not there yet; limosa up launches it, and can"
        ]
        (missing,) = found["two"].findings
        assert not found["two"].ready and "has no local image 'tina'" in missing.detail and missing.fix
        inside = {finding.name: finding for finding in found["three"].findings}
        assert inside["reachable"].ok and "as root" in inside["reachable"].detail
        assert inside["QEMU"].ok and "(qemu-system-x86_64)" in inside["QEMU"].detail
        assert everything(daemon) == before
        assert not (tmp_path / "limosa").exists() or not list((tmp_path / "limosa").rglob("*"))
    finally:
        daemon.client("delete", "box", "--force")
