"""Real container daemons for tests: Incus and LXD, started in namespaces of their own in about a second.

The daemon gets its own mount, net, pid, uts, ipc and cgroup namespaces and an own cgroup, so that the machine's
network and cgroups stay as they are; killing its ``unshare`` ends all of it. Its socket is used from outside. Tests
launch containers from the image ``tiny`` (some hundred kB): its /usr, QEMU and Python included, is the machine's own,
read-only.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PATIENCE_S = 60
ADDRESS = "10.83.0.1/24"
"""Of the daemon's bridge, in its own net namespace."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """What differs between the two."""

    name: str
    package: str
    server: tuple[str, ...]
    ready: tuple[str, ...]
    preseed: tuple[str, ...]
    client: str
    directory_variable: str
    configuration_variable: str
    bridge: str


FLAVOURS = {
    "incus": Flavour(
        "incus",
        "incus-base of bookworm-backports, or incus",
        ("/usr/libexec/incus/incusd", "--group", "root"),
        ("/usr/libexec/incus/incusd", "waitready"),
        ("incus", "admin", "init", "--preseed"),
        "incus",
        "INCUS_DIR",
        "INCUS_CONF",
        "incusbr0",
    ),
    "lxd": Flavour(
        "lxd",
        "lxd",
        ("lxd", "--group", "root"),
        ("lxd", "waitready"),
        ("lxd", "init", "--preseed"),
        "lxc",
        "LXD_DIR",
        "LXD_CONF",
        "lxdbr0",
    ),
}

PARAMETERS = ("incus", pytest.param("lxd", marks=pytest.mark.slow))
"""For tests of what is one driver for both: the second daemon is left to those who have the time."""

PRESEED = """
networks:
- name: {bridge}
  type: bridge
  config: {{ipv4.address: {address}, ipv4.nat: "false", ipv6.address: none}}
storage_pools:
- {{name: default, driver: dir}}
profiles:
- name: default
  config: {{raw.lxc: lxc.init.cmd=/init}}
  devices:
    eth0: {{type: nic, network: {bridge}, name: eth0}}
    root: {{type: disk, path: /, pool: default}}
    usr: {{type: disk, source: /usr, path: /usr, readonly: "true"}}
"""

# A fresh sysfs shows the devices of the new net namespace; a fresh cgroup2 has the new root.
FIRST = """
umount -l /sys/fs/cgroup 2>/dev/null
mount -t sysfs sysfs /sys && mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit
mkdir /sys/fs/cgroup/daemon && echo 1 >/sys/fs/cgroup/daemon/cgroup.procs && ip link set lo up || exit
"$@" & wait $!
"""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that runs, with the image ``tiny``, the pool ``default`` and a bridge at 10.83.0.1."""

    flavour: Flavour
    directory: Path
    pid: int = 0
    """Its first process, as seen here."""
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def socket(self) -> Path:
        return self.directory / "unix.socket"

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs *argv* inside the daemon's namespaces, where its bridge is an interface."""
        return ["nsenter", "--target", str(self.pid), "--all", "--", *argv]

    def client(self, *words: str, stdin: bytes = b"", check: bool = True) -> str:
        """What the daemon's own command-line client says."""
        argv = [self.flavour.client, *words]
        done = subprocess.run(argv, input=stdin, capture_output=True, env=self.environment())
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)}: {done.stderr.decode()}")
        return done.stdout.decode()

    def says(self, container: str, script: str) -> str:
        """What a shell *script* that only looks says in a container. LXD 5.0 may lose what a command said last
        (https://github.com/canonical/lxd/issues/11890): then it is asked again."""
        for _ in range(5):
            said, end, _ = self.client("exec", container, "--", "sh", "-c", f"{script}\necho END").rpartition("END\n")
            if end:
                return said
        raise AssertionError(f"nothing is heard from {container}")

    def environment(self) -> dict[str, str]:
        """This process's environment with the daemon's directories in it."""
        return dict(os.environ) | self.variables


@contextlib.contextmanager
def running(name: str) -> Iterator[Daemon]:
    """The daemon *name* (``incus``, ``lxd``) for as long as it is needed. Skips, with the reason, where none starts."""
    flavour = FLAVOURS[name]
    if os.geteuid() != 0:
        pytest.skip(f"only root starts a {name} daemon of its own")
    for program in (flavour.server[0], flavour.client, "dnsmasq"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (packages {flavour.package}, and dnsmasq-base)")
    with contextlib.ExitStack() as stack:
        # A short path: the names of unix sockets have at most 107 bytes.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-", dir="/tmp")))
        (directory / "d").mkdir(mode=0o711)
        directory.chmod(0o711)
        yield stack.enter_context(_started(flavour, directory))


@contextlib.contextmanager
def _started(flavour: Flavour, directory: Path) -> Iterator[Daemon]:
    variables = {
        flavour.directory_variable: str(directory / "d"),
        flavour.configuration_variable: str(directory / "client"),
        "PATH": f"/usr/libexec/incus:/usr/sbin:/sbin:{os.environ['PATH']}",
    }
    log = directory / "daemon.log"
    with _cgroup(directory.name) as cgroup, log.open("wb") as said:
        spaces = ["--mount", "--net", "--pid", "--cgroup", "--uts", "--ipc", "--propagation", "private"]
        # The cgroup is entered before its namespace is made, so that it is the root there. The daemon dies with the
        # tests, even when they are killed.
        argv = ["sh", "-c", 'echo $$ >"$0"/cgroup.procs && exec "$@"', str(cgroup)]
        argv += ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, "--fork", "--mount-proc", "--kill-child"]
        outer = subprocess.Popen(
            [*argv, "bash", "-c", FIRST, "first", *flavour.server],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=dict(os.environ) | variables,
        )
        try:
            daemon = Daemon(flavour, directory / "d", 0, variables)
            waited = subprocess.run(
                [*flavour.ready, f"--timeout={PATIENCE_S}"], env=daemon.environment(), capture_output=True
            )
            if waited.returncode or outer.poll() is not None:
                pytest.skip(f"{flavour.name} does not start here: {_last(log) or waited.stderr.decode().strip()}")
            first = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0])
            daemon = Daemon(flavour, directory / "d", first, variables)
            _furnish(daemon, directory)
            yield daemon
        finally:
            _end(outer)


