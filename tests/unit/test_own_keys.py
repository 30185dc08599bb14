"""Keys of the user's own: looked at on their host, and what would keep two hosts from coming together by them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec.structs import replace

from limosa.errors import MachineError
from limosa.lab import authority
from limosa.migration import certificates, credentials, key_look, own_keys
from limosa.migration.certificates import Key
from limosa.migration.own_keys import Shown
from limosa.migration.transport import ADMITTED, CREDENTIALS, Side, Transport
from limosa.process import Completed
from tests.local_host import LocalHost

NOW = datetime.now(UTC).replace(microsecond=0)
LAB = certificates.new_authority("lab", NOW)
OTHER = certificates.new_authority("other", NOW)
OLD = certificates.new_authority("old", NOW - timedelta(days=3700))
NAMES = ("10.77.1.12", "b")
HOST = LocalHost("b")


def key(host: str, *, of: Key = LAB, now: datetime = NOW) -> Key:
    return certificates.new_host_key(of, host, ["10.77.1.11"], now)


def put(folder: Path, **other: bytes) -> None:
    """All that a host needs; *other* files by their names without the ending."""
    for name, data in {**authority.files(LAB, "b", "10.77.1.12", NOW), **files(other)}.items():
        (folder / name).write_bytes(data)


def files(given: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name.replace('_', '-')}.pem": data for name, data in given.items()}


def private(kind: Any, password: bytes = b"") -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    made: bytes = kind.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    return made


async def test_what_is_right_is_seen_without_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path)
    found = await own_keys.shown(HOST, str(tmp_path), "target")
    assert found.certificate == (tmp_path / "server-cert.pem").read_bytes()
    assert found.authorities == LAB.certificate and found.unread == {} and found.key_fault == ""
    assert abs(found.clock - datetime.now(UTC)) < timedelta(minutes=10)
    assert "PRIVATE" not in json.dumps(key_look.look(str(tmp_path), "server"))
    assert own_keys.faults(replace(found, host="a", side="source"), found, NAMES) == []


@pytest.mark.parametrize("kind", ["elliptic curve", "RSA"])
async def test_a_key_is_that_of_its_certificate(tmp_path: Path, kind: str) -> None:
    other = rsa.generate_private_key(65537, 2048) if kind == "RSA" else None
    put(tmp_path, server_key=private(other) if other is not None else key("b").key)
    found = await own_keys.shown(HOST, str(tmp_path), "target")
    assert found.key_fault == "unlike"
    assert (await own_keys.shown(HOST, str(tmp_path), "source")).key_fault == "", "the client's is another file"


async def test_a_key_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    put(tmp_path)
    mine = serialization.load_pem_private_key((tmp_path / "server-key.pem").read_bytes(), None)
    put(tmp_path, server_key=private(mine, b"secret"))
    assert (await own_keys.shown(HOST, str(tmp_path), "target")).key_fault == "secret"
    put(tmp_path, server_key=b"nothing")
    assert (await own_keys.shown(HOST, str(tmp_path), "target")).key_fault not in {"", "secret", "unlike"}


async def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / "client-key.pem").unlink()
    assert (await own_keys.shown(HOST, str(tmp_path), "target")).unread == {}
    found = await own_keys.shown(HOST, str(tmp_path), "source")
    assert found.unread == {"client-key.pem": "No such file or directory"}
    assert len((await own_keys.shown(HOST, str(tmp_path / "none"), "source")).unread) == 3


def test_a_python_without_ssl_says_nothing_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, server_key=key("b").key)
    monkeypatch.setitem(sys.modules, "ssl", None)
    assert key_look.look(str(tmp_path), "server")["key"] == ""


class Liar(LocalHost):
    """A host whose Python says what it likes."""

    async def run(self, argv: Sequence[str], **_: Any) -> Completed:
        return Completed(tuple(argv), 0, b'{"time_s": 1e99, "files": 7}', b"", 0.0)


async def test_what_is_no_answer_is_an_error_of_ours() -> None:
    with pytest.raises(MachineError, match="did not tell what is in /k"):
        await own_keys.shown(Liar("b"), "/k", "target")


def own(host: str, made: Key, *, trusts: Key = LAB, side: Side = "source", **other: Any) -> Shown:
    given = {"clock": NOW, "authorities": trusts.certificate, "certificate": made.certificate, **other}
    return Shown(host=host, folder=f"/etc/{host}", side=side, **given)


RIGHT = own("a", key("a")), own("b", key("b"), side="target")


def test_keys_that_go_together() -> None:
    assert own_keys.faults(*RIGHT, NAMES) == []
    found = own_keys.transport(*RIGHT, NAMES)
    end_s = (NOW + certificates.HOST_KEY).timestamp()
    assert found == Transport(
        kind="tls", expected="b", admitted="CN=a", source_keys="/etc/a", target_keys="/etc/b", good_until_s=end_s
    )  # fmt: skip
    sooner = replace(RIGHT[1], certificate=key("b", now=NOW - timedelta(days=9)).certificate)
    assert own_keys.transport(RIGHT[0], sooner, NAMES).good_until_s == end_s - 9 * 86400


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        (None, own("b", key("c")), ["is for another host: it vouches for c, 10.77.1.11"]),
        (own("a", key("a", now=NOW - timedelta(days=40))), None, ["/etc/a of a expired on "]),
        (None, own("b", key("b", now=NOW + timedelta(days=9))), ["of b is not valid before "]),
        (None, own("b", key("b"), clock=NOW + timedelta(days=99)), ["expired on ", "expired on "]),
        (
            None,
            own("b", key("b", of=OTHER), trusts=OTHER),
            ["of a is of an authority that b does not know", "of b is of an authority that a does not know"],
        ),
        (
            own("a", key("a", of=OTHER)),
            None,
            ["client-cert.pem of a is of another authority than the one in ca-cert.pem", "that b does not know"],
        ),
        (own("a", key("a", of=OLD)), None, ["of another authority", "authority that b does not know"]),
        (
            own("a", key("a", of=OLD), trusts=OLD),
            own("b", key("b", of=OLD), trusts=OLD),
            ["authority in /etc/a of a expired on ", "authority in /etc/b of b expired on "],
        ),
        (own("a", Key(certificate=b"no", key=b"")), None, ["client-cert.pem of a is no certificate"]),
        (None, own("b", key("b"), authorities=b""), ["ca-cert.pem of b is no certificate"]),
        (own("a", key("a"), key_fault="unlike"), None, ["client-key.pem of a is not the key of the certificate"]),
        (None, own("b", key("b"), key_fault="secret"), ["server-key.pem of b is closed by a password"]),
        (None, own("b", key("b"), key_fault="NO_START_LINE"), ["is no key that can be read: NO_START_LINE"]),
        (
            own("a", key("a"), unread={"client-key.pem": "Permission denied"}),
            None,
            ["the keys of a (`tls: /etc/a`) cannot be read: client-key.pem: Permission denied"],
        ),
    ],
    ids=[
        *("name", "expired", "early", "clock", "authorities", "own authority", "old", "authority expired", "garbage"),
        *("no authority", "key", "password", "no key", "unread"),
    ],
)  # fmt: skip
def test_keys_that_do_not(source: Shown | None, target: Shown | None, says: list[str]) -> None:
    """All that is wrong is told at once; with the first of it the move is refused."""
    both = source or RIGHT[0], replace(target, side="target") if target else RIGHT[1]
    found = own_keys.faults(*both, NAMES)
    assert len(found) == len(says), found
    assert all(words in told and fix for words, (told, fix) in zip(says, found, strict=True)), found
    with pytest.raises(MachineError) as caught:
        own_keys.transport(*both, NAMES)
    assert caught.value.message == found[0][0]


class Told:
    """A QEMU that does as it is told."""

    def __init__(self, side: str, told: list[tuple[str, str, str]]) -> None:
        self.host, self.guest, self.control = HOST, "web", self
        self._side, self._told = side, told

    async def execute(self, command: str, given: dict[str, Any]) -> None:
        self._told.append((self._side, command, given.get("identity", given["id"])))


async def test_both_sides_get_what_lies_in_their_folders_by_now_the_target_first(tmp_path: Path) -> None:
    """It may be of another name. What is not right is not given to anybody."""
    put(tmp_path)
    before = Transport(
        kind="tls", expected="b", admitted="CN=a", source_keys=str(tmp_path), target_keys=str(tmp_path)
    )  # fmt: skip
    told: list[tuple[str, str, str]] = []
    held = credentials.Credentials(before, lambda _: {})
    source, target = cast(Any, Told("source", told)), cast(Any, Told("target", told))
    await held.renew(source, target)
    gone = [("object-del", CREDENTIALS), ("object-del", ADMITTED)]
    assert told == [
        *(("target", *each) for each in (*gone, ("object-add", CREDENTIALS), ("object-add", "CN=b"))),
        *(("source", *each) for each in (*gone, ("object-add", CREDENTIALS))),
    ]
    told.clear()
    put(tmp_path, client_key=key("b").key)
    with pytest.raises(MachineError, match=r"client-key\.pem of b is not the key of the certificate"):
        await held.renew(source, target)
    assert told == []


@pytest.mark.parametrize(("age", "worn"), [(0, False), (29, False), (31, True)])
async def test_keys_are_known_to_be_worn_by_their_end(age: int, worn: bool) -> None:
    """Of keys that another command gave, by when it began."""
    now_s, day_s = datetime.now(UTC).timestamp(), 86400.0
    own = Transport(kind="tls", source_keys="/k", target_keys="/k", good_until_s=now_s + (30 - age) * day_s)
    assert credentials.Credentials(own, lambda _: {}).worn(now_s) is worn
    made = Transport(kind="tls", expected="b", admitted="CN=b")
    assert credentials.Credentials(made, lambda _: {}).worn(now_s - age * day_s) is worn


async def test_keys_that_were_given_anew_are_not_worn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HOST, "runtime_directory", str(tmp_path))
    held = credentials.Credentials(
        Transport(kind="tls", expected="b", admitted="CN=b"), lambda _: authority.files(LAB, "b", "", NOW)
    )  # fmt: skip
    begun_s = (NOW - timedelta(days=99)).timestamp()
    assert held.worn(begun_s)
    await held.renew(cast(Any, Told("source", [])), cast(Any, Told("target", [])))
    assert not held.worn(begun_s)
