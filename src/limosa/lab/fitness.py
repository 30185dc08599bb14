"""What each host of a lab has and what it lacks, found by trying: the findings of ``limosa doctor --lab``.

Nothing is made on a host that outlives the question: interfaces are tried in a network namespace of their own, a shared
storage by a file that is removed again.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from limosa import capabilities, remedies, requirements, tasks
from limosa.capabilities import Finding
from limosa.errors import LimosaError
from limosa.hosts.host import Host, HostFacts
from limosa.lab.lab_hosts import LabHosts
from limosa.network import attachment, obstacles
from limosa.qemu import features
from limosa.spec import resolved
from limosa.storage import proof
from limosa.units import format_bytes

CLOCK_S = 1.0
"""A greater difference between two clocks is told: files of a shared storage get times by them, logs are compared."""
SKILLS = ("Python 3.11 or newer", "gcc", "disk space", "ssh", "ssh-keygen", "mke2fs", "debugfs", "setpriv", "apt-get",
          "dpkg-deb", "zstd")  # fmt: skip
"""What is asked of this machine where the hosts are all elsewhere: it builds the guests and commands the hosts."""
THIS_MACHINE = "this machine"
TOGETHER = "all hosts together"

_TRY_LINKS = "ip link add name lmsbr type bridge; ip tuntap add dev lmstap mode tap; ip link set lmstap master lmsbr"
_BECOMES = "command -v sudo || command -v doas || echo sudo"
_MANAGERS = "for word in apk apt-get dnf; do command -v $word >/dev/null && echo $word; done; true"


@dataclass(frozen=True, slots=True)
class Examined:
    """A host, this machine, or all hosts together, and what was found."""

    name: str
    kind: str
    findings: list[Finding]

    @property
    def ready(self) -> bool:
        """Whether nothing is lacking that the lab needs."""
        return all(finding.ok for finding in self.findings if finding.required)


async def examine(lab_hosts: LabHosts) -> list[Examined]:
    """This machine first, then every host of the lab, then what only several can have: all at once where possible."""
    examiners = [_Examiner(lab_hosts, spec) for spec in lab_hosts.lab.hosts.values()]
    async with tasks.beside(capabilities.examine()) as (here,):
        found = await tasks.together(examiner.examine() for examiner in examiners)
        own = [finding for finding in await here if lab_hosts.has_fabric or finding.name in SKILLS]
        own = needed_here(own, lab_hosts.lab)
    hosts = {examiner.spec.name: examiner.host for examiner in examiners if examiner.host is not None}
    known = {e.spec.name: e.known for e in examiners if e.known is not None}
    together = await _together(lab_hosts.lab, hosts, known)
    together += await obstacles.path_sizes(lab_hosts.lab, hosts, {e.spec.name: e.interfaces for e in examiners})
    all_hosts = [Examined(TOGETHER, "", together)] if together else []
    return [Examined(THIS_MACHINE, "", own), *found, *all_hosts]


def needed_here(findings: Sequence[Finding], lab: resolved.Lab) -> list[Finding]:
    """What building images takes is required of this machine where *lab* has guests of such an image."""
    builds = any(guest.image_kind.built for guest in lab.guests.values())
    wanted = [
        replace(finding, required=True, needed_for="")
        if builds and finding.needed_for == requirements.IMAGE_PURPOSE else finding
        for finding in findings
    ]  # fmt: skip
    return sorted(wanted, key=lambda finding: not finding.required)


async def settled(name: str, check: Awaitable[Finding]) -> Finding:
    """A check that fails by an error of ours is a finding too."""
    try:
        return await check
    except LimosaError as error:
        return Finding(name, False, error.message, error.hint)


class _Examiner:
    """One host, and what was learnt of it on the way."""

    def __init__(self, lab_hosts: LabHosts, spec: resolved.Host) -> None:
        self._lab_hosts, self.spec = lab_hosts, spec
        self.host: Host | None = None
        self.known: features.Features | None = None
        self.interfaces: Mapping[str, attachment.Interface] = {}

    async def examine(self) -> Examined:
        """Everything that can be seen of it."""
        return Examined(self.spec.name, self.spec.kind, await self._findings())

    async def _findings(self) -> list[Finding]:
        if not self.spec.traits.own_system:
            return [await settled("QEMU", self._qemu(self._lab_hosts.this_machine()))]
        try:
            self.host = await self._lab_hosts.kind(self.spec.name).visit(self.spec.name)
            if self.host is None:
                return [Finding(self.spec.traits.thing, True, "not there yet; limosa up launches it, and can")]
            reached = await self._reached(self.host)
            facts = await self.host.facts()
        except LimosaError as error:
            return [Finding("reachable", False, error.message, error.hint)]
        host = self.host
        checks: list[tuple[str, Callable[[Host], Awaitable[Finding]]]] = [
            ("root", self._root), ("QEMU", self._qemu), ("ip", self._ip), ("links", self._links),
            ("bridge and TAP", self._bridge_and_tap), ("clock", _clock),
        ]  # fmt: skip
        found = await tasks.together(settled(name, check(host)) for name, check in checks)
        devices = [await self._tun(host, facts), self._memory(facts), await self._kvm(host, facts)]
        if any(finding.name == "links" and finding.ok for finding in found):
            devices.append(await settled("spanning tree", self._spanning_tree()))
        devices.append(obstacles.strangers(self._lab_hosts.lab, self.spec.name))
        stores = [
            await settled(f"storage {store.name}", self._storage(host, store))
            for store in self._lab_hosts.lab.storage.values()
        ]
        return sorted([reached, *found, *devices, *stores], key=lambda finding: not finding.required)

    async def _reached(self, host: Host) -> Finding:
        user = (await host.run(["id", "-un"], check=False)).text or "a user without a name"
        taken_s = (await host.run(["true"])).duration_s
        return Finding("reachable", True, f"as {user}, python3 runs; a command takes {taken_s * 1000:.0f} ms")

    async def _root(self, host: Host) -> Finding:
        by = await self._by_what(host)
        await host.run(["id", "-u"], as_root=True)
        return Finding("root", True, f"by {by}, which does not ask" if by else "logged in as root")

    async def _by_what(self, host: Host) -> str:
        """``sudo`` or ``doas``, by which one is root there; empty where the login is root's."""
        if (await host.run(["id", "-u"])).text == "0":
            return ""
        return (await host.run(["sh", "-c", _BECOMES])).text.rpartition("/")[2]

    async def _qemu(self, host: Host) -> Finding:
        try:
            known = await features.probe(host, self.spec.qemu, self.spec.qemu_firmware)
        except LimosaError as error:
            return Finding("QEMU", False, error.message, await self._install(host, self.spec.qemu) or error.hint)
        self.known = known
        return Finding("QEMU", True, f"{known.version} ({self.spec.qemu})")

    async def _install(self, host: Host, program: str) -> str:
        """The line that installs *program* with the host's own package manager; empty when that is not known."""
        from limosa.hosts.installers import INSTALLERS

        there = (await host.run(["sh", "-c", _MANAGERS], check=False)).text.split()
        root = f"{by} " if (by := await self._by_what(host)) else ""
        for manager in INSTALLERS:
            if manager.program in there and program in manager.packages:
                verb = "add" if manager.program == "apk" else "install"
                package = manager.packages[program]
                where = f"   ({manager.where[package]})" if package in manager.where else ""
                return f"on {host.name}: {root}{manager.program} {verb} {package}{where}"
        return ""

    async def _ip(self, host: Host) -> Finding:
        try:
            done = await host.run(["ip", "-json", "link", "show", "lo"], check=False)
            said = done.stderr.decode(errors="replace").strip().splitlines()
        except LimosaError as error:
            return Finding("ip", False, error.message, await self._install(host, "ip") or error.hint)
        if done.returncode == 0 and done.stdout.lstrip().startswith(b"["):
            return Finding("ip", True, "iproute2, which speaks JSON")
        # Alpine's busybox has an ip of its own, which explains itself at length.
        own = not said or "BusyBox" in said[0]
        detail = "busybox's own, which speaks no JSON" if own else said[-1]
        return Finding("ip", False, detail, await self._install(host, "ip"))

    async def _links(self, host: Host) -> Finding:
        lab = self._lab_hosts.lab
        has = self.interfaces = await attachment.interfaces(host)
        over = {network: attachment.carrier(lab, host.name, network, has) for network in lab.networks}
        await attachment.check_routes(host, lab, has)
        told = [
            f"{network} over {link}" + ("" if over[network] == link else f", by {_made_bridge(lab, over[network])}")
            for network in lab.networks
            if (link := self.spec.links[network])
        ]
        return Finding("links", True, "; ".join(told) or "the lab has no networks")

    async def _spanning_tree(self) -> Finding:
        return obstacles.spanning_tree(self._lab_hosts.lab, self.spec.name, self.interfaces)

    async def _bridge_and_tap(self, host: Host) -> Finding:
        done = await host.run(["unshare", "--net", "sh", "-ec", _TRY_LINKS], check=False, as_root=True, timeout_s=20)
        if done.returncode == 0:
            return Finding("bridge and TAP", True, "made in a network namespace")
        said = done.stderr.decode(errors="replace").strip().splitlines()
        if said and "BusyBox" in said[0]:
            return Finding("bridge and TAP", False, "busybox's ip makes none", await self._install(host, "ip"))
        fix = f"on {host.name}: sudo modprobe -a bridge tun"
        return Finding("bridge and TAP", False, said[-1] if said else "cannot be made", fix)

    async def _tun(self, host: Host, facts: HostFacts) -> Finding:
        if facts.tun:
            return Finding("/dev/net/tun", True, "opens")
        there = (await host.run(["test", "-e", "/dev/net/tun"], check=False)).returncode == 0
        fix = f"on {host.name}: {remedies.tun_hint(there)}"
        return Finding("/dev/net/tun", False, "cannot be opened" if there else "is not there", fix)

    def _memory(self, facts: HostFacts) -> Finding:
        limit = self.spec.memory_bytes
        free = facts.memory_available_bytes if limit is None else min(limit, facts.memory_available_bytes)
        most = max((guest.memory_bytes for guest in self._lab_hosts.lab.guests.values()), default=0)
        detail = f"{format_bytes(free)} available, the largest guest has {format_bytes(most)}"
        fix = "" if free >= most else f"end something on {self.spec.name}, or lower the guest's `memory`"
        return Finding("memory", free >= most, detail, fix)

    async def _kvm(self, host: Host, facts: HostFacts) -> Finding:
        if facts.kvm:
            detail = "/dev/kvm opens; whether Linux gets anywhere in it is proved at a guest's start"
            return Finding("KVM", True, detail, "", False, capabilities.FULL_SPEED)
        asked = await host.run(["sh", "-c", remedies.ASK, "sh", remedies.KVM], check=False)
        seen = remedies.device(remedies.KVM, asked.text)
        fix = f"on {host.name}: {remedies.kvm_fix(seen)}"
        detail = f"{remedies.KVM} {'cannot be opened' if seen.there else 'is not there'}"
        return Finding("KVM", False, detail, fix, False, capabilities.FULL_SPEED)

    async def _storage(self, host: Host, store: resolved.Storage) -> Finding:
        name = f"storage {store.name}"
        if store.kind == "nfs":
            script = "grep -qw nfs4 /proc/filesystems || modprobe -D nfsv4"
            able = (await host.run(["sh", "-c", script], check=False, as_root=True)).returncode == 0
            fix = "" if able else "take a kernel with NFS (CONFIG_NFS_V4), or a directory shared in another way"
            return Finding(name, able, f"its kernel {'mounts' if able else 'cannot mount'} NFS", fix)
        if not store.path or self.spec.traits.shows_directories:
            return Finding(name, True, "limosa up puts it there")
        for test, lacks in (("-d", "is not there"), ("-w", "cannot be written")):
            if (await host.run(["test", test, store.path], check=False)).returncode:
                fix = f"mount the shared directory at {store.path} on {host.name}, writable for who logs in"
                return Finding(name, False, f"{store.path} {lacks}", fix)
        return Finding(name, True, f"{store.path} is there and can be written")


