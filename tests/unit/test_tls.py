"""Keys and what is judged of them, and the words for two QEMUs that do not come together."""

from __future__ import annotations

import asyncio
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from limosa.errors import MachineError
from limosa.lab import authority
from limosa.lab.record import LabDirectory
from limosa.migration import certificates, credentials, tls_faults
from limosa.migration.certificates import Key
from limosa.migration.transport import ADMITTED, CREDENTIALS, TCP, Transport
from limosa.spec.resolved import Host, encrypts
from tests.local_host import LocalHost

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
LAB = certificates.new_authority("lab", NOW)
ENCRYPTED = Transport(kind="tls", expected="host2", admitted="CN=host1")


def key(host: str = "host1", *, of: Key = LAB, now: datetime = NOW) -> Key:
    return certificates.new_host_key(of, host, ["10.77.1.11"], now)


def test_a_host_key_can_serve_and_connect_and_names_its_host() -> None:
    loaded = x509.load_pem_x509_certificate(key().certificate)
    usages = loaded.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} == set(usages)
    usage = loaded.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_encipherment and usage.digital_signature and not usage.key_cert_sign
    found = certificates.read(key().certificate, "it")
    assert (found.subject, found.names) == ("CN=host1", ("host1", "10.77.1.11"))
    assert certificates.vouched_for(key().certificate, LAB.certificate)
    assert not certificates.vouched_for(key().certificate, certificates.new_authority("lab", NOW).certificate)


def test_no_key_is_shown_when_it_is_printed() -> None:
    assert "PRIVATE" not in repr(LAB) and "PRIVATE" not in str([LAB])


@pytest.mark.parametrize(
    ("clock", "why"),
    [
        (NOW, ""),
        (NOW - timedelta(hours=23), ""),
        (NOW + timedelta(days=29), ""),
        (NOW - timedelta(hours=25), "is not valid before 2030-05-31 12:00 UTC"),
        (NOW + timedelta(days=31), "expired on 2030-07-01 12:00 UTC"),
    ],
)
def test_a_clock_may_differ_by_a_day(clock: datetime, why: str) -> None:
    assert certificates.read(key().certificate, "it").wrong_at(clock) == why


def test_a_subject_is_spelled_as_gnutls_does() -> None:
    """What QEMU 7.2, 10.0 and 11.1 wrote to their logs for this one ("authz check for ... is denied")."""
    parts = [
        (NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, 'A, B + "C" Ä'),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, " x"), (NameOID.EMAIL_ADDRESS, "a@b.c"), (NameOID.COMMON_NAME, "host1"),
    ]  # fmt: skip
    name = x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])
    assert certificates._spelled(name) == 'C=DE,O=A\\, B \\+ \\"C\\" Ä,OU=\\ x,EMAIL=a@b.c,CN=host1'


