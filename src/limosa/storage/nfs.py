"""Storage over NFS: an export of one of the lab's hosts or of a server elsewhere, mounted on all hosts.

The kernel's own server is taken where it has one, else nfs-ganesha, which serves from an ordinary process. The client
is always the kernel's: QEMU's locks need it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping

from limosa.deadline import Deadline
from limosa.errors import CommandError, LimosaError, MachineError
from limosa.hosts.host import Host
from limosa.spec import resolved

PORT = 2049
SERVE_S = 20.0
"""How long the user-space server may take until it listens."""

MOUNT_OPTIONS = "vers=4.2,hard,proto=tcp"
"""Version 4 has locks in the protocol itself (RFC 8881); ``hard`` has a guest wait for a lost server instead of
seeing errors that it would take for a broken disk (nfs(5))."""


def ganesha_config(storage: resolved.Storage, clients: str, runtime_directory: str) -> str:
    """The configuration of nfs-ganesha that exports *storage* to *clients*, a subnet, by NFS 4 alone.

    ``Clients`` counts in a CLIENT block only: outside of one ganesha warns, and serves everybody. From version 6 on it
    ends where it may not have its memory spared under pressure (PR_SET_IO_FLUSHER, which takes CAP_SYS_RESOURCE),
    unless that is allowed to fail; older ones only warn of a word that they do not know.
    """
    path, folder = (text.replace("\\", "\\\\").replace('"', '\\"') for text in (storage.path, runtime_directory))
    number = int(hashlib.sha256(storage.path.encode()).hexdigest()[:4], 16) or 1
    return f"""NFS_CORE_PARAM {{
  Protocols = 4;
  NFS_Port = {PORT};
  Enable_NLM = false;
  Enable_RQUOTA = false;
  Allow_Set_Io_Flusher_Fail = true;
}}
NFSv4 {{
  Grace_Period = 5;
  Lease_Lifetime = 5;
  RecoveryRoot = "{folder}/ganesha";
}}
EXPORT {{
  Export_Id = {number};
  Path = "{path}";
  Pseudo = "{path}";
  Access_Type = None;
  SecType = sys;
  CLIENT {{
    Clients = {clients};
    Access_Type = RW;
    Protocols = 4;
    Squash = No_Root_Squash;
  }}
  FSAL {{ Name = VFS; }}
}}
"""


def exported(storage: resolved.Storage, clients: str) -> list[str]:
    """The command that has the kernel's server export *storage*; ``-u`` in place of ``-o`` undoes it."""
    options = "rw,sync,no_root_squash,no_subtree_check"
    return ["exportfs", "-o", options, f"{clients}:{storage.path}"]


def unexported(storage: resolved.Storage, clients: str) -> list[str]:
    """The undoing of ``exported``."""
    return ["exportfs", "-u", f"{clients}:{storage.path}"]


def mounted(storage: resolved.Storage, server: str) -> list[str]:
    """The command that mounts *storage* from *server*, an address."""
    source = f"[{server}]" if ":" in server else server
    return ["mount", "-t", "nfs4", "-o", MOUNT_OPTIONS, f"{source}:{storage.path}", storage.mount_point]


async def can_mount(host: Host) -> bool:
    """Whether the kernel of *host* has an NFS client, loading its module if need be."""
    if await _knows_nfs(host):
        return True
    await host.run(["sh", "-c", "command -v modprobe >/dev/null && modprobe nfsv4"], check=False, as_root=True)
    return await _knows_nfs(host)


async def _knows_nfs(host: Host) -> bool:
    return "\tnfs4" in (await host.run(["cat", "/proc/filesystems"])).stdout.decode().replace("nodev", "")


async def _refuse_mapped_root(host: Host, act: str) -> None:
    """Raise MachineError where root on *host* is not the machine's, as in hosts of an ordinary user and in containers
    that are not privileged: such a one may neither mount NFS nor open files by handle, which a server has to.
    """
    if (await host.run(["cat", "/proc/self/uid_map"], as_root=True)).text.split() != ["0", "0", str(2**32 - 1)]:
        raise MachineError(
            f"{host.name} cannot {act} NFS: its root is not the machine's root, and the kernel allows it to no other",
            hint="run limosa as root (containers: privileged ones), or take a `directory` that the hosts share",
        )


async def export(host: Host, storage: resolved.Storage, subnet: str) -> None:
    """Have *host* serve *storage* to *subnet*. Raises MachineError when it has no server. Twice is no error."""
    await host.run(["mkdir", "-p", storage.path], as_root=True)
    if await listens(host):
        # Somebody serves already: the kernel, which takes another export, or our own ganesha of an earlier `up`.
        if "nfsd" in (await host.run(["cat", "/proc/filesystems"])).text:
            await host.run(exported(storage, subnet), as_root=True)
        return
    kernel = await host.run(["sh", "-c", "command -v exportfs && command -v rpc.nfsd"], check=False)
    started = kernel.returncode == 0 and await _start_kernel_server(host)
    if started:
        await host.run(exported(storage, subnet), as_root=True)
    else:
        await _start_ganesha(host, storage, subnet)
    async for _ in Deadline.after(SERVE_S).ticks(0.1):
        if await listens(host):
            if not started:
                await _refuse_empty(host, storage)
            return
    raise MachineError(
        f"the NFS server on {host.name} does not listen within {SERVE_S:g} s",
        hint=f"see {host.runtime_directory}/log/nfs.log there",
    )