def _made_bridge(lab: resolved.Lab, bridge: str) -> str:
    """A bridge on a host, in words. Before a first lab was brought up here nobody can know the name."""
    return f"a bridge {bridge} that up makes" if lab.mark else "a bridge that up makes"


async def _clock(host: Host) -> Finding:
    """How far the host's clock is from ours: by the quickest of a few answers, half of which is not known."""
    best = (float("inf"), 0.0)
    for _ in range(3):
        before = time.time()
        text = (await host.run(["python3", "-c", "import time; print(repr(time.time()))"])).text
        after = time.time()
        best = min(best, (after - before, float(text) - (before + after) / 2))
    taken_s, difference_s = best
    detail = f"{difference_s:+.3f} s from ours, give or take {taken_s / 2:.3f} s"
    right = abs(difference_s) <= CLOCK_S + taken_s / 2
    fix = "" if right else f"on {host.name}: run an NTP client (systemd-timesyncd, chrony)"
    return Finding("clock", right, detail, fix, required=False)


async def _together(
    lab: resolved.Lab, hosts: Mapping[str, Host], known: Mapping[str, features.Features]
) -> list[Finding]:
    """What it takes several hosts to find out."""
    findings = []
    if len(known) > 1:
        findings.append(await settled("machine type", _machine_type(known)))
    if len(hosts) > 1:
        for store in lab.storage.values():
            if (
                store.kind == "directory"
                and store.path
                and not any(lab.hosts[n].traits.shows_directories for n in hosts)
            ):
                findings.append(await settled(f"storage {store.name}", _shared(list(hosts.values()), store.path)))
    return findings


async def _machine_type(known: Mapping[str, features.Features]) -> Finding:
    both = features.common_machine(known)
    leaving = [name for name, offers in known.items() if (machine := offers.machine(both)) and machine.deprecated]
    remark = f"; that of {', '.join(leaving)} calls it deprecated, a later one may not know it" if leaving else ""
    return Finding("machine type", True, f"guests get {both}, which the QEMU of {', '.join(known)} knows{remark}")


async def _shared(hosts: list[Host], path: str) -> Finding:
    await proof.prove(hosts, path)
    names = ", ".join(host.name for host in hosts)
    return Finding(f"storage {path}", True, f"{shlex.quote(path)} is the same on {names}, and so are its locks")
