"""The files of the guest's root disk: the chosen programs, the libraries they load, and a few files of ours.

Nothing here belongs to one guest: keys, addresses and names come from its seed at each start.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from limosa.errors import MachineError
from limosa.guest.micro import elf

PROGRAMS = ("sbin/dropbear", "bin/sysbench", "bin/stress-ng", "bin/iperf3")
"""Below /usr in the image; dynamic, so that their libraries come along."""

DISK_PROGRAMS = ("bin/fio",)
"""Of the image with the general kernel."""

EXTRA_LIBRARIES = ("libgcc_s.so.1",)
"""Not linked: glibc opens it when a thread is cancelled, as iperf3 does."""

LOADER = "ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"

LIBRARY_FOLDERS = (LIBRARIES, "lib/x86_64-linux-gnu", f"{LIBRARIES}/ceph")
"""Where packages have them; fio's libraries find Ceph's common one by a path of their own. In the guest all are in
one folder."""

APPLETS = (
    "acpid",
    "cat",
    "grep",
    "hostname",
    "init",
    "insmod",
    "ip",
    "mount",
    "poweroff",
    "sh",
    "switch_root",
    "usleep",
)
"""What our scripts need of busybox; the guest gets all that it has."""

_DIRECTORIES = (
    *(
        "dev",
        "etc/acpi/PWRF",
        "etc/limosa",
        "mnt",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr/bin",
        "usr/sbin",
    ),
    *(LIBRARIES, "usr/lib64", "var/cache", "var/lib", "var/log", "var/tmp"),
)
_LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "var/run": "../run",
    "etc/acpi/PWRF/00000080": "/etc/limosa/poweroff",
    "root/.ssh": "../run/limosa/ssh",
    "etc/hostname": "../run/limosa/hostname",
    "etc/mtab": "../proc/self/mounts",
}
_SCRIPTS = {
    "boot.sh": "etc/limosa/boot",
    "console.sh": "etc/limosa/console",
    "sshd.sh": "etc/limosa/sshd",
    "agent.sh": "etc/limosa/agent",
    "poweroff.sh": "etc/limosa/poweroff",
}

_INITTAB = """\
::sysinit:/etc/limosa/boot
::respawn:/etc/limosa/sshd
::respawn:/etc/limosa/agent
::respawn:/sbin/acpid -f -c /etc/acpi -l /dev/null
ttyS0::respawn:/etc/limosa/console
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/umount -a -r
"""
_FILES = {
    "etc/inittab": _INITTAB,
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:1::::::\nnobody:*:1::::::\n",
    "etc/shells": "/bin/sh\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "etc/profile": "export PATH=/usr/sbin:/usr/bin:/sbin:/bin\nPS1='\\u@\\h:\\w\\$ '\n",
    "etc/issue": "Limosa micro guest\n",
}
_PERMISSIONS = {"etc/shadow": 0o600, "root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777}


def make(unpacked: Path, root: Path, agent: Path, applets: Iterable[str], programs: Sequence[str] = PROGRAMS) -> None:
    """Fill the new directory *root* from the *unpacked* packages and the *agent*'s program.

    Raises MachineError when a program or a library is missing: then the choice of packages is wrong.
    """
    for directory in _DIRECTORIES:
        (root / directory).mkdir(parents=True)
    for name, target in _LINKS.items():
        (root / name).symlink_to(target)
    for name, text in _FILES.items():
        (root / name).write_text(text)
    for script, name in _SCRIPTS.items():
        _install((Path(__file__).parent / script), root / name, 0o755)
    _install(busybox(unpacked), root / "usr/bin/busybox", 0o755)
    for applet in set(applets) - {"busybox", "poweroff"}:
        place = "usr/sbin" if applet in ("init", "acpid", "reboot", "halt") else "usr/bin"
        (root / place / applet).symlink_to("/usr/bin/busybox")
    (root / "usr/sbin/poweroff").symlink_to("/etc/limosa/poweroff")
    _install_programs(unpacked, root, programs)
    _install(agent, root / "usr/bin/limosa-agent", 0o755)
    for name, permissions in _PERMISSIONS.items():
        (root / name).chmod(permissions)


def busybox(unpacked: Path) -> Path:
    """The static busybox of the unpacked packages."""
    return _find(unpacked, ("usr/bin/busybox", "bin/busybox"))


def libraries(unpacked: Path, programs: Iterable[Path]) -> dict[str, Path]:
    """Every library that *programs* load, by the name they load it by. MachineError when one is missing."""
    found: dict[str, Path] = {}
    waiting = [(name, program.name) for program in programs for name in _needs(program)]
    waiting += [(name, "glibc") for name in EXTRA_LIBRARIES]
    while waiting:
        name, wanted_by = waiting.pop()
        if name in found or name == LOADER:
            continue
        try:
            found[name] = _find(unpacked, tuple(f"{folder}/{name}" for folder in LIBRARY_FOLDERS))
        except MachineError as error:
            raise MachineError(f"no package brings {name}, which {wanted_by} needs", hint=error.hint) from error
        waiting += [(needed, name) for needed in _needs(found[name])]
    return found


def _install_programs(unpacked: Path, root: Path, wanted: Sequence[str]) -> None:
    programs = {program: _find(unpacked, (f"usr/{program}",)) for program in wanted}
    for name, source in programs.items():
        place = root / "usr" / name
        place.unlink(missing_ok=True)  # the real program wins over a busybox applet
        _install(source, place, 0o755)
    for name, source in libraries(unpacked, programs.values()).items():
        _install(source, root / LIBRARIES / name, 0o644)
    loader = _find(
        unpacked,
        (f"usr/lib64/{LOADER}", f"lib64/{LOADER}", f"{LIBRARIES}/{LOADER}", f"lib/x86_64-linux-gnu/{LOADER}"),
    )
    _install(loader, root / "usr/lib64" / LOADER, 0o755)


def _needs(program: Path) -> list[str]:
    return elf.needed_libraries(program.read_bytes())


def _find(unpacked: Path, names: Iterable[str]) -> Path:
    for name in names:
        path = _followed(unpacked, name)
        if path is not None:
            return path
    raise MachineError(
        f"the packages for the guest image hold no {next(iter(names))}",
        hint="report which distribution this is",
    )


def _followed(unpacked: Path, name: str, depth: int = 8) -> Path | None:
    """The regular file that *name* leads to, links followed inside *unpacked*: some are absolute."""
    path = unpacked / name
    if path.is_symlink() and depth:
        target = path.readlink()
        inside = target.relative_to("/") if target.is_absolute() else path.parent.relative_to(unpacked) / target
        return _followed(unpacked, str(inside), depth - 1)
    return path if path.is_file() else None


def _install(source: Path, target: Path, permissions: int) -> None:
    shutil.copyfile(source, target)
    target.chmod(permissions)
