"""What a person can do about what a machine does not permit: the fixes that ``limosa doctor`` and errors name.

Each is chosen by what is really there: who may open a device, which setting of the kernel forbids, whether this is a
container, whose devices and settings are those of the machine around it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KVM = "/dev/kvm"
TUN = "/dev/net/tun"

NESTED = "permit nested virtualisation to this virtual machine, where it is run"

ASK = r"""
stat -L -c 'mode %a %G' "$1" 2>/dev/null
echo "user $(id -u)"
echo "groups $(id -Gn)"
echo "listed $(id -Gn "$(id -un 2>/dev/null)" 2>/dev/null)"
if [ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ -s /run/systemd/container ] || [ -e /dev/lxd ] ||
    [ -e /dev/incus ] || grep -qz '^container=' /proc/1/environ 2>/dev/null; then echo 'container yes'; fi
grep -qwE 'vmx|svm' /proc/cpuinfo && echo 'virtualises yes'
grep -qw hypervisor /proc/cpuinfo && echo 'inside yes'
if [ "$(id -u)" = 0 ]; then :; elif command -v sudo >/dev/null; then echo 'by sudo'
elif command -v doas >/dev/null; then echo 'by doas'; else echo 'by sudo'; fi
"""
"""For ``sh -c``, with the device's path as $1: what ``Device`` is read from, here or on another host."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device file that does not open, as it stands on a machine, and who asks."""

    path: str
    group: str = ""
    """The group whose members may read and write it; empty where there is none, or it is root's."""
    there: bool = False
    member: bool = False
    """Whether the one who asks is of that group by the machine's list, though perhaps not since the login."""
    container: bool = False
    virtualises: bool = False
    """Whether the processor shows the instructions of VT-x or AMD-V."""
    inside: bool = False
    """Whether the machine is a virtual one itself."""
    by: str = ""
    """``sudo`` or ``doas``, by which one becomes root; empty for root."""


def device(path: str, said: str) -> Device:
    """The device *path* by what ``ASK`` printed."""
    told = {words[0]: words[1:] for line in said.splitlines() if (words := line.split())}
    mode, group = [*told.get("mode", []), "0", ""][:2]
    opens_to = group if int(mode, 8) & 0o060 == 0o060 and group not in ("root", "UNKNOWN") else ""
    by = " ".join(told.get("by", []))
    flags = {name: name in told for name in ("container", "virtualises", "inside")}
    return Device(path, opens_to, "mode" in told, opens_to in told.get("listed", []), by=by, **flags)


def kvm_fix(kvm: Device) -> str:
    """What lets the one who asks open /dev/kvm."""
    if not kvm.there:
        return _absent_kvm(kvm)
    if kvm.group:
        if kvm.member:
            return f"log in again: membership of the group {kvm.group} counts from the next login on"
        if kvm.by:
            return f"{kvm.by} usermod -aG {kvm.group} $USER, then log in again"
    if kvm.container or not kvm.by:
        return f"allow {kvm.path} to this container, whose devices are those of the machine around it"
    keep = f'echo \'KERNEL=="kvm", MODE="0666"\' | {kvm.by} tee /etc/udev/rules.d/60-limosa.rules'
    return f"run limosa as root, or: {kvm.by} chmod 0666 {kvm.path}   (and, to keep it: {keep})"


def _absent_kvm(kvm: Device) -> str:
    if kvm.container:
        return (
            f"pass {kvm.path} into this container (Docker, Podman: --device {kvm.path}; "
            f"Incus, LXD: config device add NAME kvm unix-char path={kvm.path})"
        )
    if kvm.virtualises:
        return f"{kvm.by} modprobe -a kvm_intel kvm_amd   (the one that fits stays)".lstrip()
    if kvm.inside:
        return NESTED
    return "switch virtualisation on in the firmware's settings, if the processor has it"


def busy_kvm_fix(number: int | None) -> str:
    """What helps where /dev/kvm opens but makes no virtual machine, by the error's number."""
    if number == errno.EBUSY:
        return "end the other hypervisor that holds the processor's virtualisation, such as VirtualBox"
    if number == errno.ENOMEM:
        return "free some memory"
    return "look at what the kernel says: dmesg | grep -i kvm"


def as_root(line: str) -> str:
    """A command that takes root, as whoever runs limosa would type it."""
    return line if os.geteuid() == 0 else f"sudo {line}"


def in_container(root: Path = Path("/")) -> bool:
    """Whether this is a container, as far as it shows: its kernel's modules and settings are the machine's around it.

    The same signs as in ``ASK``. *root* is where its files are, for tests.
    """
    if any((root / sign).exists() for sign in (".dockerenv", "run/.containerenv", "dev/lxd", "dev/incus")):
        return True
    for file, sign in (("run/systemd/container", b""), ("proc/1/environ", b"container=")):
        with contextlib.suppress(OSError):
            data = (root / file).read_bytes()
            if data and any(word.startswith(sign) for word in data.split(b"\0")):
                return True
    return False


def kernel_line(line: str, *, container: bool | None = None) -> str:
    """A command that changes the running kernel (modules, settings); in a container only the machine around it can."""
    if in_container() if container is None else container:
        return f"on the machine around this container, as root: {line}"
    return as_root(line)


MODULES = Path("/lib/modules", os.uname().release)


def module_fix(said: str, modules: str, *, container: bool | None = None, folder: Path = MODULES) -> str:
    """What helps where an interface or a queue could not be made in a namespace, by what was *said* then.

    *folder* is where the running kernel's modules are, if it has any.
    """
    within = in_container() if container is None else container
    if "unshare" in said or "Operation not permitted" in said:
        return namespaces_fix(container=within)
    if not within and not folder.is_dir():
        return f"take a kernel that has {' and '.join(modules.split())}: this one has no modules to load"
    return kernel_line(f"modprobe -a {modules}", container=within)


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return ""


def namespaces_fix(sysctl: Callable[[str], str] = _sysctl, *, container: bool | None = None) -> str:
    """What permits user namespaces on a machine with these kernel settings (a function from name to value)."""
    within = in_container() if container is None else container
    for name, forbids, permits in (
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),  # Ubuntu since 23.10
        ("kernel.unprivileged_userns_clone", "0", "1"),  # Debian's own switch
        ("user.max_user_namespaces", "0", "15000"),
    ):
        if os.geteuid() and sysctl(name) == forbids:
            keep = f"echo {name}={permits} | sudo tee /etc/sysctl.d/60-limosa.conf"
            line = kernel_line(f"sysctl -w {name}={permits}", container=within)
            return line if within else f"{line}   (and, to keep it: {keep})"
    if within:
        return "let this container make namespaces (Docker, Podman: --privileged; Incus, LXD: security.nesting=true)"
    return "run limosa as root" if os.geteuid() else "this root is not permitted to make namespaces (CAP_SYS_ADMIN)"


def tun_fix(path: Path = Path(TUN)) -> str:
    """What makes this machine's TUN device usable: by whether it is there and may be opened."""
    if os.access(path, os.R_OK | os.W_OK):
        return "allow network namespaces first (see user namespaces)"
    return tun_hint(path.exists(), path)


def tun_hint(there: bool, path: Path = Path(TUN)) -> str:
    """What makes a TUN device usable that cannot be opened, here or on another host."""
    if not there:
        return f"sudo modprobe tun; in a container, pass {path} in"
    return f"sudo chmod 0666 {path}   (what udev sets on ordinary systems)"
