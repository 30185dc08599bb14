"""A root of another distribution on this machine: made from its packages, kept in the cache, entered and left.

Two layers are kept: what a newcomer has, and on top of that what ``.ci/install`` brings. Whoever enters writes to a
layer of the moment, and all mounts and processes are in namespaces that end with the command.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from limosa import paths, temporary
from limosa.guest.debian.image import MIRROR
from tests import machine_settings
from tests.distributions import INSIDE, Distribution

ROOT = Path(__file__).resolve().parent.parent
INSTALL = ROOT / ".ci/install"
CLONE = "/srv/limosa"
USER, USER_ID = "newcomer", 1000
APT_HELPER = Path("/usr/lib/apt/apt-helper")
MAKING_S = 2400.0
FETCHING_S = 120.0
KEPT_S = 14 * 86400.0
"""How long a layer is kept that nobody uses: another recipe makes another."""
NEEDED_BYTES = 8 * 1024**3
_ENTRY = Path(__file__).with_name("root_entry.py")


class Impossible(Exception):
    """This machine cannot make such a root; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who runs a command in the root."""

    name: str
    uid: int
    home: str

    @property
    def words(self) -> str:
        """For headings."""
        return "as root" if self.uid == 0 else "as an ordinary user"


ROOT_USER = Person("root", 0, "/root")
NEWCOMER = Person(USER, USER_ID, f"/home/{USER}")


def refusal(distribution: Distribution) -> str:
    """Why no root of it can be made here, as far as that shows at once; empty where nothing speaks against it."""
    if distribution.untried:
        return f"{distribution.title} is untried: {distribution.untried}"
    if inside := os.environ.get(INSIDE):
        return f"this is a root of {inside} already"
    if os.geteuid() != 0:
        return f"only root can make a root of {distribution.title}: mounts and pivot_root take it"
    for program in ("mmdebstrap", "unshare", "mount", "pivot_root", "setpriv", "git"):
        if shutil.which(program) is None:
            return f"{program} is not installed, so no root of {distribution.title} can be made (.ci/install brings it)"
    if not distribution.keyring.exists():
        return f"{distribution.keyring} is not there, so the packages of {distribution.title} cannot be verified"
    if said := mounts_refused():
        return f"nothing can be mounted for a root of {distribution.title}: {said}"
    if not has_room():
        return f"{cache()} has less than {NEEDED_BYTES >> 30} GiB of room"
    return ""


def mounts_refused() -> str:
    """What is said when layers are mounted as a room needs it, in namespaces; empty where they can be."""
    _made_cache()
    with temporary.folder("try", cache()) as folder:
        for part in ("lower", "upper", "work", "root"):
            (folder / part).mkdir()
        layers = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        argv = ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "overlay", "overlay", "-o", layers]
        done = subprocess.run([*argv, str(folder / "root")], capture_output=True, text=True)
    return "" if done.returncode == 0 else _last_words(done.stderr, 1) or f"exit status {done.returncode}"


def has_room() -> bool:
    """Whether the layers and what tests write fit on the disk."""
    return shutil.disk_usage(_made_cache()).free >= NEEDED_BYTES


def unreachable(distribution: Distribution) -> str:
    """Why its packages cannot be fetched now, asked of the mirror in the way of apt; empty where they can be."""
    url = f"{mirror().rstrip('/')}/dists/{distribution.name}/InRelease"
    with tempfile.TemporaryDirectory() as folder:
        argv = [str(APT_HELPER), "-o", "Acquire::Retries=3", "download-file", url, f"{folder}/InRelease"]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=FETCHING_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the packages of {distribution.title} cannot be fetched: {error}"
    if done.returncode == 0:
        return ""
    said = next((line for line in done.stderr.splitlines() if line.startswith("E: ")), f"E: no {url}")
    return f"the packages of {distribution.title} cannot be fetched: {said.removeprefix('E: ')}"


def cache() -> Path:
    """Where layers are kept."""
    return paths.cache() / "tests" / "roots"


def _made_cache() -> Path:
    cache().mkdir(parents=True, exist_ok=True)
    return cache()


def rooms() -> Path:
    """What the paths of this process's rooms begin with; no other has such."""
    return cache() / f".limosa-{_room()}."


def _room() -> str:
    return f"room{os.getpid()}"


# -- entering ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Room:
    """A root for the moment: its layers, and a folder for what is written."""

    distribution: Distribution
    layers: tuple[Path, ...]
    work: Path
    upper: Path
    binds: list[tuple[str, str]] = field(default_factory=list)

    def argv(self, command: Sequence[str], person: Person, folder: str = "", **more: str) -> list[str]:
        """The command line that runs *command* in it. Its end ends all that was started, and so does ours."""
        env = {
            **machine_settings.variables(),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": person.home,
            "USER": person.name,
            "TERM": os.environ.get("TERM", "dumb"),
            "DEBIAN_FRONTEND": "noninteractive",
            INSIDE: self.distribution.name,
            **more,
        }
        order = {
            "work": str(self.work), "upper": str(self.upper), "layers": [str(layer) for layer in self.layers],
            "binds": self.binds, "uid": person.uid, "folder": folder or person.home, "argv": list(command), "env": env,
        }  # fmt: skip
        return [
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private"),
            *(sys.executable, "-I", str(_ENTRY), json.dumps(order)),
        ]

    def own_folder(self, path: str, person: Person | None = None, mode: int = 0o755) -> Path:
        """A folder of the room that lies on the disk itself, not in a layer: tests make layers of their own in it."""
        folder = self.work / ("own" + path.replace("/", "-"))
        folder.mkdir()
        folder.chmod(mode)
        if person is not None:
            os.chown(folder, person.uid, person.uid)
        self.binds.append((str(folder), path))
        return folder