def test_the_authority_is_kept_with_the_controller(tmp_path: Path) -> None:
    directory = LabDirectory(tmp_path)
    made = authority.of(directory, NOW)
    file = tmp_path / authority.FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert authority.of(directory, NOW + timedelta(days=300)) == made, "it is made once"
    assert authority.of(directory, NOW + timedelta(days=3600)) != made, "and again near its end"
    kept = file.read_bytes()
    file.write_bytes(kept[: len(kept) // 2])
    renewed = authority.of(directory, NOW)
    assert certificates.is_usable(renewed, NOW) and authority.of(directory, NOW) == renewed
    other = certificates.new_authority("lab", NOW)
    file.write_bytes(other.key + renewed.certificate)
    assert authority.of(directory, NOW).certificate != renewed.certificate, "a key that is another's is no use"


def test_an_authority_does_not_vouch_for_a_second_one() -> None:
    loaded = x509.load_pem_x509_certificate(LAB.certificate)
    assert loaded.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    host = x509.load_pem_x509_certificate(key().certificate)
    assert not host.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert isinstance(host.public_key(), ec.EllipticCurvePublicKey)


def test_what_both_sides_are_told() -> None:
    assert ENCRYPTED.parameters("source") == {"tls-creds": CREDENTIALS, "tls-hostname": "host2", "tls-authz": ""}
    assert ENCRYPTED.parameters("target") == {"tls-creds": CREDENTIALS, "tls-hostname": "", "tls-authz": ADMITTED}
    assert set(TCP.parameters("target").values()) == {""} == set(TCP.parameters("source").values())
    (source,) = ENCRYPTED.objects("source", "/d")
    target, admits = ENCRYPTED.objects("target", "/d")
    assert (source["endpoint"], target["endpoint"]) == ("client", "server")
    assert source["verify-peer"] and target["verify-peer"] and admits["identity"] == "CN=host1"
    assert TCP.objects("source", "/d") == []


async def test_files_are_for_nobody_else(tmp_path: Path) -> None:
    host, folder = LocalHost("host1"), tmp_path / "run" / "tls"
    folder.mkdir(parents=True)
    (folder / "left").write_text("by a command that was killed")
    now = datetime.now(UTC)
    made = certificates.new_authority("lab", now)
    files = authority.files(made, "host1", "10.77.1.11", now)
    await credentials.place(host, str(folder), files, "source")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict(files)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    secret = files["client-key.pem"].decode().splitlines()[1]
    assert not any(secret in word for argv in host.ran for word in argv), "no key is in a command line"


async def test_a_machine_whose_clock_is_wrong_is_told_of(tmp_path: Path) -> None:
    made = certificates.new_authority("lab", NOW)  # this machine's clock is years off, as these keys see it
    files = authority.files(made, "host1", "10.77.1.11", NOW)
    with pytest.raises(MachineError) as caught:
        await credentials.place(LocalHost("host1"), str(tmp_path / "tls"), files, "source")
    assert "by the clock of host1" in caught.value.message and "set the clock of host1" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("TLS x509 authz check for CN=host3 is denied\nBroken pipe", "the key that came is that of CN=host3"),
        ("\nThe certificate hasn't got a known issuer", "the key of b is of an authority that a does not know"),
        ("Not a migration stream\nCertificate does not match the hostname b", "has another host's key, not that of b"),
        ("The client certificate /x/client-cert.pem has expired", "a key has expired"),
        ("The server certificate /x is not yet active", "a key is not valid yet"),
        ("TLS handshake failed: An unexpected TLS packet was received.\nreset", "reached b was not encrypted"),
        ("load of migration failed: Not a migration stream", "a encrypts and b does not expect that"),
        ("load of migration failed: Invalid argument\nTLS handshake failed: It was.", "a encrypts and b does not"),
        ("No space left on device", ""),
    ],
)
def test_causes_in_words(said: str, wanted: str) -> None:
    sentence, _ = tls_faults.cause(said, "a", "b")
    assert wanted in sentence and bool(wanted) == bool(sentence)


NAMESPACE = Host("a")
CONTAINER = Host("b", kind="incus", image="i")
ELSEWHERE = Host("c", kind="incus", image="i", remote="https://c:8443")
MACHINE = Host("d", kind="ssh", machine="d")


@pytest.mark.parametrize(
    ("hosts", "leaves"),
    [
        ((NAMESPACE, NAMESPACE), False),
        ((CONTAINER, NAMESPACE), False),
        ((CONTAINER, ELSEWHERE), True),
        ((ELSEWHERE, ELSEWHERE), True),
        ((NAMESPACE, MACHINE), True),
        ((MACHINE, MACHINE), True),
    ],
)
def test_a_stream_that_leaves_this_machine_is_encrypted_unless_somebody_says_no(
    hosts: tuple[Host, Host], leaves: bool
) -> None:
    assert encrypts("auto", *hosts) is leaves is encrypts("auto", *reversed(hosts))
    assert encrypts("on", *hosts) and not encrypts("off", *hosts)


def test_cryptography_is_not_loaded_by_a_plain_migration() -> None:
    """It takes a tenth of a second: what a move imports has to do without, unless the stream is encrypted."""

    async def loaded() -> str:
        program = (
            "import sys, limosa.cli.migrate, limosa.lab.move, limosa.lab.stream_keys, limosa.migration.driver, "
            "limosa.migration.credentials, limosa.migration.methods.pre_copy; "
            "print([name for name in sys.modules if name.partition('.')[0] == 'cryptography'])"
        )
        host = LocalHost()
        return (await host.run([host.python, "-c", program])).text

    assert asyncio.run(loaded()).strip() == "[]"
