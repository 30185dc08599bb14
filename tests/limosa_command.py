"""The real command line in a place of its own, and what it left there: shared by the system tests that drive it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import limosa
from limosa import paths
from tests import leftovers

SOURCE = Path(limosa.__file__).parents[1]


@dataclass(frozen=True)
class Command:
    """``limosa`` with a state directory of its own; ``prefix`` is what it is run through."""

    home: Path
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    python: tuple[str, ...] = (sys.executable,)

    @property
    def state(self) -> Path:
        """Labs and runs."""
        return self.home / "limosa"

    @property
    def labs(self) -> list[str]:
        """The names of the labs that have a directory."""
        folder = self.state / "labs"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    @property
    def runs(self) -> list[Path]:
        """The run directories, oldest first."""
        folder = self.state / "runs"
        return sorted(folder.iterdir()) if folder.exists() else []

    def argv(self, *arguments: str) -> list[str]:
        """The whole command line."""
        return [*self.prefix, *self.python, "-m", "limosa", *arguments]

    def env(self, **more: str) -> dict[str, str]:
        """This process's environment, with the state directory and nothing that names another lab."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LIMOSA")}
        return {**kept, "XDG_STATE_HOME": str(self.home), "PYTHONPATH": str(SOURCE), **self.environment, **more}

    def run(
        self, *arguments: str, stdin: bytes | None = None, timeout_s: float = 120, cwd: Path | None = None, **more: str
    ) -> Done:
        """Run it to its end."""
        done = subprocess.run(
            self.argv(*arguments),
            env=self.env(**more),
            cwd=cwd or self.home,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            **({"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}),  # type: ignore[arg-type]
        )
        return Done(arguments, done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, timeout_s: float = 120, **more: str) -> Done:
        """Run it, and see it succeed."""
        done = self.run(*arguments, timeout_s=timeout_s, **more)
        assert done.returncode == 0, done
        return done

    def begin(self, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        """Start it in a session of its own."""
        return subprocess.Popen(
            self.argv(*arguments),
            env=self.env(),
            cwd=self.home,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "start_new_session": True,
                **more,
            },
        )


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    arguments: tuple[str, ...]
    returncode: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Standard output."""
        return self.out.decode()

    @property
    def errors(self) -> str:
        """Standard error."""
        return self.err.decode()

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it has to be."""
        return json.loads(self.out)

    def refused(self, exit_code: int, *words: str, hint: str = "") -> None:
        """Assert that this is an error as errors are here: one sentence, a hint, the exit code, no traceback."""
        assert "Traceback" not in self.errors, self
        assert self.returncode == exit_code, self
        lines = [line for line in self.errors.splitlines() if line.startswith("limosa: ")]
        assert len(lines) == 1, self
        for word in words:
            assert word in lines[0], self
        hints = [line for line in self.errors.splitlines() if line.startswith("  hint: ")]
        assert len(hints) == 1, self
        assert hint in hints[0], self


def fresh(folder: Path) -> Command:
    """A command in the new folder *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    return Command(folder)


def with_own_cache(home: Path) -> Command:
    """A command in *home* with an image cache of its own; what proves KVM and compiles the agent stays where it is."""
    cache = home / "cache/limosa"
    cache.mkdir(parents=True)
    for part in ("accel", "agent", "qemu"):
        (paths.cache() / part).mkdir(parents=True, exist_ok=True)
        (cache / part).symlink_to(paths.cache() / part)
    return Command(home, environment={"XDG_CACHE_HOME": str(home / "cache")})


ORDINARY_USER = "12345"


def as_user(home: Path, *before: str, **variables: str) -> Command:
    """The command line as an ordinary user, after *before* was run; skips where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("not root, so this cannot become another user")
    for path in (home, *home.iterdir()):
        os.chown(path, int(ORDINARY_USER), int(ORDINARY_USER))
    drop = ["setpriv", "--reuid", ORDINARY_USER, "--regid", ORDINARY_USER, "--clear-groups", "--"]
    # What setpriv itself starts is still found with root's right to search; what that starts is not.
    drop += ["sh", "-c", 'exec "$@"', "sh"]
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    environment = {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "PYTHONPATH": ":".join([str(SOURCE), *libraries]),
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        **variables,
    }
    for python in (sys.executable, "/usr/bin/python3"):
        if Command(home, tuple(drop), environment, (python,)).run("--version").returncode == 0:
            return Command(home, (*before, *drop), environment, (python,))
    pytest.skip("no Python here that another user may run")


@dataclass
class Traces:
    """What *home*'s labs leave on this machine: looked for before, during and after."""

    home: Path
    before: leftovers.Snapshot = field(init=False)
    members: dict[tuple[int, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.before = leftovers.snapshot([self.home])

    def look(self) -> None:
        """Remember who is in the labs' namespaces now: later each of them is a trace, whatever its name."""
        seen = leftovers.snapshot([self.home])
        self.members |= leftovers.members(set(seen.found["namespace"]) - set(self.before.found["namespace"]))

    def left(self) -> list[str]:
        """One line for each thing that is there now and was not before."""
        found = leftovers.difference(self.before, leftovers.snapshot([self.home]))
        # What has ended holds nothing; some machines' init takes seconds to collect it.
        found = [line for line in found if not line.endswith(leftovers.ENDED)]
        alive = leftovers.alive()
        return found + [
            f"process {pid}: {text}" for (pid, since), text in self.members.items() if (pid, since) in alive
        ]

    def assert_gone(self, within_s: float, *, folders: bool = True) -> None:
        """Nothing is left, at the latest after *within_s*: the kernel takes a moment to end namespaces.

        Without *folders* a lab's files may be: those of a demo killed before its fabric stood go with the next demo.
        """
        end = time.monotonic() + within_s
        while (left := [x for x in self.left() if folders or not x.startswith("folder ")]) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left, "\n" + "\n".join(left)