@contextlib.contextmanager
def room(distribution: Distribution, layers: Sequence[Path]) -> Iterator[Room]:
    """A room over *layers*, the uppermost first; nothing of it is left afterwards, and those that killed runs left are
    removed."""
    with temporary.folder(_room(), _made_cache()) as work:
        made = Room(distribution, tuple(layers), work, work / "upper")
        with _furnished(made):
            yield made


@contextlib.contextmanager
def _furnished(made: Room) -> Iterator[None]:
    for folder in (made.work / "root", made.work / "work", made.upper):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    made.work.chmod(0o711)
    made.own_folder("/tmp", mode=0o1777)
    made.binds.extend(machine_settings.hand_on(made.upper))
    debs, archives = cache() / f"packages-{made.distribution.name}", made.own_folder("/var/cache/apt/archives")
    debs.mkdir(exist_ok=True)
    _link(debs, archives)
    try:
        yield
    finally:
        _link(archives, debs)


def _link(source: Path, target: Path) -> None:
    """Have the packages of one folder in the other too. Two rooms that shared one would meet apt's lock of it."""
    for package in source.glob("*.deb"):
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(package, target / package.name)


# -- making -----------------------------------------------------------------------------------------------------------


def bare(distribution: Distribution) -> list[Path]:
    """The layers of what a newcomer has, made now or long ago. Raises Impossible."""
    name = f"{distribution.name}-{_digest(repr((distribution, mirror())))}"
    return [_kept(name, lambda folder: _bootstrap(distribution, folder))]


def furnished(distribution: Distribution) -> list[Path]:
    """The layers of what the tests need, with the ordinary user. Raises Impossible."""
    below = bare(distribution)
    name = f"{below[0].name}-{_digest(INSTALL.read_text())}"
    return [_kept(name, lambda folder: _install(distribution, below, folder)), *below]


def mirror() -> str:
    """The mirror of Debian that this machine's apt uses, else Debian's own."""
    wanted = "$(CREATED_BY)|$(REPO_URI)|$(ORIGIN)|$(LABEL)"
    said = subprocess.run(["apt-get", "indextargets", "--format", wanted], capture_output=True, text=True).stdout
    found = [line.split("|") for line in said.splitlines() if line.endswith("|Debian|Debian")]
    return next((uri for created_by, uri, *_ in found if created_by == "Packages"), MIRROR)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of a layer; where there is none, *make* fills one, which is put in its place when it is whole."""
    final, building = _made_cache() / name, cache() / f"{name}.building"
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            shutil.rmtree(building, ignore_errors=True)
            try:
                building.mkdir()
                make(building)
                building.chmod(0o755)
                building.rename(final)
            finally:
                shutil.rmtree(building, ignore_errors=True)
        os.utime(final)
        for other in cache().iterdir():
            if (other / "usr").is_dir() and other.stat().st_mtime < time.time() - KEPT_S:
                shutil.rmtree(other, ignore_errors=True)
    return final


def _bootstrap(distribution: Distribution, folder: Path) -> None:
    if reason := unreachable(distribution):
        raise Impossible(reason)
    options = [f"--aptopt={line}" for line in machine_settings.apt_options()]
    argv = ["mmdebstrap", "--variant=apt", f"--include={','.join(distribution.packages)}", *options]
    argv += [f"--keyring={distribution.keyring}", "--mode=root", distribution.name, str(folder), mirror()]
    _run(argv, f"a root of {distribution.title} could not be made")


def _install(distribution: Distribution, below: Sequence[Path], folder: Path) -> None:
    with temporary.folder(_room(), cache()) as work:
        made = Room(distribution, tuple(below), work, folder)
        with _furnished(made):
            shutil.copy(INSTALL, made.work / "own-tmp/install")
            made.work.joinpath("own-tmp/install").chmod(0o755)
            script = f"/tmp/install && useradd --create-home --shell /bin/bash --uid {USER_ID} {USER}"
            _run(made.argv(["sh", "-ec", script], ROOT_USER), f"{distribution.title}: .ci/install failed")


def _run(argv: Sequence[str], failed: str) -> None:
    try:
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=MAKING_S)
    except subprocess.TimeoutExpired as error:
        raise Impossible(f"{failed}: not within {MAKING_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        said = _last_words("\n".join((error.stdout, error.stderr)), 3)
        raise Impossible(f"{failed}: {said}") from error


def _last_words(text: str, lines: int) -> str:
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(said[-lines:])


# -- the clone --------------------------------------------------------------------------------------------------------


def put_clone(made: Room, person: Person) -> str:
    """A clone of this one for *person*, with what is not committed yet; its path in the room. It lies where others may
    read it: tests of root's become other users."""
    folder = made.own_folder(CLONE)
    _git("clone", "-q", "--no-hardlinks", str(ROOT), str(folder))
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        source, target = ROOT / name, folder / name
        target.unlink(missing_ok=True)
        if source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, person.uid, person.uid, follow_symlinks=False)
    return CLONE


def _git(*words: str) -> str:
    argv = ["git", "-c", "safe.directory=*", "-C", str(ROOT), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
