"""Python packages that tests take things out of, or install where no network is: fetched once, kept in the cache.

The environment that the launcher makes has no pip, so it is the interpreter's own that fetches, as for the launcher;
where that has none either, one in an environment made for the purpose.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from limosa import paths

FETCH_S = 300


def fetched(package: str) -> Path:
    """The wheel of *package* in its newest version that is in the cache. Raises LookupError, with why, without one."""
    cache = paths.cache() / "tests"
    cache.mkdir(parents=True, exist_ok=True)
    pattern = f"{package.replace('-', '_')}-*.whl"
    with (cache / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (found := sorted(cache.glob(pattern))):
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                _fetch(package, Path(folder))
                for wheel in Path(folder).glob(pattern):
                    wheel.rename(cache / wheel.name)
            found = sorted(cache.glob(pattern))
    if not found:
        raise LookupError(f"the Python package {package} has no wheel")
    return found[-1]


def locked(lock_file: Path) -> Path:
    """A folder of all the wheels that a lock file names. Raises LookupError, with why, when they cannot be had."""
    cache = paths.cache() / "tests"
    cache.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(f"{sys.version_info[:2]} {lock_file.read_text()}".encode()).hexdigest()[:16]
    with (cache / "locked.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (found := cache / f"locked-{name}").is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                whole = Path(folder, "wheels")
                _download(f"what {lock_file.name} names", whole, ["--require-hashes", "-r", str(lock_file)])
                whole.rename(found)
    return found


def _fetch(package: str, folder: Path) -> None:
    _download(f"the Python package {package}", folder, ["--no-deps", package])


def _download(what: str, folder: Path, arguments: list[str]) -> None:
    said = "there is no pip"
    with tempfile.TemporaryDirectory() as own:
        for pip in working_pips(Path(own)):
            done = _run([*pip, "download", "-q", "--only-binary", ":all:", "-d", str(folder), *arguments])
            if done.returncode == 0:
                return
            said = done.stderr.strip()[-200:]
    raise LookupError(f"{what} cannot be had: {said}")


def working_pips(folder: Path) -> Iterator[list[str]]:
    """The ways to start pip that there are, the cheapest first; the last is made in *folder*."""
    for pip in _pips(folder):
        if _run([*pip, "--version"]).returncode == 0:
            yield pip


def _pips(folder: Path) -> Iterator[list[str]]:
    """The ways to start pip, the cheapest first; the last makes an environment in *folder*, in some seconds."""
    python = getattr(sys, "_base_executable", sys.executable)
    yield [sys.executable, "-I", "-m", "pip"]
    yield [python, "-I", "-m", "pip"]
    if _run([python, "-I", "-m", "venv", str(folder / "venv")]).returncode == 0:
        yield [str(folder / "venv/bin/python"), "-I", "-m", "pip"]


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=FETCH_S)
