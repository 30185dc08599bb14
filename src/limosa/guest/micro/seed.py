"""What belongs to one guest and never to the image: its keys, its name and its address.

The seed is an archive appended to the image's initramfs when the guest is made, so that the disk holds no key
and a copied disk no identity. The first program carries it to /run, which is memory.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import struct

from limosa.errors import SpecError
from limosa.guest.micro import cpio

_KEY_MAGIC = b"openssh-key-v1\0"
_KEY_TYPE = b"ssh-ed25519"


def seed(
    *,
    hostname: str,
    address_cidr: str,
    gateway: str | None,
    mac: str,
    authorized_keys: str,
    host_key: str,
) -> bytes:
    """The archive to append to the image's ``initrd`` file.

    *address_cidr* is IPv4 with the prefix length, ``10.77.1.20/24``; *mac* names the interface that gets it;
    *host_key* is the text of an unencrypted OpenSSH Ed25519 private key. SpecError for other values.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,62})", hostname):
        raise SpecError(f"{hostname!r} is no host name", hint="use small letters, digits and hyphens")
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac.lower()):
        raise SpecError(f"{mac!r} is no MAC address", hint="write six pairs of hexadecimal digits, 52:54:00:00:00:01")
    try:
        address = ipaddress.IPv4Interface(address_cidr)
        router = str(ipaddress.IPv4Address(gateway)) if gateway else ""
    except ValueError as error:
        raise SpecError(f"{error}", hint="write IPv4, as in 10.77.1.20/24") from error
    network = f"MAC={mac.lower()}\nADDRESS={address.with_prefixlen}\nGATEWAY={router}\n"
    return cpio.pack(
        [
            cpio.directory("limosa"),
            cpio.directory("limosa/ssh", 0o700),
            cpio.file("limosa/hostname", f"{hostname}\n".encode()),
            cpio.file("limosa/network", network.encode()),
            cpio.file("limosa/ssh/authorized_keys", f"{authorized_keys.strip()}\n".encode(), 0o600),
            cpio.file("limosa/ssh/host_key", dropbear_key(host_key), 0o600),
        ]
    )


def dropbear_key(openssh_key: str) -> bytes:
    """An Ed25519 private key in the format of dropbear's key files, from OpenSSH's (PROTOCOL.key of OpenSSH).

    Dropbear keeps two SSH strings: the key's type, and the 32-byte seed followed by the 32-byte public key.
    SpecError when the key is of another type or encrypted.
    """
    try:
        body = "".join(line for line in openssh_key.split("\n") if not line.startswith("-----"))
        data = base64.b64decode(body, validate=True)
        if not data.startswith(_KEY_MAGIC):
            raise ValueError("not an OpenSSH private key")
        fields = data[len(_KEY_MAGIC) :]
        cipher, fields = _string(fields)
        _kdf, fields = _string(fields)
        _kdf_options, fields = _string(fields)
        (count,) = struct.unpack_from(">I", fields)
        _public, fields = _string(fields[4:])
        private, _rest = _string(fields)
        if cipher != b"none" or count != 1:
            raise ValueError("the key is encrypted, or there are several")
        kind, fields = _string(private[8:])
        if kind != _KEY_TYPE:
            raise ValueError(f"the key's type is {kind.decode(errors='replace')}, not ssh-ed25519")
        _public, fields = _string(fields)
        pair, _comment = _string(fields)
        if len(pair) != 64:
            raise ValueError("the key has a wrong length")
    except (ValueError, struct.error) as error:
        raise SpecError(
            f"the guest's host key cannot be used: {error}",
            hint="remove host_key from the folder `keys` of the lab's state directory: the next start makes another",
        ) from error
    return _packed(_KEY_TYPE) + _packed(pair)


def _string(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack_from(">I", data)
    if len(data) < 4 + length:
        raise ValueError("the key is cut off")
    return data[4 : 4 + length], data[4 + length :]


def _packed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
