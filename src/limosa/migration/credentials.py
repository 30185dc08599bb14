"""Both sides' keys on their hosts: put where QEMU can read them, loaded, and taken away again.

A key that limosa makes is on its host for as long as QEMU takes to read it: in a folder that only the host's user can
enter, beside the guest's sockets, which goes with the lab. Keys of the user's own are only read.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from limosa import tasks
from limosa.errors import LimosaError, MachineError
from limosa.hosts.host import Host
from limosa.migration.transport import ADMITTED, CREDENTIALS, ENDPOINT, Side, Transport
from limosa.qemu.launches import runtime_directory
from limosa.tasks import uninterrupted

if TYPE_CHECKING:
    from limosa.qemu.guest_process import QemuProcess

_PLACE = r"""
umask 077
rm -rf -- "$1" && mkdir -p -- "$1" && cd -- "$1" || exit 1
while IFS= read -r line; do
    case $line in
        "= "*) file=${line#= } ;;
        *) printf '%s\n' "$line" >>"$file" || exit 1 ;;
    esac
done
date +%s
"""
"""Files as they come on standard input, each behind a line with its name, so that no key is in a command line."""


WORN_S = 60.0
"""A key that is good for less than this is not met by any more."""


class Credentials:
    """The keys of one move. *made* gives the files of a side that limosa makes, by name, with the certificate: new ones
    each time."""

    def __init__(self, transport: Transport, made: Callable[[Side], Mapping[str, bytes]]) -> None:
        self.transport, self._made = transport, made
        self._good_until_s: dict[Side, float] = {}
        """Of keys that limosa made, as far as this command gave them."""

    async def give(self, qemu: QemuProcess, side: Side) -> None:
        """Have *qemu* hold its side's keys, whatever a move before left in it. Raises MachineError for keys that are
        of no use on that host now, QmpError where QEMU does not take them."""
        own = self.transport.own_keys(side)
        folder = own or f"{runtime_directory(qemu.host, qemu.guest)}/tls"
        try:
            if not own:
                self._good_until_s[side] = await place(qemu.host, folder, self._made(side), side)
            await take_back(qemu)
            for described in self.transport.objects(side, folder):
                await qemu.control.execute("object-add", described)
        finally:
            if not own:
                await uninterrupted(_removed(qemu.host, folder))

    def worn(self, begun_s: float) -> bool:
        """Whether the two sides would not come together any more by what they hold since *begun_s* (s since 1970)."""
        from limosa.migration import certificates

        if self.transport.source_keys:
            end_s = self.transport.good_until_s or 0.0
        else:
            last_s = begun_s + certificates.HOST_KEY.total_seconds()
            end_s = min(self._good_until_s.get(side, last_s) for side in ENDPOINT)
        return time.time() > end_s - WORN_S

    async def renew(self, source: QemuProcess, target: QemuProcess) -> None:
        """Have both hold new keys, of the user's own what lies in their folders by now. Those of one side go with what
        the other holds, whichever was renewed: the authority is the same, and so are the names.

        Raises what ``give`` does, and MachineError for the user's own that are not right.
        """
        if self.transport.source_keys and self.transport.target_keys:
            from limosa.migration import own_keys

            sides: tuple[tuple[QemuProcess, Side], ...] = ((source, "source"), (target, "target"))
            folder = self.transport.own_keys
            one, other = await tasks.together(own_keys.shown(qemu.host, folder(side), side) for qemu, side in sides)
            self.transport = own_keys.transport(one, other, (self.transport.expected,))
        await self.give(target, "target")
        await self.give(source, "source")


async def take_back(qemu: QemuProcess) -> None:
    """Have *qemu* hold no keys of limosa's any more; one that has none, or is gone, is no error."""
    for name in (CREDENTIALS, ADMITTED):
        with contextlib.suppress(LimosaError):
            await qemu.control.execute("object-del", {"id": name})


async def place(host: Host, folder: str, files: Mapping[str, bytes], side: Side) -> float:
    """Put *files*, texts, into *folder* of *host*, anew; until when the key is good, in s since 1970.

    Raises MachineError where the host's clock makes it useless.
    """
    from limosa.migration import certificates

    given = b"".join(b"= " + name.encode() + b"\n" + data.rstrip(b"\n") + b"\n" for name, data in files.items())
    done = await host.run(["sh", "-c", _PLACE, "sh", folder], stdin=given)
    certificate = certificates.read(files[f"{ENDPOINT[side]}-cert.pem"], f"the key of {host.name}")
    clock = _clock(host, done.text)
    if why := certificate.wrong_at(clock):
        raise MachineError(
            f"by the clock of {host.name} it is {clock:%Y-%m-%d %H:%M} UTC, and a key made now {why}",
            hint=f"set the clock of {host.name}, or that of this machine",
        )
    return certificate.until.timestamp()


async def _removed(host: Host, folder: str) -> None:
    with contextlib.suppress(LimosaError):  # `down` takes it away
        await host.run(["rm", "-rf", "--", folder])


def _clock(host: Host, said: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromtimestamp(int(said.split()[-1]), datetime.UTC)
    except (ValueError, IndexError, OverflowError, OSError) as error:
        raise MachineError(f"{host.name} does not say what time it is there") from error
