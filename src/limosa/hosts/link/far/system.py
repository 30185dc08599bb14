"""What the far end does with the system: environment, start of processes, facts, and what a lab left there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import platform
import shutil
import signal
import time
from typing import Any

KEPT = ("PATH", "HOME", "USER", "LANG", "TMPDIR")
"""What a process inherits of the login's environment; the rest stays out, so that runs can be repeated."""
MARK = "LIMOSA_RUNTIME"
"""The variable by which what a lab spawned is known again: it holds the lab's runtime directory on that machine."""
_SIGNALS = sorted(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP})
"""What a new process handles as the system does: Python itself ignores SIGPIPE and SIGXFSZ, and that is inherited."""


def environment(given: dict[str, str]) -> dict[str, str]:
    """The environment of a process: what is kept, with the system's folders on the PATH, and what is given."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    path = kept.get("PATH") or "/usr/local/bin:/usr/bin:/bin"
    missing = [folder for folder in ("/usr/sbin", "/sbin") if folder not in path.split(":")]
    kept["PATH"] = ":".join([path, *missing])
    return {**kept, **given}


def found(program: str, path: str) -> str:
    """The file to execute, by the PATH of the process that is to be."""
    if not isinstance(program, str) or not program:
        raise ValueError("there is no program to start")
    file = program if "/" in program else shutil.which(program, path=path)
    if not file or not os.path.exists(file):  # noqa: PTH110
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return file


def start(asked: dict[str, Any], descriptors: list[int], env: dict[str, str], words: list[str]) -> int:
    """Start *words* in a session of its own with *descriptors* as its 0, 1 and 2; return its pid."""
    program = found(words[0], env["PATH"])
    high: list[int] = []
    back = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if asked.get("cwd"):
            os.chdir(asked["cwd"])
        # Above the targets first, so that no dup2 overwrites one that is still to be used.
        for number in descriptors:
            high.append(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 16))
        actions = [(os.POSIX_SPAWN_DUP2, number, place) for place, number in enumerate(high)]
        return os.posix_spawn(program, words, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_SIGNALS)
    finally:
        os.fchdir(back)
        for number in [*high, back]:
            os.close(number)


def kept_words(words: list[str]) -> list[str]:
    """The command line of a process that is to outlive the login: in a scope of its own where systemd would end it.

    An ordinary user's scope belongs to the user's manager, which itself ends with the last login unless it lingers.
    """
    if not os.path.isdir("/run/systemd/system") or not shutil.which("systemd-run"):  # noqa: PTH112
        return words
    if os.geteuid() == 0:
        return ["systemd-run", "--scope", "--quiet", "--collect", "--", *words]
    if lingers() and os.path.isdir(login_directory()):  # noqa: PTH112
        return ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--", *words]
    return words


def lingers() -> bool:
    """Whether what systemd keeps for this user, a manager and a runtime directory, outlives the last login."""
    return os.path.exists(f"/var/lib/systemd/linger/{user_name()}")  # noqa: PTH110


def login_directory() -> str:
    """Where systemd keeps this user's sockets while somebody is logged in, or always for one that lingers."""
    return f"/run/user/{os.geteuid()}"


def user_name() -> str:
    """The name of who is logged in; the number where the system does not know one."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


MACHINE_FILES = (
    "/proc/sys/kernel/random/boot_id",
    "/etc/machine-id",
    "/var/lib/dbus/machine-id",
    "/sys/class/dmi/id/product_uuid",
)
"""What tells machines apart that were made from one image, as far as it is there and this user may read it: the random
name of the kernel's boot always is (random(4))."""

CPU_FIELDS = ("vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags", "vmx flags", "bugs")
"""What of /proc/cpuinfo decides what KVM can give a guest; the others change by the moment."""


def machine_facts() -> dict[str, Any]:
    """What limosa.hosts.host.HostFacts asks for, of the machine that this runs on."""
    return {
        "kernel": platform.release(),
        "cpu_model": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": int(_field("/proc/meminfo", "MemTotal").split()[0]) * 1024,
        "memory_available_bytes": int(_field("/proc/meminfo", "MemAvailable").split()[0]) * 1024,
        "kvm": _opens("/dev/kvm"),
        "tun": _opens("/dev/net/tun"),
        "machine": machine_name(),
        "time_ns": time.time_ns(),  # last, so that it is as near to the answer as can be
    }


def machine_name(root: str = "") -> str:
    """What the running machine is known by; *root* is where its files are, for tests."""
    parts = [_content(root + path) for path in MACHINE_FILES]
    parts += [line for line in _first_processor(root + "/proc/cpuinfo") if line.partition(":")[0].strip() in CPU_FIELDS]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _first_processor(path: str) -> list[str]:
    """Its lines alone: with many processors the whole file takes the kernel long."""
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
            return list(itertools.takewhile(str.strip, lines))
    except OSError:
        return []


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return ""


def _field(path: str, name: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def _opens(device: str) -> bool:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def hang_up_sshd(pid: int) -> None:
    """End the sshd or dropbear that serves this connection, if *pid* or one of its parents is one.

    A connection whose cable was pulled looks alive to it for hours, and what it forwards stays taken meanwhile: a
    monitor of QEMU serves one at a time.
    """
    while pid > 1:
        try:
            with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
                name, _, rest = file.read().partition("(")[2].rpartition(")")
            if name.startswith(("sshd", "dropbear")):
                os.kill(pid, signal.SIGTERM)
                return
        except OSError:
            return
        pid = int(rest.split()[1])


def marked(runtime: str) -> list[list[Any]]:
    """The processes that the lab with that runtime directory spawned here: pid and command line."""
    lines: list[list[Any]] = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit():
            continue
        words = _words(f"/proc/{name}/cmdline")
        # QEMU's own arguments name the directory too: that is seen even where another user's environment is not.
        inside = os.fsencode(runtime) + b"/"
        pairs = zip(words, words[1:])  # noqa: B905, RUF007  Python 3.8 has neither strict nor pairwise
        qemu = any(word == b"-pidfile" and value.startswith(inside) for word, value in pairs)
        if os.fsencode(f"{MARK}={runtime}") in _words(f"/proc/{name}/environ") or qemu:
            lines.append([int(name), os.fsdecode(b" ".join(words)) or name])
    return lines


def _words(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read().split(b"\0")
    except OSError:
        return []
