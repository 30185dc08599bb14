"""The lab's own authority, which vouches for its hosts' keys. Its key is in the lab's state directory and nowhere else,
and goes with it; what it signs is made anew for each move."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from limosa import durable, paths
from limosa.lab.record import LabDirectory
from limosa.migration import certificates
from limosa.migration.certificates import Key

FILE = "authority.pem"
"""Its key and its certificate; mode 0600."""

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


def of(directory: LabDirectory, now: datetime.datetime) -> Key:
    """The lab's authority, made when it is first needed, and anew when it is damaged or near its end: whatever it
    vouched for before is of no use to anybody. Raises MachineError where it cannot be kept."""
    path = directory.path / FILE
    try:
        if (found := _read(directory)) is not None and certificates.is_usable(found, now):
            return found
        made = certificates.new_authority(directory.name, now)
        data = made.key + made.certificate
        if found is None and not durable.create(path, data):  # another command has just made one
            return _read(directory) or made
        if found is not None:
            durable.replace(path, data)
    except OSError as error:
        raise paths.cannot_write(error, path) from error
    return made


def files(authority: Key, host: str, address: str, now: datetime.datetime) -> Mapping[str, bytes]:
    """What QEMU looks for in a folder with the keys of *host*, by the file's name. It can serve and connect with it."""
    made = certificates.new_host_key(authority, host, [address] if _is_address(address) else [], now)
    own = {f"{end}-cert.pem": made.certificate for end in ("server", "client")}
    keys = {f"{end}-key.pem": made.key for end in ("server", "client")}
    return {"ca-cert.pem": authority.certificate, **own, **keys}


def _is_address(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _read(directory: LabDirectory) -> Key | None:
    """None where there is none."""
    try:
        key, begins, rest = (directory.path / FILE).read_bytes().partition(_CERTIFICATE)
    except FileNotFoundError:
        return None
    return Key(certificate=begins + rest, key=key)
