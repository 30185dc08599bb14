"""Keys and certificates by which two QEMUs know each other: made, read and judged here. Pure but for randomness.

A lab has an authority of its own, whose key nobody but its controller has. It vouches for a key of each host, which can
both serve and connect, as a host that a guest came to is the one that it leaves from later. Elliptic curves (P-256),
as a key takes a millisecond. ``cryptography`` is loaded by whoever imports this, and that takes a tenth of a second, so
only a migration with TLS does.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Sequence

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from limosa.errors import LimosaError

BACK_DATED = datetime.timedelta(days=1)
"""How far a machine's clock may be behind the controller's."""
HOST_KEY = datetime.timedelta(days=30)
"""How long a host's key is good for: far longer than a move, with all that its link may be down in post-copy."""
AUTHORITY = datetime.timedelta(days=3650)
RENEWED = datetime.timedelta(days=90)
"""An authority that is good for less than this is made anew."""


class Key(msgspec.Struct, frozen=True):
    """A private key and the certificate for it, both PEM."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Key(...)"  # nothing that is printed shows it


class Certificate(msgspec.Struct, frozen=True):
    """What a certificate says of its holder."""

    subject: str
    """Its distinguished name, as gnutls and so QEMU's ``authz-simple`` spell it: ``CN=host1``."""
    names: tuple[str, ...]
    """The names and addresses that it vouches for."""
    since: datetime.datetime
    until: datetime.datetime

    def wrong_at(self, moment: datetime.datetime) -> str:
        """Why it is not valid at *moment* (aware), in words; empty while it is."""
        if moment < self.since:
            return f"is not valid before {self.since:%Y-%m-%d %H:%M} UTC"
        if moment > self.until:
            return f"expired on {self.until:%Y-%m-%d %H:%M} UTC"
        return ""


def new_authority(lab: str, now: datetime.datetime) -> Key:
    """An authority for the hosts of *lab*, which is valid for ten years from *now* (aware)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(f"limosa lab {lab}")
    builder = _builder(name, name, key.public_key(), now, AUTHORITY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return _finished(builder.add_extension(own, critical=False), key, key)


def new_host_key(
    authority: Key,
    host: str,
    addresses: Iterable[str],
    now: datetime.datetime,
    *,
    good_for: datetime.timedelta = HOST_KEY,
) -> Key:
    """A key for *host*, which *authority* vouches for under its name and IP *addresses*. Raises LimosaError."""
    issuer, issuer_key = _loaded(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(host)]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _builder(_named(host), issuer.subject, key.public_key(), now, good_for)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return _finished(builder.add_extension(above, critical=False), key, issuer_key)


def is_usable(authority: Key, now: datetime.datetime) -> bool:
    """Whether *authority* can vouch for keys: whole, its key and certificate belong together, and not near its end."""
    try:
        certificate, key = _loaded(authority)
    except LimosaError:
        return False
    belongs = certificate.public_key() == key.public_key()
    return belongs and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEWED


def read(pem: bytes, what: str) -> Certificate:
    """What the first certificate in *pem* says. Raises LimosaError, which calls it *what*."""
    return _read(_certificate(pem, what))


def vouched_for(pem: bytes, authorities: bytes) -> bool:
    """Whether one of *authorities* (PEM) signed a certificate in *pem*, which may be a chain. Raises LimosaError.

    Each link of a chain is for QEMU to check: the answer is only good for a sentence beforehand.
    """
    _certificate(pem, "the certificate")
    try:
        trusted = x509.load_pem_x509_certificates(authorities)
    except ValueError as error:
        raise LimosaError(f"there is no certificate of an authority that can be read: {error}") from error
    return any(_signed(each, above) for each in x509.load_pem_x509_certificates(pem) for above in trusted)


def _signed(certificate: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _read(certificate: x509.Certificate) -> Certificate:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names: Sequence[str] = [
            *found.get_values_for_type(x509.DNSName),
            *map(str, found.get_values_for_type(x509.IPAddress)),
        ]
    except x509.ExtensionNotFound:
        names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return Certificate(
        _spelled(certificate.subject), tuple(names), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    )


def _spelled(name: x509.Name) -> str:
    """As gnutls spells it (seen with QEMU 7.2, 10.0 and 11.1): in the order in which it is written, not the reverse."""
    return ",".join(part.rfc4514_string({NameOID.EMAIL_ADDRESS: "EMAIL"}) for part in name.rdns)


def _certificate(pem: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise LimosaError(f"{what} is no certificate that can be read: {error}", hint="it has to be PEM") from error


def _loaded(authority: Key) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _certificate(authority.certificate, "the authority's certificate")
    try:
        key = serialization.load_pem_private_key(authority.key, password=None)
    except (ValueError, TypeError) as error:
        raise LimosaError(f"the authority's key cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise LimosaError("the authority's key is of a kind that is not made here")
    return certificate, key


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])  # as long as X.520 lets it be


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    good_for: datetime.timedelta,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - BACK_DATED).not_valid_after(now + good_for)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    # QEMU takes no key without keyEncipherment, of whatever kind (its crypto/tlscredsx509.c).
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _finished(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
) -> Key:
    certificate = builder.sign(issuer_key, hashes.SHA256())
    private = serialization.PrivateFormat.PKCS8
    pem = serialization.Encoding.PEM
    return Key(certificate.public_bytes(pem), key.private_bytes(pem, private, serialization.NoEncryption()))
