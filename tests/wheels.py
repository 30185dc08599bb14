"""Python packages that tests take things out of: fetched once, kept in the cache, never installed.

The environment that the launcher makes has no pip, so it is the interpreter's own that fetches, as for the launcher;
where that has none either, one in an environment made for the purpose.
"""

from __future__ import annotations

import fcntl
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


def _fetch(package: str, folder: Path) -> None:
    said = "there is no pip"
    with tempfile.TemporaryDirectory() as own:
        for pip in _pips(Path(own)):
            if _run([*pip, "--version"]).returncode == 0:
                done = _run([*pip, "download", "-q", "--no-deps", "-d", str(folder), package])
                if done.returncode == 0:
                    return
                said = done.stderr.strip()[-200:]
    raise LookupError(f"the Python package {package} cannot be had: {said}")


def _pips(folder: Path) -> Iterator[list[str]]:
    """The ways to start pip, the cheapest first; the last makes an environment in *folder*, in some seconds."""
    python = getattr(sys, "_base_executable", sys.executable)
    yield [sys.executable, "-I", "-m", "pip"]
    yield [python, "-I", "-m", "pip"]
    if _run([python, "-I", "-m", "venv", str(folder / "venv")]).returncode == 0:
        yield [str(folder / "venv/bin/python"), "-I", "-m", "pip"]


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=FETCH_S)