def _end(outer: subprocess.Popen[bytes]) -> None:
    """The first process of the pid namespace dies with its ``unshare``, and the kernel ends the rest with it."""
    outer.kill()
    outer.wait()


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


@contextlib.contextmanager
def _cgroup(name: str) -> Iterator[Path]:
    unified = Path("/sys/fs/cgroup/unified")
    cgroup = (unified if unified.is_dir() else Path("/sys/fs/cgroup")) / f"test-{name}"
    try:
        cgroup.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup of one's own can be made here: {error.strerror}")
    try:
        yield cgroup
    finally:
        _remove_cgroup(cgroup)


def _remove_cgroup(cgroup: Path) -> None:
    """Depth first, and again until the kernel has buried the last process."""
    give_up_s = time.monotonic() + 10
    while True:
        for folder, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
        if not cgroup.exists():
            return
        if time.monotonic() > give_up_s:
            raise AssertionError(f"{cgroup} cannot be removed: a process of the daemon lives on")
        time.sleep(0.02)


def _furnish(daemon: Daemon, directory: Path) -> None:
    flavour = daemon.flavour
    text = PRESEED.format(bridge=flavour.bridge, address=ADDRESS)
    subprocess.run(
        flavour.preseed, input=text.encode(), env=daemon.environment(), check=True, stdout=subprocess.DEVNULL
    )
    metadata, rootfs = tiny_image(directory)
    daemon.client("image", "import", str(metadata), str(rootfs), "--alias", "tiny")


# -- the image --------------------------------------------------------------------------------------------------------

# The shell's wait collects every process that lost its parent, as an init has to.
INIT = "#!/bin/sh\nwhile :; do sleep 86400; done\n"
EMPTY = ("dev", "proc", "sys", "tmp", "run", "mnt", "root", "home", "var", "var/lib", "var/tmp", "usr", "etc")
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "lib32": "usr/lib32"}
ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nkvm:x:105:\nnogroup:x:65534:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "os-release": 'ID=limosa-tests\nNAME="The tests\' smallest system"\n',
    "hosts": "127.0.0.1 localhost\n",
    "hostname": "tiny\n",
    "resolv.conf": "",
}
METADATA = """architecture: x86_64
creation_date: 1700000000
properties: {description: The tests' smallest system}
templates:
  /etc/hostname: {when: [create, copy, rename], template: hostname.tpl}
"""


def tiny_image(directory: Path) -> tuple[Path, Path]:
    """``metadata.tar.gz`` and ``rootfs.tar``."""
    metadata, rootfs = directory / "metadata.tar.gz", directory / "rootfs.tar"
    with tarfile.open(metadata, "w:gz") as archive:
        add_file(archive, "metadata.yaml", METADATA)
        add_file(archive, "templates/hostname.tpl", "{{ container.name }}\n")
    with tarfile.open(rootfs, "w") as archive:
        for name in EMPTY:
            _add(archive, name, tarfile.DIRTYPE, 0o1777 if name.endswith("tmp") else 0o755)
        for name, target in LINKS.items():
            _add(archive, name, tarfile.SYMTYPE, 0o777, target)
        for name, text in ETC.items():
            add_file(archive, f"etc/{name}", text)
        # The C library's cache of what is where, and the links that Debian's alternatives are.
        archive.add("/etc/ld.so.cache", "etc/ld.so.cache")
        archive.add("/etc/alternatives", "etc/alternatives")
        add_file(archive, "init", INIT, 0o755)
    return metadata, rootfs


PROFILE_WITHOUT_USR = """
config: {{}}
devices:
  eth0: {{type: nic, network: {bridge}, name: eth0}}
  root: {{type: disk, path: /, pool: default}}
"""
APPLETS = "sh cat chmod echo env find hostname ls mkdir mount ps pwd readlink rm sleep stat test touch true uname"


def busybox_image(directory: Path, busybox: Path) -> tuple[Path, Path]:
    """A system of nothing but a static busybox."""
    metadata, rootfs = directory / "metadata.tar.gz", directory / "rootfs.tar"
    with tarfile.open(metadata, "w:gz") as archive:
        add_file(archive, "metadata.yaml", METADATA.partition("templates:")[0])
    with tarfile.open(rootfs, "w") as archive:
        for name in ("bin", "sbin", *EMPTY):
            _add(archive, name, tarfile.DIRTYPE, 0o1777 if name.endswith("tmp") else 0o755)
        archive.add(busybox.resolve(), "bin/busybox")
        for name in APPLETS.split():
            _add(archive, f"bin/{name}", tarfile.SYMTYPE, 0o777, "busybox")
        for name in ("passwd", "group", "hosts"):
            add_file(archive, f"etc/{name}", ETC[name])
        add_file(archive, "sbin/init", INIT, 0o755)
    return metadata, rootfs


def _add(archive: tarfile.TarFile, name: str, kind: bytes, mode: int, target: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, target
    archive.addfile(entry)


def add_file(archive: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(text.encode()), mode
    archive.addfile(entry, io.BytesIO(text.encode()))
