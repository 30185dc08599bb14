"""An encrypted stream by the real command line and library, with each QEMU that is there: nobody reads it on the way,
and whoever has not the right key is refused with the cause, while the guest stays where it is."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from encryption import SENT, WATCH, keys
from move_bench import GUEST, NEEDED, Bench, bench

from limosa.events import Event, Events, MigrationPhaseChanged
from limosa.lab import Lab, authority
from limosa.migration import certificates
from limosa.migration.certificates import Key
from limosa.migration.settings import Settings
from limosa.migration.transport import CREDENTIALS, TCP, Side, Transport
from limosa.network import guard
from tests.qemu_versions import QemuBinary, machine_qemu, second_qemu

pytestmark = NEEDED

NAME = "encrypted"
AMPLE: Mapping[str, int] = {"downtime-limit": 5000}
"""The guest writes all of its memory in every round."""
MULTIFD: Mapping[str, bool | int] = {**AMPLE, "multifd": True, "multifd-channels": 3}


def _qemu(label: str) -> QemuBinary:
    found, why = machine_qemu() if label == "machine" else second_qemu()
    if found is None:
        pytest.skip(why)
    return found


@pytest.fixture(scope="module", params=["machine", "second"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    qemu = _qemu(request.param)
    host = f"{{qemu: {qemu.path}, qemu_firmware: [{', '.join(qemu.firmware)}]}}"
    guest = "{host: host1, image: bare, memory: 64 MiB, accel: tcg}"
    networks = "{lan: {}, mig: {purpose: migration}}"
    text = (
        f"name: {NAME}\nnetworks: {networks}\nhosts: {{host1: {host}, host2: {host}}}\nguests: {{{GUEST}: {guest}}}\n"
    )
    with bench(tmp_path_factory.mktemp("t"), text, NAME) as made:
        yield made


@asynccontextmanager
async def opened(
    lab: Bench, monkeypatch: pytest.MonkeyPatch, heard: Callable[[Event], object] = id
) -> AsyncIterator[tuple[Lab, str, str]]:
    """The lab, where the guest is, and where it may go."""
    source, target = await asyncio.to_thread(lab.ends)
    monkeypatch.setenv("XDG_STATE_HOME", lab.environment["XDG_STATE_HOME"])
    async with Lab.open(lab.name, events=Events(heard)) as found:
        yield found, source, target


async def _seen_on_the_way(lab: Lab, source: str, target: str, settings: Settings) -> dict[str, int]:
    """What somebody on the source's network sees of a move."""
    host = lab.host(source)
    log, result = f"{host.runtime_directory}/watch.log", f"{host.runtime_directory}/watch.json"
    await host.run(["rm", "-f", log, result])
    pid = await host.spawn([sys.executable, "-c", WATCH, result, *(word.decode() for word in SENT)], log=log)
    await host.run(["sh", "-c", f"until grep -q watching {log}; do sleep 0.01; done"], timeout_s=20)
    moved = await lab.migrate(GUEST, target, settings)
    assert (moved.source, moved.target) == (source, target)
    await host.run(["sh", "-c", f"kill {pid}; until [ -s {result} ]; do sleep 0.01; done"], timeout_s=20)
    seen: dict[str, int] = json.loads((await host.run(["cat", result])).text)
    return seen


