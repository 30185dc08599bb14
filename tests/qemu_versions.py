"""The QEMUs that tests can try: the machine's own, and a second version unpacked beside it, never installed.

On Debian the second comes from the backports suite of the mirror that the machine itself uses, through an apt state of
our own, so that the machine's package lists stay as they are.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from limosa import paths

PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data")
SUITES = {"bookworm": "bookworm-backports"}
"""The suite that has another QEMU than the distribution's own, whose libraries are those of the distribution. Not yet
that of Debian 13: QEMU 11.1 warns of arguments that 10.0 takes, and a guest did not come back from it."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, slots=True)
class QemuBinary:
    """A QEMU that can be run: the binary, and the folders for ``-L`` in the order of search."""

    label: str
    path: str
    firmware: tuple[str, ...] = ()


def machine_qemu() -> tuple[QemuBinary | None, str]:
    """The QEMU of the machine; or None and why there is none."""
    found = shutil.which("qemu-system-x86_64")
    return (QemuBinary("machine", found), "") if found else (None, "qemu-system-x86_64 is not installed")


def second_qemu() -> tuple[QemuBinary | None, str]:
    """Another version of QEMU, fetched and unpacked once and kept in the cache; or None and why it cannot be had."""
    folder = paths.cache() / "tests" / "second-qemu"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "second-qemu.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            try:
                _unpack(folder)
            except (OSError, LookupError, subprocess.SubprocessError) as error:
                return None, f"a second QEMU cannot be had: {_why(error)}"
    binary = folder / "usr/bin/qemu-system-x86_64"
    works = subprocess.run([str(binary), "--version"], capture_output=True, text=True)
    if works.returncode != 0:
        return None, f"the second QEMU does not run here: {works.stderr.strip()}"
    firmware = (str(folder / "usr/share/qemu"), "/usr/share/seabios", "/usr/share/qemu")
    return QemuBinary("second", str(binary), firmware), ""


def qemus() -> list[QemuBinary]:
    """Every QEMU that can be tried here."""
    return [q for q, _ in (machine_qemu(), second_qemu()) if q is not None]


def newer_machine() -> str:
    """The newest machine type that the second QEMU knows and the machine's does not."""
    known = [set(_machines(binary)) for binary, _ in (machine_qemu(), second_qemu()) if binary is not None]
    return max(known[1] - known[0], key=lambda name: [int(part) for part in name.rpartition("-")[2].split(".")])


def _machines(binary: QemuBinary) -> list[str]:
    return re.findall(r"^(pc-q35-[\d.]+) ", _run([binary.path, "-machine", "help"], None), re.MULTILINE)


def _unpack(folder: Path) -> None:
    mirror, codename = _debian_mirror()
    suite = SUITES.get(codename)
    if suite is None:
        raise LookupError(f"no suite with another QEMU is known for {codename}")
    with tempfile.TemporaryDirectory(prefix="limosa-qemu-", dir=folder.parent) as name:
        work = Path(name)
        (work / "lists/partial").mkdir(parents=True)
        (work / "cache/archives/partial").mkdir(parents=True)
        (work / "tree").mkdir()
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        (work / "sources.list").write_text(f"deb {signed}{mirror} {suite} main\n")
        apt = ["apt-get", "-q", "-o", f"Dir::Etc::sourcelist={work}/sources.list", "-o", "Dir::Etc::sourceparts=-"]
        apt += ["-o", f"Dir::State::lists={work}/lists", "-o", f"Dir::Cache={work}/cache"]
        apt += ["-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]
        _run([*apt, "update"], work)
        _run([*apt, "download", *(f"{p}/{suite}" for p in PACKAGES)], work)
        for package in sorted(work.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), "tree"], work)
        (work / "tree").rename(folder)


def _debian_mirror() -> tuple[str, str]:
    """The mirror that the machine's apt uses, and its release's codename."""
    wanted = "$(CREATED_BY)|$(REPO_URI)|$(CODENAME)|$(ORIGIN)|$(LABEL)"
    for line in _run(["apt-get", "indextargets", "--format", wanted], None).splitlines():
        created_by, uri, codename, origin, label = line.split("|")
        if (created_by, origin, label) == ("Packages", "Debian", "Debian") and "-" not in codename:
            return uri, codename
    raise LookupError("apt knows no mirror of Debian (has apt-get update been run?)")


def _run(argv: list[str], cwd: Path | None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=True, timeout=180)
    return done.stdout


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = str(error.stderr).strip().splitlines()
        return f"{error.cmd[0]} failed: {said[-1] if said else 'it said nothing'}"
    return str(error)
