"""The seed of a guest: what is in it, and that the keys are what the programs expect."""

from __future__ import annotations

import asyncio
import shutil
import stat
from pathlib import Path

import pytest

from limosa import process
from limosa.errors import SpecError
from limosa.guest import lab_keys
from limosa.guest.lab_keys import LabKeys
from limosa.guest.micro import seed as seeds
from tests.unit.test_micro_cpio import read

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
GIVEN = {
    "hostname": "guest1",
    "address_cidr": "10.77.1.20/24",
    "gateway": None,
    "mac": "52:54:00:AA:00:01",
    "authorized_keys": "ssh-ed25519 AAAA limosa-user",
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> LabKeys:
    return asyncio.run(lab_keys.make(tmp_path_factory.mktemp("keys") / "keys"))


def test_the_seed_holds_name_address_and_keys_for_root_alone(keys: LabKeys) -> None:
    found = read(seeds.seed(**GIVEN, host_key=keys.host_key.read_text()))  # type: ignore[arg-type]
    assert found["limosa/hostname"][3] == b"guest1\n"
    assert found["limosa/network"][3] == b"MAC=52:54:00:aa:00:01\nADDRESS=10.77.1.20/24\nGATEWAY=\n"
    assert found["limosa/ssh/authorized_keys"][3] == b"ssh-ed25519 AAAA limosa-user\n"
    for name in ("limosa/ssh/authorized_keys", "limosa/ssh/host_key"):
        assert stat.S_IMODE(found[name][0]) == 0o600
    assert stat.S_IMODE(found["limosa/ssh"][0]) == 0o700


def test_a_gateway_is_optional(keys: LabKeys) -> None:
    given = GIVEN | {"gateway": "10.77.1.1"}
    found = read(seeds.seed(**given, host_key=keys.host_key.read_text()))  # type: ignore[arg-type]
    assert b"GATEWAY=10.77.1.1\n" in found["limosa/network"][3]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hostname", "no spaces"),
        ("hostname", ""),
        ("hostname", "a;reboot"),
        ("mac", "52:54:00"),
        ("mac", "52:54:00:00:00:01\nx"),
        ("address_cidr", "10.77.1.300/24"),
        ("address_cidr", "fe80::1/64"),
        ("gateway", "$(reboot)"),
    ],
)
def test_a_value_that_the_guest_could_misread_is_refused(keys: LabKeys, key: str, value: str) -> None:
    with pytest.raises(SpecError):
        seeds.seed(**GIVEN | {key: value}, host_key=keys.host_key.read_text())  # type: ignore[arg-type]


def test_the_dropbear_key_holds_the_same_public_key(keys: LabKeys) -> None:
    import base64

    public = base64.b64decode(keys.host_key.with_suffix(".pub").read_text().split()[1])
    converted = seeds.dropbear_key(keys.host_key.read_text())
    assert converted.startswith(b"\0\0\0\x0bssh-ed25519\0\0\0\x40") and len(converted) == 15 + 4 + 64
    assert converted[-32:] == public[-32:]


async def test_keys_of_another_kind_are_refused(tmp_path: Path, keys: LabKeys) -> None:
    await process.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "ecdsa")])
    await process.run(
        [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-Z",
            "aes256-ctr",
            "-a",
            "1",
            "-N",
            "secret",
            "-f",
            str(tmp_path / "locked"),
        ]
    )
    whole = keys.host_key.read_text()
    for text in (
        (tmp_path / "ecdsa").read_text(),
        (tmp_path / "locked").read_text(),
        "",
        "no key",
        whole[:120],
    ):
        with pytest.raises(SpecError, match="host key"):
            seeds.dropbear_key(text)


async def test_keys_are_made_once_and_private(tmp_path: Path) -> None:
    first = await lab_keys.make(tmp_path / "keys")
    before = first.user_key.read_bytes(), first.host_key.read_bytes()
    again = await lab_keys.make(tmp_path / "keys")
    assert (again.user_key.read_bytes(), again.host_key.read_bytes()) == before
    assert before[0] != before[1]
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE(first.user_key.stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == [
        "host_key",
        "host_key.pub",
        "user_key",
        "user_key.pub",
    ]


async def test_ssh_keygen_finds_the_guest_in_known_hosts(tmp_path: Path, keys: LabKeys) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(keys.known_hosts("10.77.1.20", "127.0.0.1", port=2222))
    found = await process.run(["ssh-keygen", "-F", "[10.77.1.20]:2222", "-f", str(known)])
    assert keys.host_key.with_suffix(".pub").read_text().split()[1] in found.text
    assert keys.known_hosts("10.77.1.20").startswith("10.77.1.20 ssh-ed25519 ")