@pytest.mark.skipif(os.geteuid() != 0, reason="packets are only seen for sure with room for many of them: root's")
@pytest.mark.parametrize("options", [AMPLE, MULTIFD], ids=["one-connection", "multifd"])
async def test_nobody_on_the_way_reads_it(
    lab: Bench, options: Mapping[str, bool | int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without TLS, by the same look, everybody does."""
    for tls, expected in (("on", False), ("off", True)):
        async with opened(lab, monkeypatch) as (found, source, target):
            seen = await _seen_on_the_way(found, source, target, Settings(options=options, tls=tls))
            assert seen["bytes"] > 16 << 20, "the watcher stood on the way"
            assert bool(seen["found"]) is expected, (tls, seen)
            for name in (source, target):
                files = await found.host(name).run(["find", found.host(name).runtime_directory, "-name", "*.pem"])
                assert files.text == "", "a key is on a host for as long as it takes to read it"
            assert await asyncio.to_thread(keys, lab, target) == []
    lab.directory.path.joinpath(authority.FILE).stat()
    await asyncio.to_thread(lab.assert_once, target)


def test_keys_that_a_killed_command_left_are_taken_back(lab: Bench) -> None:
    source, target = lab.ends()
    killed = lab.attempt(target, "signal:SIGKILL", "moving", "--tls", "on", "--downtime-limit", "5 s")
    assert killed.returncode == -9, killed
    assert keys(lab, source) == [CREDENTIALS] == keys(lab, target)
    assert "was undone" in lab.run("start", GUEST).err
    lab.assert_once(source)
    assert keys(lab, source) == []


def _files(change: Callable[[str, Key, datetime], tuple[Key, Key]]) -> Callable[..., Mapping[str, bytes]]:
    """As ``authority.files``; *change* says by which authority and with which key for a host."""

    def files(authority_key: Key, host: str, address: str, now: datetime) -> Mapping[str, bytes]:
        above, made = change(host, authority_key, now)
        ends = ("server", "client")
        return {
            "ca-cert.pem": above.certificate,
            **{f"{end}-cert.pem": made.certificate for end in ends},
            **{f"{end}-key.pem": made.key for end in ends},
        }

    return files


def _key(above: Key, host: str, now: datetime) -> tuple[Key, Key]:
    return above, certificates.new_host_key(above, host, [], now)


OTHER = certificates.new_authority("another", datetime.now(UTC))
LONG_AGO = timedelta(days=40)


async def _refused(lab: Bench, monkeypatch: pytest.MonkeyPatch, *says: str, tls: str = "on") -> str:
    """A move fails with a sentence that has all of *says*; the guest stays, whole and alone."""
    async with opened(lab, monkeypatch) as (found, source, target):
        settings = Settings(options=AMPLE, tls="on" if tls == "on" else "off")
        outcome = await found.attempt(GUEST, target, settings)
    assert outcome.failure is not None and outcome.failure.exit_code == 6, outcome.failure
    message = outcome.failure.message
    assert all(part.format(source=source, target=target) in message for part in says), message
    assert f"{GUEST} is on {source}" in message
    await asyncio.to_thread(lab.assert_once, source)
    return message


async def test_a_wrong_authority_is_refused(lab: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    _, target = await asyncio.to_thread(lab.ends)
    strange = _files(lambda host, above, now: _key(OTHER if host == target else above, host, now))
    monkeypatch.setattr(authority, "files", strange)
    await _refused(lab, monkeypatch, "the key of {target} is of an authority that {source} does not know", "says: ")


async def test_another_hosts_key_is_refused_on_either_side(lab: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = await asyncio.to_thread(lab.ends)
    for side, says in (
        (target, "who answers at the address of {target} has another host's key, not that of {target}"),
        (source, "{target} admits only {source}, and the key that came is that of CN=host3"),
    ):
        mixed = _files(lambda host, above, now, side=side: _key(above, "host3" if host == side else host, now))
        monkeypatch.setattr(authority, "files", mixed)
        await _refused(lab, monkeypatch, says)


async def test_an_expired_key_is_refused(lab: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """By limosa, in words, and by QEMU where limosa would not."""
    source, target = await asyncio.to_thread(lab.ends)
    for side in (source, target):
        old = _files(lambda host, above, now, side=side: _key(above, host, now - LONG_AGO if host == side else now))
        monkeypatch.setattr(authority, "files", old)
        await _refused(lab, monkeypatch, f"by the clock of {side} it is", "expired on")
    monkeypatch.setattr(certificates.Certificate, "wrong_at", lambda *_: "")
    await _refused(lab, monkeypatch, "has expired")


async def test_a_plain_sender_is_refused(lab: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Transport.parameters

    def plain_source(self: Transport, side: Side) -> dict[str, object]:
        return told(TCP if side == "source" else self, side)

    monkeypatch.setattr(Transport, "parameters", plain_source)
    await _refused(lab, monkeypatch, "what reached {target} was not encrypted, and it takes nothing else")


async def test_an_encrypting_sender_is_refused_where_none_is_expected(
    lab: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Transport.parameters

    def plain_target(self: Transport, side: Side) -> dict[str, object]:
        return told(TCP if side == "target" else self, side)

    monkeypatch.setattr(Transport, "parameters", plain_target)
    await _refused(lab, monkeypatch, "{source} encrypts and {target} does not expect that")


def _listening(pid: int) -> list[tuple[str, int]]:
    """The addresses and ports on which something listens, as the process *pid* sees them."""
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        address, port = local.split(":")
        if state == "0A":  # TCP_LISTEN
            found.append((socket.inet_ntoa(struct.pack("<I", int(address, 16))), int(port, 16)))
    return [(address, port) for address, port in found if port in guard.PORTS]


async def test_a_target_listens_only_while_it_expects_a_stream(lab: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS too: at its address in the network that only migration takes, from when it is told to until then."""
    listening = dict[str, list[tuple[str, int]]]()

    def look(event: Event) -> None:
        if isinstance(event, MigrationPhaseChanged):
            listening[event.phase] = _listening(lab.host(event.target).keeper.pid)

    async with opened(lab, monkeypatch, look) as (found, _, target):
        pid, expected = lab.host(target).keeper.pid, found.hosts.address(target, "mig")
        await found.migrate(GUEST, target, Settings(options=AMPLE, tls="off"))
    assert listening["starting-target"] == [] == listening["preparing"]
    ((address, _port),) = listening["moving"]
    assert address == expected
    assert listening["ending-source"] == [] == _listening(pid)


def test_own_keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder with keys on each host: taken when they are right, told of beforehand when they are not."""
    folder, now = tmp_path_factory.mktemp("o"), datetime.now(UTC)
    mine = certificates.new_authority("mine", now)

    def put(host: str, made: Key, above: Key = mine) -> None:
        place = folder / host
        place.mkdir(exist_ok=True)
        for end in ("server", "client"):
            (place / f"{end}-cert.pem").write_bytes(made.certificate)
            (place / f"{end}-key.pem").write_bytes(made.key)
        (place / "ca-cert.pem").write_bytes(above.certificate)

    for host in ("host1", "host2"):
        put(host, certificates.new_host_key(mine, host, [], now))
    hosts = ", ".join(f"{host}: {{tls: {folder / host}}}" for host in ("host1", "host2"))
    guest = "{host: host1, image: bare, memory: 64 MiB, accel: tcg}"
    with bench(folder, f"name: own\nhosts: {{{hosts}}}\nguests: {{{GUEST}: {guest}}}\n", "own") as made:
        words = ("--downtime-limit", "5 s", "--tls", "on")
        made.migrate("host2", *words)
        made.assert_once("host2")
        assert (folder / "host1" / "client-key.pem").exists(), "they are the user's"
        assert not made.directory.path.joinpath(authority.FILE).exists(), "no authority is needed"
        here = certificates.new_host_key(mine, "host1", [], now)
        assert made.findings("host1", *words, check="TLS names") == []
        for key, above, says in (
            (certificates.new_host_key(mine, "host1", [], now - LONG_AGO), mine, "of host1 expired on"),
            (certificates.new_host_key(OTHER, "host1", [], now), mine, "is of another authority than the one in"),
            (certificates.new_host_key(OTHER, "host1", [], now), OTHER, "is of an authority that host2 does not know"),
            (certificates.new_host_key(mine, "host3", [], now), mine, "is for another host: it vouches for host3"),
            (Key(certificate=here.certificate, key=OTHER.key), mine, "is not the key of the certificate beside it"),
        ):
            put("host1", key, above)
            said = made.findings("host1", *words, check="TLS names", expect=3)
            assert any(says in sentence for sentence in said), said
            refused = made.migrate("host1", *words, expect=3).result["error"]
            assert refused.partition(", where it is")[0] == said[0].partition(", where it is")[0]
            made.assert_once("host2")
        (folder / "host1" / "server-key.pem").unlink()
        said = made.findings("host1", *words, check="TLS names", expect=3)
        assert len(said) == 1 and "cannot be read: server-key.pem: No such file" in said[0]
        assert made.migrate("host1", *words, expect=3).result["error"] == said[0]
        assert made.findings("host1", *words[:-1], "off", check="TLS names") == [], "nobody needs them"
        made.assert_once("host2")
