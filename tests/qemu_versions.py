"""The QEMUs that tests can try: the machine's own, a second version, and the newest; those two are unpacked into the
cache and never installed.

On Debian they come from the backports suites of the mirror that the machine itself uses, through an apt state of our
own, so that the machine's package lists stay as they are. The second one runs with the machine's libraries; the newest
is built for a later release, so it brings its own, and a script starts it with them.
"""

from __future__ import annotations

import fcntl
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from limosa import paths

PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data")
SUITES = {"bookworm": "bookworm-backports"}
"""The suite that has another QEMU than the distribution's own, whose libraries are those of the distribution."""

NEWEST_SUITES = ("trixie", "trixie-backports")
"""The release that the newest QEMU is built for, and the suite that has it."""
NEWEST_FOR = ("bookworm", "trixie")
"""The releases on which the newest is tried."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
PROGRAM = "usr/bin/qemu-system-x86_64"
DATA = ("usr/share/qemu", "usr/share/seabios")

Found = tuple["QemuBinary | None", str]


@dataclass(frozen=True, slots=True)
class QemuBinary:
    """A QEMU that can be run: the binary, and the folders for ``-L`` in the order of search."""

    label: str
    path: str
    firmware: tuple[str, ...] = ()


def machine_qemu() -> Found:
    """The QEMU of the machine; or None and why there is none."""
    found = shutil.which("qemu-system-x86_64")
    return (QemuBinary("machine", found), "") if found else (None, "qemu-system-x86_64 is not installed")


def second_qemu() -> Found:
    """Another version of QEMU, fetched and unpacked once and kept in the cache; or None and why it cannot be had."""
    folder, why = _kept("second-qemu", "a second QEMU cannot be had", _unpack_second)
    if folder is None:
        return None, why
    firmware = (str(folder / "usr/share/qemu"), "/usr/share/seabios", "/usr/share/qemu")
    return _working(QemuBinary("second", str(folder / PROGRAM), firmware))


def newest_qemu() -> Found:
    """The newest version that Debian has, with libraries of its own; or None and why it cannot be had."""
    folder, why = _kept("newest-qemu", "the newest QEMU cannot be had", _unpack_newest)
    if folder is None:
        return None, why
    return _working(QemuBinary("newest", str(folder / "qemu"), tuple(str(folder / data) for data in DATA)))


QEMUS: dict[str, Callable[[], Found]] = {"machine": machine_qemu, "second": second_qemu, "newest": newest_qemu}
"""By label, from the oldest to the newest."""


def newer_machine() -> str:
    """The newest machine type that the second QEMU knows and the machine's does not."""
    known = [set(_machines(binary)) for binary, _ in (machine_qemu(), second_qemu()) if binary is not None]
    return max(known[1] - known[0], key=lambda name: [int(part) for part in name.rpartition("-")[2].split(".")])


def _machines(binary: QemuBinary) -> list[str]:
    return re.findall(r"^(pc-q35-[\d.]+) ", _run([binary.path, "-machine", "help"], None), re.MULTILINE)


def _kept(name: str, failure: str, unpack: Callable[[Path, Path], None]) -> tuple[Path | None, str]:
    """The folder of that name, made once by *unpack* (of a folder to work in and of the final one); or why it is not
    there."""
    folder = paths.cache() / "tests" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            try:
                with tempfile.TemporaryDirectory(prefix="limosa-qemu-", dir=folder.parent) as work:
                    unpack(Path(work), folder)
                    (Path(work) / "tree").rename(folder)
            except (OSError, LookupError, subprocess.SubprocessError) as error:
                return None, f"{failure}: {_why(error)}"
    return folder, ""


def _working(qemu: QemuBinary) -> Found:
    works = subprocess.run([qemu.path, "--version"], capture_output=True, text=True)
    if works.returncode != 0:
        return None, f"the {qemu.label} QEMU does not run here: {works.stderr.strip()}"
    return qemu, ""


def _unpack_second(work: Path, folder: Path) -> None:
    mirror, codename = _debian_mirror()
    suite = SUITES.get(codename)
    if suite is None:
        raise LookupError(f"no suite with another QEMU is known for {codename}")
    apt = _apt(work, mirror, (suite,))
    _run([*apt, "download", *(f"{p}/{suite}" for p in PACKAGES)], work)
    _unpack(work, work)


def _unpack_newest(work: Path, folder: Path) -> None:
    """All that it depends on, as on a system without any package; kept is what it loads and reads."""
    mirror, codename = _debian_mirror()
    if codename not in NEWEST_FOR:
        raise LookupError(f"no newest QEMU is known for {codename}")
    (work / "status").touch()
    apt = [*_apt(work, mirror, NEWEST_SUITES), "-o", f"Dir::State::status={work}/status", "-t", NEWEST_SUITES[-1]]
    _run([*apt, "install", "--yes", "--download-only", "--no-install-recommends", PACKAGES[0]], work)
    _unpack(work, work / "cache/archives")
    tree, kept = work / "tree", work / "kept"
    loads = _run([str(tree / LOADER), "--library-path", str(tree / LIBRARIES), "--list", str(tree / PROGRAM)], None)
    for path in (LOADER, PROGRAM, *(f"{LIBRARIES}/{name}" for name in _own(loads, tree)), *DATA):
        (kept / path).parent.mkdir(parents=True, exist_ok=True)
        if (tree / path).is_dir():
            shutil.copytree(tree / path, kept / path, symlinks=True)
        else:
            shutil.copy2(tree / path, kept / path)
    _write_script(kept / "qemu", folder)
    shutil.rmtree(tree)
    kept.rename(tree)


def _own(loads: str, tree: Path) -> list[str]:
    """The names of the libraries that the loader found in *tree*."""
    return [Path(path).name for path in re.findall(rf"=> ({re.escape(str(tree / LIBRARIES))}/\S+)", loads)]


def _write_script(script: Path, folder: Path) -> None:
    """What a host's ``qemu:`` can be: one path. It becomes QEMU's own process, whose id stays.

    The modules of the machine's QEMU, where this one would look, are of another build: it is told of an empty place.
    """
    argv = [str(folder / LOADER), "--library-path", str(folder / LIBRARIES), str(folder / PROGRAM)]
    modules = shlex.quote(str(folder / "modules"))
    script.write_text(f'#!/bin/sh\nexport QEMU_MODULE_DIR={modules}\nexec {shlex.join(argv)} "$@"\n')
    script.chmod(0o755)


def _apt(work: Path, mirror: str, suites: tuple[str, ...]) -> list[str]:
    """The beginning of an apt-get that knows *suites* alone and writes below *work*; their lists are fetched."""
    (work / "lists/partial").mkdir(parents=True)
    (work / "cache/archives/partial").mkdir(parents=True)
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    (work / "sources.list").write_text("".join(f"deb {signed}{mirror} {suite} main\n" for suite in suites))
    apt = ["apt-get", "-q", "-o", f"Dir::Etc::sourcelist={work}/sources.list", "-o", "Dir::Etc::sourceparts=-"]
    apt += ["-o", f"Dir::State::lists={work}/lists", "-o", f"Dir::Cache={work}/cache"]
    apt += ["-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]
    _run([*apt, "update"], work)
    return apt


def _unpack(work: Path, archives: Path) -> None:
    """Every package in *archives*, into the folder ``tree``."""
    (work / "tree").mkdir()
    for package in sorted(archives.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), "tree"], work)


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
