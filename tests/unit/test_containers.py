"""How container daemons are reached, and what they are asked for; a small server stands in where a fault is needed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from limosa.errors import MachineError, SpecError, StateError
from limosa.hosts.containers import definition, endpoint, software
from limosa.hosts.containers.daemon import Daemon, DaemonError, Image, Instance
from limosa.hosts.containers.kind import Containers
from limosa.hosts.installers import INSTALLERS
from limosa.hosts.kind import HostState
from limosa.spec import resolved

Answer = dict[str, Any]
NOT_FOUND: Answer = {"type": "error", "error": "Instance not found", "error_code": 404}


def sync(metadata: Any) -> Answer:
    return {"type": "sync", "metadata": metadata}


@asynccontextmanager
async def server(
    path: Path, answer: Callable[[str, str, Any], Answer | Awaitable[Answer]]
) -> AsyncIterator[list[tuple[str, str, Any]]]:
    """An HTTP server on a unix socket; yields what it was asked: method, path and body."""
    asked: list[tuple[str, str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, target, _ = head.split(" ", 2)
                sizes = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length:")]
                body = await reader.readexactly(int(sizes[0])) if sizes else b""
                asked.append((method, target.partition("?")[0], json.loads(body) if body else None))
                said = answer(*asked[-1])
                text = json.dumps(said if isinstance(said, dict) else await said).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)

    listener = await asyncio.start_unix_server(serve, path)
    async with listener:
        yield asked


@pytest.fixture
def incus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Incus' socket is looked for."""
    monkeypatch.delenv("INCUS_SOCKET", raising=False)
    monkeypatch.setenv("INCUS_DIR", str(tmp_path))
    return tmp_path / "unix.socket"


def lab(**host: Any) -> resolved.Lab:
    return resolved.Lab("tl", {}, {}, {"host1": resolved.Host("host1", **({"kind": "incus"} | host))}, {})


# -- images -----------------------------------------------------------------------------------------------------------

SERVED = {
    ("incus", "images:alpine/3.23"): ("https://images.linuxcontainers.org", "alpine/3.23"),
    ("lxd", "images:alpine/3.23"): ("https://images.lxd.canonical.com", "alpine/3.23"),
    ("lxd", "ubuntu:22.04"): ("https://cloud-images.ubuntu.com/releases", "22.04"),
}


@pytest.mark.parametrize(("kind", "image"), SERVED)
def test_images_of_servers(kind: str, image: str) -> None:
    address, alias = SERVED[kind, image]
    wanted = {"type": "image", "mode": "pull", "server": address, "protocol": "simplestreams", "alias": alias}
    assert definition.image_source(endpoint.FLAVOURS[kind], image, []) == wanted


def test_local_images() -> None:
    local = [Image("0123456789abcdef", [{"name": "alpine"}]), Image("fedcba9876543210")]
    for image in ("alpine", "local:alpine"):
        assert definition.image_source(endpoint.INCUS, image, local) == {"type": "image", "alias": "alpine"}
    wanted = {"type": "image", "fingerprint": "fedcba9876543210"}
    assert definition.image_source(endpoint.INCUS, "fedcba987654", local) == wanted
    for image in ("fedcba", "debian"):
        with pytest.raises(SpecError, match="no local image"):
            definition.image_source(endpoint.INCUS, image, local)
    with pytest.raises(SpecError, match="knows no image server 'ubuntu'"):
        definition.image_source(endpoint.INCUS, "ubuntu:22.04", local)


def without_internet(method: str, path: str, body: Any) -> Answer:
    """A daemon that cannot reach its image server."""
    if path == "/1.0/instances/tl-host1":
        return NOT_FOUND
    if (method, path) == ("POST", "/1.0/instances"):
        return {"type": "async", "operation": "/1.0/operations/7"}
    if path == "/1.0/operations/7/wait":
        why = "Failed getting remote image info: lookup images.linuxcontainers.org: no such host"
        return sync({"id": "7", "status_code": 400, "err": why})
    return sync([])


async def test_a_container_from_an_image_server(incus: Path) -> None:
    async with server(incus, without_internet) as asked:
        kind = Containers("incus", lab(image="images:alpine/3.23"), "/marks/tl", {})
        with pytest.raises(
            MachineError, match=r"image images:alpine/3\.23 could not be had from https://images\.linux"
        ) as caught:
            await kind.make("host1")
        await kind.close()
    assert "no such host" in caught.value.message and "without internet" in caught.value.hint
    bodies = [body for method, path, body in asked if (method, path) == ("POST", "/1.0/instances")]
    assert bodies[0]["source"] == {
        "type": "image",
        "mode": "pull",
        "server": "https://images.linuxcontainers.org",
        "protocol": "simplestreams",
        "alias": "alpine/3.23",
    }
    assert bodies[0]["name"] == "tl-host1" and bodies[0]["config"]["user.limosa.mark"] == "/marks/tl"


