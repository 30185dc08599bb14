"""libvirt on the hosts of a lab, as on as many machines: a daemon of its own on each, and one guest that they move.

Each daemon runs in its host's namespaces and has folders of its own where libvirt keeps its things. It ends with the
lab. It is libvirt as it comes: only what hosts that share one machine cannot have is switched off (security drivers,
control groups, changes of owner), and what goes between the daemons goes by TCP in the network of migrations.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import msgspec

from limosa.deadline import Deadline
from limosa.errors import LimosaError, StateError
from limosa.hosts.host import Host
from limosa.process import Completed

PACKAGES = ("libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients")
"""Debian's names of what brings ``libvirtd``, its driver for QEMU and ``virsh``."""

LOCAL = "qemu+unix:///system"
START_S = 30.0
COLD_S = 120.0
"""A daemon's first answer: it asks every QEMU what it can do."""

_DAEMON = r"""
set -eu
state=$1
for parent in var/lib var/log var/cache etc; do
    mkdir -p "$state/$parent/libvirt" "$state/over/$parent" "$state/work/$parent"
    if [ ! -d "/$parent/libvirt" ]; then
        mount -t overlay -o "lowerdir=/$parent,upperdir=$state/over/$parent,workdir=$state/work/$parent" \
            overlay "/$parent"
        mkdir -p "/$parent/libvirt"
    fi
    mount --bind "$state/$parent/libvirt" "/$parent/libvirt"
done
# libvirt insists on these names, even where its guests run as root.
for names in passwd group; do
    cp "/etc/$names" "$state/$names"
    mount --bind "$state/$names" "/etc/$names"
done
grep -q ^libvirt-qemu: /etc/passwd || echo 'libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin' >>/etc/passwd
grep -q ^libvirt-qemu: /etc/group || echo 'libvirt-qemu:x:64055:' >>/etc/group
printf '%s\n' "$2" >/etc/libvirt/libvirtd.conf
printf '%s\n' "$3" >/etc/libvirt/qemu.conf
exec libvirtd --listen
"""
"""Run on the host in a mount namespace of its own, with a folder for its state and the contents of two files."""

_OF_QEMU = """\
user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""


def missing() -> str:
    """Why libvirt cannot be tried here; empty where it can."""
    drivers = Path("/usr/lib").glob("*/libvirt/connection-driver/libvirt_driver_qemu.so")
    if shutil.which("virsh") and shutil.which("libvirtd") and any(drivers):
        return ""
    return f"libvirt is not installed (Debian: {', '.join(PACKAGES)})"


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """A guest as libvirt is told of it. Paths are the hosts' own."""

    name: str
    memory_bytes: int
    """libvirt gives a guest whole MiB."""
    emulator: str
    accel: str
    machine: str
    cpu: str
    kernel: str
    initrd: str
    append: str
    disk: str
    tap: str
    """The interface that is there for it on each host."""
    mac: str

    @property
    def agent_socket(self) -> str:
        """Where the agent inside is reached on the host that the guest is on."""
        return f"/run/{self.name}-agent.sock"

    @property
    def watch_socket(self) -> str:
        """A monitor of QEMU's beside the one that libvirt has."""
        return f"/run/{self.name}-watch.qmp"

    def xml(self) -> str:
        """The description that ``virsh create`` takes: the devices that a lab's guest has."""
        return f"""\
<domain type={quoteattr("kvm" if self.accel == "kvm" else "qemu")}
    xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>{escape(self.name)}</name>
  <memory unit="b">{self.memory_bytes}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch="x86_64" machine={quoteattr(self.machine)}>hvm</type>
    <kernel>{escape(self.kernel)}</kernel>
    <initrd>{escape(self.initrd)}</initrd>
    <cmdline>{escape(self.append)}</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode="custom" match="exact" check="none"><model fallback="forbid">{escape(self.cpu)}</model></cpu>
  <devices>
    <emulator>{escape(self.emulator)}</emulator>
    <disk type="file" device="disk">
      <driver name="qemu" type="raw" cache="writeback" io="threads"/>
      <source file={quoteattr(self.disk)}/>
      <target dev="vda" bus="virtio"/>
    </disk>
    <interface type="ethernet">
      <mac address={quoteattr(self.mac)}/>
      <target dev={quoteattr(self.tap)} managed="no"/>
      <model type="virtio"/>
    </interface>
    <serial type="null"/>
    <channel type="unix">
      <source mode="bind" path={quoteattr(self.agent_socket)}/>
      <target type="virtio" name="org.limosa.agent.0"/>
    </channel>
    <rng model="virtio"><backend model="builtin"/></rng>
    <memballoon model="none"/>
    <controller type="usb" model="none"/>
  </devices>
  <qemu:commandline>
    <qemu:arg value="-qmp"/>
    <qemu:arg value={quoteattr(f"unix:{self.watch_socket},server=on,wait=off")}/>
  </qemu:commandline>
</domain>
"""


