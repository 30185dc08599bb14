"""Keys of the user's own, in a folder on each host (``tls:`` in a lab file): looked at where they are, and judged.

What QEMU would find only once both sides meet, and often says on one side alone, is told before anything begins.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limosa import untrusted
from limosa.errors import LimosaError, MachineError
from limosa.hosts.host import Host
from limosa.migration import key_look
from limosa.migration.transport import ENDPOINT, Side, Transport

if TYPE_CHECKING:
    from limosa.migration.certificates import Certificate

LOOK_S = 30.0

Fault = tuple[str, str]
"""A sentence, and what helps."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What a host has in a folder of the user's, and its own time."""

    host: str
    folder: str
    side: Side
    clock: datetime.datetime
    authorities: bytes = b""
    """Certificates (PEM)."""
    certificate: bytes = b""
    unread: Mapping[str, str] = {}
    """Why a file could not be read, by its name."""
    key_fault: str = ""
    """As ``key_look`` tells it."""


class _Seen(msgspec.Struct):
    time_s: int
    files: dict[str, str]
    unread: dict[str, str]
    key: str


async def shown(host: Host, folder: str, side: Side) -> Shown:
    """What *host* has in *folder*. Raises LimosaError where it does not say."""
    program = Path(key_look.__file__).read_bytes()
    argv = [host.python, "-I", "-S", "-", folder, ENDPOINT[side]]
    done = await host.run(argv, stdin=program, timeout_s=LOOK_S)
    try:
        seen = untrusted.decode(done.stdout, type=_Seen)
        clock = datetime.datetime.fromtimestamp(seen.time_s, datetime.UTC)
    except (msgspec.DecodeError, ValueError, OverflowError, OSError) as error:
        raise MachineError(f"{host.name} did not tell what is in {folder}: {error}") from error
    return Shown(
        host=host.name,
        folder=folder,
        side=side,
        clock=clock,
        authorities=seen.files.get(key_look.AUTHORITY, "").encode(),
        certificate=seen.files.get(f"{ENDPOINT[side]}-cert.pem", "").encode(),
        unread=seen.unread,
        key_fault=seen.key,
    )


def faults(source: Shown, target: Shown, names: tuple[str, ...]) -> list[Fault]:
    """All with which the two would not come together; *names* are those by which the lab knows the target. Pure."""
    read: dict[Side, Certificate] = {}
    found: list[Fault] = []
    for one in (source, target):
        told, certificate = _of_one(one)
        found += told
        if certificate is not None:
            read[one.side] = certificate
    if len(read) < 2:
        return found
    for one, other in ((source, target), (target, source)):
        found += _between(one, read[one.side], other)
    return found + _of_name(target, read[target.side], names)


def _of_one(one: Shown) -> tuple[list[Fault], Certificate | None]:
    """What is wrong with one side by itself; its certificate, where that can be read."""
    from limosa.migration import certificates

    if one.unread:
        name, why = next(iter(one.unread.items()))
        return [_unread(one, name, why)], None
    found: list[Fault] = []
    if one.key_fault:
        found.append(_of_key(one))
    certificate = f"{one.folder}/{ENDPOINT[one.side]}-cert.pem of {one.host}"
    try:
        own = certificates.read(one.certificate, certificate)
        above = certificates.read(one.authorities, f"{one.folder}/{key_look.AUTHORITY} of {one.host}")
        if not certificates.vouched_for(one.certificate, one.authorities):
            told = f"{certificate} is of another authority than the one in {key_look.AUTHORITY} beside it"
            found.append((told, "QEMU takes no key without the certificate of the authority that signed it"))
    except LimosaError as error:
        return [*found, (error.message, error.hint)], None
    if why := above.wrong_at(one.clock):
        told = f"the certificate of the authority in {one.folder} of {one.host} {why}"
        found.append((told, f"renew it, or set the clock of {one.host}"))
    return found, own


def _unread(one: Shown, name: str, why: str) -> Fault:
    names = ", ".join((key_look.AUTHORITY, *(f"{ENDPOINT[one.side]}-{part}.pem" for part in ("cert", "key"))))
    return (
        f"the keys of {one.host} (`tls: {one.folder}`) cannot be read: {name}: {why}",
        f"the user who runs QEMU there has to be able to read {names} in it",
    )


def _of_key(one: Shown) -> Fault:
    key = f"{one.folder}/{ENDPOINT[one.side]}-key.pem of {one.host}"
    if one.key_fault == "unlike":
        return f"{key} is not the key of the certificate beside it", "put both there, as they were made together"
    if one.key_fault == "secret":
        return f"{key} is closed by a password, which nobody could give to QEMU", "put it there without one"
    return f"{key} is no key that can be read: {one.key_fault}", "it has to be PEM"


def _between(one: Shown, own: Certificate, other: Shown) -> Iterator[Fault]:
    """What is wrong with the certificate of *one*, as both will look at it."""
    from limosa.migration import certificates

    certificate = f"the certificate in {one.folder} of {one.host}"
    for judge in (one, other):
        if why := own.wrong_at(judge.clock):
            at = f"where it is {judge.clock:%Y-%m-%d %H:%M} UTC"
            yield f"{certificate} {why}, says the clock of {judge.host}, {at}", "renew it, or set that clock"
            break
    if not certificates.vouched_for(one.certificate, other.authorities):
        where = f"{other.folder}/{key_look.AUTHORITY} on {other.host}"
        told = f"{certificate} is of an authority that {other.host} does not know"
        yield told, f"{where} has to have the authority that signed it"


def _of_name(target: Shown, own: Certificate, names: tuple[str, ...]) -> list[Fault]:
    if any(name in own.names for name in names):
        return []
    has = ", ".join(own.names) or "none"
    told = f"the certificate in {target.folder} of {target.host} is for another host: it vouches for {has}"
    return [(told, f"it has to have one of these names: {', '.join(names)}")]


def transport(source: Shown, target: Shown, names: tuple[str, ...]) -> Transport:
    """How the stream goes with them; *names* as above, the best first. Pure. Raises MachineError for the first of the
    ``faults``."""
    from limosa.migration import certificates

    for told, fix in faults(source, target, names):
        raise MachineError(told, hint=fix)
    own, known = (certificates.read(one.certificate, "it") for one in (source, target))
    return Transport(
        kind="tls",
        expected=next(name for name in names if name in known.names),
        admitted=own.subject,
        source_keys=source.folder,
        target_keys=target.folder,
        good_until_s=min(own.until, known.until).timestamp(),
    )
