"""Proof that a storage is one and the same on all hosts, and that a lock taken on one is seen on the others.

Without the second, QEMU's image locking protects nothing, and a guest could run twice.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from limosa import paths, tasks
from limosa.errors import LimosaError, MachineError
from limosa.hosts.host import Host
from limosa.process import Completed

# Open file descriptions' locks (fcntl(2) F_OFD_SETLK, 37), as QEMU takes them.
_HOLD = """
import fcntl, struct, sys
file = open(sys.argv[1], "r+b")
fcntl.fcntl(file, 37, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 100, 1, 0))
print("held", flush=True)
sys.stdin.read()
"""
_TRY = """
import fcntl, struct, sys
file = open(sys.argv[1], "r+b")
try:
    fcntl.fcntl(file, 37, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 100, 1, 0))
except OSError:
    print("refused")
else:
    print("granted")
"""
_HOLD_S = 30.0


async def prove(hosts: Sequence[Host], folder: str) -> None:
    """Raise MachineError unless every one of *hosts* sees the same *folder* and each other's locks in it."""
    if len(hosts) < 2:
        return
    first, others = hosts[0], hosts[1:]
    path = f"{folder}/.limosa-{secrets.token_hex(8)}"
    try:
        await first.run(["sh", "-c", 'umask 0; cat >"$1"', "sh", path], stdin=path.encode())
    except LimosaError as error:
        raise MachineError(
            f"{first.name} cannot write to {folder}: {error.message}", hint=f"see {paths.document('hosts.md')}"
        ) from error
    try:
        for other in others:
            if (await other.run(["cat", path], check=False)).stdout != path.encode():
                raise MachineError(
                    f"{folder} is not the same on {first.name} and {other.name}",
                    hint="mount the shared directory there on both, or take `kind: nfs`",
                )
        await prove_locks(first, others, path)
    finally:
        await first.run(["rm", "-f", path], check=False)


async def prove_locks(first: Host, others: Sequence[Host], path: str) -> None:
    """*first* holds a lock while the others try to take it."""
    ready = f"{path}.held"
    hold = ["sh", "-c", 'python3 -c "$1" "$2" <"$3" >"$4"', "sh", _HOLD.replace("sys.stdin.read()", _WAIT)]
    holding = first.run([*hold, path, "/dev/null", ready], timeout_s=_HOLD_S + 5, check=False)
    try:
        async with tasks.beside(holding) as (holder,):
            await _prove_held(first, others, path, ready, holder)
    finally:
        await first.run(["rm", "-f", ready], check=False)


async def _prove_held(
    first: Host, others: Sequence[Host], path: str, ready: str, holder: asyncio.Future[Completed]
) -> None:
    held = False
    for _ in range(100):
        if (await first.run(["cat", ready], check=False)).text == "held":
            held = True
            break
        if holder.done():
            break
        await asyncio.sleep(0.05)
    if not held:
        raise MachineError(
            f"{first.name} cannot lock files in {path.rpartition('/')[0]}",
            hint="QEMU needs locks there: on NFS, mount with version 4, or run the lock manager",
        )
    for other in others:
        answer = (await other.run(["python3", "-c", _TRY, path], check=False, timeout_s=20)).text
        if answer != "refused":
            raise MachineError(
                f"{other.name} does not see the locks of {first.name} in {path.rpartition('/')[0]}",
                hint="without them a guest could run twice: on NFS, mount with version 4 and without `nolock`",
            )


_WAIT = f"import time; time.sleep({_HOLD_S:g})"