class LibvirtHost:
    """A host of a lab with a libvirt daemon on it."""

    def __init__(self, host: Host, address: str) -> None:
        self.host, self.address = host, address

    @property
    def uri(self) -> str:
        """How the other daemon reaches this one."""
        return f"qemu+tcp://{self.address}/system"

    async def start(self, state: Path) -> None:
        """Start the daemon, with its things below *state*, and wait until it knows what its QEMU can do."""
        daemon = [
            "listen_tls = 0",
            "listen_tcp = 1",
            'auth_tcp = "none"',
            'auth_unix_rw = "none"',
            f'listen_addr = "{self.address}"',
            f'host_uuid = "{uuid.uuid4()}"',
        ]
        state.mkdir(parents=True)
        script = ["sh", "-c", _DAEMON, "sh", str(state), "\n".join(daemon), _OF_QEMU]
        log = state / "daemon.log"
        await self.host.spawn(["unshare", "--mount", "--propagation", "private", *script], log=str(log))
        async for _ in Deadline.after(START_S).ticks(0.1):
            if (await self.virsh("version", check=False)).returncode == 0:
                break
        else:
            last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
            raise StateError(f"libvirtd does not answer on {self.host.name}: {''.join(last) or 'it said nothing'}")
        await self.virsh("domcapabilities", timeout_s=COLD_S)

    async def virsh(self, *words: str, stdin: bytes = b"", check: bool = True, timeout_s: float = 60.0) -> Completed:
        """Run ``virsh`` on the host."""
        return await self.host.run(["virsh", "-q", "-c", LOCAL, *words], stdin=stdin, check=check, timeout_s=timeout_s)

    def migrate_words(self, domain: Domain, target: LibvirtHost, how: Sequence[str] = ()) -> list[str]:
        """The command on this host that moves *domain* to *target*, with the options *how*.

        ``--unsafe``: the disk that both see is on a file system of which libvirt does not know that it is shared.
        """
        words = ["migrate", "--live", "--unsafe", *how, domain.name, target.uri, f"tcp://{target.address}"]
        return ["virsh", "-q", "-c", LOCAL, *words]


@asynccontextmanager
async def watched(host: Host, domain: Domain) -> AsyncIterator[asyncio.Future[float]]:
    """Within, the guest leaves *host*; what is given becomes QEMU's own time for it in ms, by its MIGRATION events."""
    connection = await host.connect(domain.watch_socket)
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    writer.write(b'{"execute": "qmp_capabilities"}\n')
    took_ms: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    watching = asyncio.create_task(_listen(reader, took_ms))
    try:
        yield took_ms
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        writer.close()


async def _listen(reader: asyncio.StreamReader, took_ms: asyncio.Future[float]) -> None:
    begun_s: float | None = None
    while line := await reader.readline():
        said = json.loads(line)
        if said.get("event") != "MIGRATION":
            continue
        at_s = said["timestamp"]["seconds"] + said["timestamp"]["microseconds"] / 1e6
        if said["data"]["status"] == "setup":
            begun_s = at_s
        elif said["data"]["status"] == "completed" and begun_s is not None:
            took_ms.set_result((at_s - begun_s) * 1000)
            return
    took_ms.set_exception(LimosaError("QEMU ended before it said that the migration had completed"))