async def test_an_operation_is_given_up_when_its_caller_is(incus: Path) -> None:
    waiting, never = asyncio.Event(), asyncio.Event()

    async def slow(method: str, path: str, body: Any) -> Answer:
        if path.endswith("/wait"):
            waiting.set()
            await never.wait()
        return {"type": "async", "operation": "/1.0/operations/7"} if method == "POST" else sync({"id": "7"})

    async with server(incus, slow) as asked:
        daemon = Daemon.open(endpoint.INCUS, "", "default")
        task = asyncio.create_task(daemon.create({"name": "a"}))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        never.set()
        await daemon.close()
    assert asked[-1][:2] == ("DELETE", "/1.0/operations/7")


# -- reaching a daemon ------------------------------------------------------------------------------------------------


def test_no_daemon(incus: Path) -> None:
    for _ in range(2):
        with pytest.raises(MachineError, match=f"no Incus daemon answers: nothing listens on {incus}") as caught:
            endpoint.find(endpoint.INCUS)
        assert "systemctl start incus" in caught.value.hint
        with socket.socket(socket.AF_UNIX) as stale:  # the second time: a socket whose daemon is gone
            incus.unlink(missing_ok=True)
            stale.bind(str(incus))


def test_a_socket_that_is_not_for_this_user(incus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: socket.socket, _path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(endpoint.socket, "socket", type("Refusing", (socket.socket,), {"connect": refuse}))
    with pytest.raises(MachineError, match="may not use Incus's socket") as caught:
        endpoint.find(endpoint.INCUS)
    assert "usermod -aG incus-admin" in caught.value.hint
    with pytest.raises(MachineError) as caught:
        endpoint.find(endpoint.LXD)
    assert "usermod -aG lxd" in caught.value.hint


async def test_nobody_knows_of_the_hosts_of_a_daemon_that_is_away(incus: Path) -> None:
    kind = Containers("incus", lab(image="tiny"), "/marks/tl", {})
    found = (await kind.find(["host1"]))["host1"]
    assert (found.state, found.host) == (HostState.NO_ANSWER, None), "its containers may go on"
    assert "no Incus daemon answers" in (await kind.remove())["host1"].message
    assert await kind.left() == []
    await kind.close()


async def test_answers_that_are_none(incus: Path) -> None:
    async with server(incus, lambda *_: {"type": "error", "error": "not\n authorized", "error_code": 403}):
        daemon = Daemon.open(endpoint.INCUS, "", "default")
        with pytest.raises(MachineError, match="does not trust"):
            await daemon.instances()
        await daemon.close()
    async with server(incus, lambda *_: {"type": "error", "error": "it\n broke", "error_code": 500}):
        daemon = Daemon.open(endpoint.INCUS, "", "default")
        with pytest.raises(DaemonError, match="Incus: it broke"):
            await daemon.instances()
        await daemon.close()
    async with server(incus, lambda *_: {"kind": "something else"}):
        daemon = Daemon.open(endpoint.INCUS, "", "default")
        with pytest.raises(MachineError, match="not its API's"):
            await daemon.instances()
        await daemon.close()


ASKED: list[Callable[[Daemon], Awaitable[object]]] = [
    Daemon.instances, Daemon.images, Daemon.pools, Daemon.projects, lambda daemon: daemon.instance("box"),
    lambda daemon: daemon.volumes("fast"), lambda daemon: daemon.execute("box", ["true"], {}, "/"),
]  # fmt: skip


@pytest.mark.parametrize("told", [7, "text", [7], {"name": []}, [{"name": 7, "fingerprint": 7}]], ids=repr)
async def test_answers_of_another_shape(incus: Path, told: object) -> None:
    async with server(incus, lambda *_: sync(told)):
        daemon = Daemon.open(endpoint.INCUS, "", "default")
        for ask in ASKED:
            with pytest.raises(MachineError, match="not its API's"):
                await ask(daemon)
        await daemon.close()


def test_a_remote_daemon_is_trusted_only_when_the_user_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCUS_CONF", str(tmp_path))
    with pytest.raises(MachineError, match="not among those whose certificate you accepted") as caught:
        endpoint.find(endpoint.INCUS, "https://far:8443")
    assert caught.value.hint == "incus remote add NAME https://far:8443"
    (tmp_path / "config.yml").write_text("remotes:\n  far: {addr: 'https://far:8443', protocol: incus}\n")
    with pytest.raises(MachineError, match="certificates for https://far:8443"):
        endpoint.find(endpoint.INCUS, "https://far:8443/")


# -- what a container has to have -------------------------------------------------------------------------------------


def test_what_a_container_is_made_with() -> None:
    network = resolved.Network("lan", "10.83.0.0/24", "10.83.0.1", bridge="incusbr0")
    volume = resolved.Storage("nfs", "volume", pool="default", volume="vol", mount="/mnt/nfs")
    nfs = resolved.Storage("far", "nfs", path="/srv", server="host1")
    host = resolved.Host("host1", kind="incus", image="a", links={"lan": "eth0"})
    whole = resolved.Lab("tl", {"lan": network}, {"nfs": volume, "far": nfs}, {"host1": host}, {})
    want = definition.wanted(whole, host, "/marks/tl", {})
    made = definition.request("tl-host1", {"type": "image"}, want)
    assert made["devices"] == {
        "limosa-kvm": {"type": "unix-char", "source": "/dev/kvm", "path": "/dev/kvm", "required": "false"},
        "limosa-tun": {"type": "unix-char", "source": "/dev/net/tun", "path": "/dev/net/tun", "required": "false"},
        "limosa-vhost-net": {
            "type": "unix-char",
            "source": "/dev/vhost-net",
            "path": "/dev/vhost-net",
            "required": "false",
        },
        "limosa-nfs": {"type": "disk", "pool": "default", "source": "vol", "path": "/mnt/nfs"},
        "eth0": {"type": "nic", "nictype": "bridged", "parent": "incusbr0", "name": "eth0"},
    }
    assert made["config"] == {
        "security.privileged": "false",
        "user.limosa.lab": "tl",
        "user.limosa.host": "host1",
        "user.limosa.mark": "/marks/tl",
    }


def test_what_an_adopted_container_lacks() -> None:
    storage = resolved.Storage("nfs", "volume", pool="default", volume="nfs", mount="/mnt/nfs")
    host = resolved.Host("host1", kind="lxd", adopt="box")
    want = definition.wanted(resolved.Lab("tl", {}, {"nfs": storage}, {"host1": host}, {}), host, "/marks/tl", {})
    there = {"kvm": {"type": "unix-char", "path": "/dev/kvm"}, "t": {"type": "unix-char", "source": "/dev/net/tun"}}
    disk = {"type": "disk", "pool": "default", "source": "nfs", "path": "/mnt/nfs/"}
    box = Instance("box", "Running", expanded_devices={**there, "vol": disk})
    assert set(definition.missing(box, want)) == {"limosa-vhost-net"}
    assert set(definition.missing(Instance("box", "Running", expanded_devices=there), want)) == {
        "limosa-vhost-net",
        "limosa-nfs",
    }
    other = Instance("box", "Running", expanded_devices={"vol": {**disk, "source": "own"}})
    with pytest.raises(StateError, match="something else at /mnt/nfs: type=disk pool=default source=own"):
        definition.missing(other, want)


def test_an_adopted_container_gets_back_what_it_had() -> None:
    box = Instance(
        "box",
        "Running",
        config={"user.mine": "yes", "user.limosa.mark": "/marks/tl"},
        devices={"kvm": {"type": "unix-char"}, "limosa-tun": {"type": "unix-char"}},
    )
    assert definition.stripped(box) == ({"kvm": {"type": "unix-char"}}, {"user.mine": "yes"})


def test_the_environment_names_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.socket"
    monkeypatch.setenv("INCUS_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        assert endpoint.find(endpoint.INCUS).socket == str(path)


SAID = {
    "apt-get without a network": (
        "Ign:1 http://deb.debian.org/debian bookworm InRelease\n"
        "W: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Temporary failure resolving it\n"
        "W: Some index files failed to download. They have been ignored, or old ones used instead.\n"
        "E: Unable to locate package qemu-system-x86\nE: Unable to locate package python3\n",
        "E: Unable to locate package qemu-system-x86 (W: Failed to fetch "
        "http://deb.debian.org/debian/dists/bookworm/InRelease  Temporary failure resolving it)",
    ),
    "apk without such a package": (
        "fetch https://mirror.invalid/main/x86_64/APKINDEX.tar.gz\n"
        "ERROR: unable to select packages:\n  qemu (no such package):\n    required by: world[qemu]\n",
        "ERROR: unable to select packages: qemu (no such package): required by: world[qemu]",
    ),
    "apk 3 without a network": (
        "WARNING: updating and opening http://mirror.invalid/main/x86_64/APKINDEX.tar.gz: Connection refused\n"
        "WARNING: updating and opening http://mirror.invalid/community/x86_64/APKINDEX.tar.gz: Connection refused\n"
        "ERROR: unable to select packages:\n  python3 (no such package):\n    required by: world[python3]\n",
        "ERROR: unable to select packages: python3 (no such package): required by: world[python3] (WARNING: updating "
        "and opening http://mirror.invalid/main/x86_64/APKINDEX.tar.gz: Connection refused)",
    ),
    "dnf without a network": (
        "Errors during downloading metadata for repository 'fedora':\n"
        "  - Curl error (6): Could not resolve hostname for https://mirrors.invalid/ [Could not resolve host]\n"
        "Error: Failed to download metadata for repo 'fedora': Cannot prepare internal mirrorlist\n",
        "Error: Failed to download metadata for repo 'fedora': Cannot prepare internal mirrorlist "
        "(Curl error (6): Could not resolve hostname for https://mirrors.invalid/ [Could not resolve host])",
    ),
    # dnf 4.14 with skip_if_unavailable, as Fedora has it, was run; dnf 5's words are of its issues 1390 and 1792.
    "dnf that passes over what it cannot reach": (
        "Errors during downloading metadata for repository 'fedora':\n"
        "  - Curl error (7): Couldn't connect to server for http://127.0.0.1:9/x/repodata/repomd.xml\n"
        "Error: Failed to download metadata for repo 'fedora': Cannot download repomd.xml\n"
        "Ignoring repositories: fedora\nNo match for argument: iproute\nError: Unable to find a match: iproute\n",
        "Error: Failed to download metadata for repo 'fedora': Cannot download repomd.xml "
        "(Curl error (7): Couldn't connect to server for http://127.0.0.1:9/x/repodata/repomd.xml)",
    ),
    "dnf 5 without such a package": (
        "Updating and loading repositories:\nRepositories loaded.\nFailed to resolve the transaction:\n"
        "No match for argument: qemu-system-x86-core\nYou can try to add to command line:\n"
        "  --skip-unavailable to skip unavailable packages\n",
        "No match for argument: qemu-system-x86-core",
    ),
    "dnf 5 without a network": (
        "Updating and loading repositories:\n fedora   ???% |   0.0   B/s |   0.0   B |  00m00s\n"
        ">>> Curl error (6): Could not resolve hostname for https://mirrors.invalid/repodata/repomd.xml\n"
        ">>> Librepo error: Cannot download repomd.xml: All mirrors were tried\nRepositories loaded.\n"
        "Failed to resolve the transaction:\nNo match for argument: python3\nYou can try to add to command line:\n"
        "  --skip-unavailable to skip unavailable packages\n",
        "No match for argument: python3 "
        "(Curl error (6): Could not resolve hostname for https://mirrors.invalid/repodata/repomd.xml)",
    ),
    "what nobody expected": ("Killed\n", "Killed"),
    "nothing": ("\n", "it said nothing"),
}


@pytest.mark.parametrize("case", SAID)
def test_the_sentence_of_a_package_manager_that_counts(case: str) -> None:
    said, sentence = SAID[case]
    assert software.why(said) == sentence


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Have the container's shell say these things, one after the other; what is left of them."""
    left = list[str]()

    async def says(*_: object) -> tuple[int, str]:
        return 0, left.pop(0)

    def begin(*said: str) -> list[str]:
        left[:] = said
        return left

    monkeypatch.setattr(software, "_shell", says)
    return begin


async def test_a_container_that_was_not_heard_is_asked_again(shell: Callable[..., list[str]]) -> None:
    """As LXD 5.0 does on a busy machine: the status is right, and the output is lost."""
    left = shell("", "missing tc\nmanager apk\n", "missing tc\nmissing python3\nmanager apk\nlooked\n", "too often")
    found = await software.look(cast("Daemon", None), "box", ["tc", "python3"])
    assert found == (["tc", "python3"], ["apk"]) and left == ["too often"]


async def test_a_container_that_is_never_heard_is_an_error(shell: Callable[..., list[str]]) -> None:
    shell(*[""] * 10)
    with pytest.raises(MachineError, match="container box does not say what it has: its shell said nothing"):
        await software.look(Daemon(endpoint.Endpoint(endpoint.INCUS), "default"), "box", ["tc"])


def test_what_apk_does_not_know_is_in_a_repository_that_is_not_asked() -> None:
    apk = INSTALLERS[0]
    unknown = "ERROR: unable to select packages: qemu-system-x86_64 (no such package): required by: world[x]"
    assert "repository community: setup-apkrepos -c" in software.question(apk, unknown)
    assert software.question(apk, SAID["apk 3 without a network"][1]) == "has it a network with a way out?"
    dnf = INSTALLERS[2]
    for no_match in (
        "No match for argument: qemu-system-x86-core",
        "Error: Unable to find a match: tc qemu-system-x86-core",
    ):
        assert "of Red Hat's systems" in software.question(dnf, no_match)
    unreached = software.why(SAID["dnf 5 without a network"][0].replace("python3", "qemu-system-x86-core"))
    assert software.question(dnf, unreached) == "has it a network with a way out?"
    assert software.question(apk, "ERROR: python3 (no such package)") == "has it a network with a way out?"