async def _start_kernel_server(host: Host) -> bool:
    return (await host.run(["rpc.nfsd", "8"], check=False, as_root=True)).returncode == 0 and await listens(host)


async def _start_ganesha(host: Host, storage: resolved.Storage, subnet: str) -> None:
    where = (await host.run(["sh", "-c", "command -v ganesha.nfsd"], check=False)).text
    if not where:
        raise MachineError(
            f"{host.name} has no NFS server: neither the kernel's nor nfs-ganesha",
            hint="apt install nfs-kernel-server, or nfs-ganesha nfs-ganesha-vfs; or name another `server`",
        )
    await _refuse_mapped_root(host, "serve")
    folder = host.runtime_directory
    await host.run(["mkdir", "-p", "-m", "0700", f"{folder}/ganesha"])
    config = ganesha_config(storage, subnet, folder)
    await host.run(["sh", "-c", 'cat >"$1"', "sh", f"{folder}/ganesha.conf"], stdin=config.encode())
    words = [where, "-F", "-f", f"{folder}/ganesha.conf", "-p", f"{folder}/ganesha.pid", "-L", "STDERR"]
    await host.spawn(words, log=f"{folder}/log/nfs.log")


async def _refuse_empty(host: Host, storage: resolved.Storage) -> None:
    """Raise MachineError where ganesha serves, but not what it was told to: it starts without that all the same."""
    said = (await host.run(["cat", f"{host.runtime_directory}/log/nfs.log"], check=False)).text
    if "Could not create export" in said:
        raise MachineError(
            f"nfs-ganesha on {host.name} cannot serve {storage.path}",
            hint="take a directory on a file system of a disk (newer versions serve none in memory); "
            f"see {host.runtime_directory}/log/nfs.log there",
        )


async def listens(host: Host) -> bool:
    """Whether something listens on the NFS port of *host*."""
    tables = (await host.run(["sh", "-c", "cat /proc/net/tcp /proc/net/tcp6"], check=False)).text
    return any(line.split()[1].endswith(f":{PORT:04X}") and line.split()[3] == "0A" for line in tables.splitlines()[1:]
               if len(line.split()) > 3)  # fmt: skip


async def mount(host: Host, storage: resolved.Storage, server: str) -> None:
    """Mount *storage* from *server* (an address) on *host*. Raises MachineError. Twice is no error."""
    seen = (await host.run(["cat", "/proc/self/mounts"])).text
    if any(_named(line.split()[1]) == storage.mount_point for line in seen.splitlines()):
        return
    if not await can_mount(host):
        facts = await host.facts()
        raise MachineError(
            f"the kernel of {host.name} ({facts.kernel}) cannot mount NFS",
            hint="take a kernel with NFS (CONFIG_NFS_V4), or a `directory` that the hosts share in another way",
        )
    await _refuse_mapped_root(host, "mount")
    await host.run(["mkdir", "-p", storage.mount_point], as_root=True)
    try:
        await host.run(mounted(storage, server), as_root=True, timeout_s=60)
    except CommandError as error:
        raise MachineError(
            f"{host.name} cannot mount {storage.path} of {server}: {error.stderr.strip().splitlines()[-1:]}",
            hint="is it exported to this host? apt install nfs-common brings mount.nfs4",
        ) from error


def _named(place: str) -> str:
    """A path as proc_mounts(5) writes it: spaces, tabs, line ends and backslashes by their octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place)


async def unmount(host: Host, storage: resolved.Storage) -> None:
    """Undo ``mount``."""
    await host.run(["umount", "--", storage.mount_point], check=False, as_root=True)


async def unexport(host: Host, storage: resolved.Storage, subnet: str) -> None:
    """Undo ``export``: ganesha bears the runtime directory in its command line and ends with the lab there."""
    await host.run(unexported(storage, subnet), check=False, as_root=True)


def address_of(storage: resolved.Storage, addresses: Mapping[str, str]) -> str:
    """Where clients find *storage*: the address of the lab's host, or what the file says. Raises LimosaError."""
    if storage.server in addresses:
        return addresses[storage.server]
    try:
        ipaddress.ip_address(storage.server)
    except ValueError:
        if "." not in storage.server:
            raise LimosaError(
                f"the NFS server {storage.server} is no host of this lab", hint="name a host, or an address"
            ) from None
    return storage.server
