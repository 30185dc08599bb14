"""A lab seen from another pid namespace: it is not made a second time, and nothing of it is deleted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from limosa.hosts.namespaces.marks import marked
from limosa.hosts.namespaces.traces import observed
from limosa.lab.record import LabDirectory
from tests import leftovers, namespaces

pytestmark = pytest.mark.system
ONE = "name: one\nhosts: {host1: {}}\n"
AWAY = ("--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[LabDirectory]:
    done = subprocess.run([*away(), "true"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    with tempfile.TemporaryDirectory(prefix="ll") as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        (Path(folder) / "one.yaml").write_text(ONE)
        before = leftovers.snapshot([folder])
        found = LabDirectory.named("one")
        yield found
        for pid in marked(found.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not [line for line in leftovers.wait_settled(before) if not line.startswith("folder")]


def away() -> list[str]:
    """Into another pid namespace, as a container has; an ordinary user takes a user namespace as well."""
    return ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), *AWAY, "--"]


def limosa(*words: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    argv = [*before, sys.executable, "-m", "limosa", *words]
    return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=60)


def files(directory: LabDirectory) -> list[str]:
    return sorted(str(path) for path in directory.path.rglob("*"))


@pytest.mark.parametrize("lost", [(), ("record.json",), ("record.json", "spec.json")])
def test_from_another_pid_namespace_every_verb_is_refused(directory: LabDirectory, lost: Sequence[str]) -> None:
    lab = str(directory.path.parents[2] / "one.yaml")
    assert limosa("up", lab).returncode == 0
    whole, there = observed(directory.mark), marked(directory.mark)
    for name in lost:
        (directory.path / name).unlink()
    kept = files(directory)
    verbs = [("up", lab), ("down", lab), ("down", "--lab", "one"), ("status", "--lab", lab)]
    for words in (*verbs, ("exec", "host1", "--lab", lab, "--", "true")):
        done = limosa(*words, before=away())
        assert done.returncode == 4 and "another pid namespace of this machine" in done.stderr, (words, done)
        assert "limosa down there ends the lab" in done.stderr
        assert (files(directory), marked(directory.mark), observed(directory.mark)) == (kept, there, whole)
    assert limosa("down", lab).returncode == 0


def test_from_a_user_namespace_beside_the_labs_every_verb_is_refused(directory: LabDirectory) -> None:
    """As in a container that shows this machine's processes: they may be seen and killed there, and not asked."""
    lab = str(directory.path.parents[2] / "one.yaml")
    assert limosa("up", lab).returncode == 0
    kept, there = files(directory), marked(directory.mark)
    for words in (("up", lab), ("down", "--lab", "one"), ("status", "--lab", lab)):
        done = limosa(*words, before=["unshare", "--user", "--map-root-user", "--"])
        assert done.returncode == 4 and "another user namespace" in done.stderr, (words, done)
        assert (files(directory), marked(directory.mark)) == (kept, there)
    assert limosa("down", lab).returncode == 0


def test_with_its_state_directory_elsewhere_a_running_lab_is_not_made_again(
    directory: LabDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = directory.path.parents[2]
    assert limosa("up", str(home / "one.yaml")).returncode == 0
    there, moved = marked(directory.mark), home / "moved"
    moved.mkdir()
    (home / "limosa").rename(moved / "limosa")
    monkeypatch.setenv("XDG_STATE_HOME", str(moved))
    for words in (("up", str(home / "one.yaml")), ("status", "--lab", "one"), ("down", "--lab", "one")):
        done = limosa(*words)
        assert done.returncode == 4 and f"made as {directory.mark}" in done.stderr, (words, done)
        assert marked(directory.mark) == there and not marked(LabDirectory.named("one").mark)
    (moved / "limosa").rename(home / "limosa")
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    assert limosa("down", "--lab", "one").returncode == 0


def test_what_ended_with_its_pid_namespace_is_gone(directory: LabDirectory) -> None:
    """As a container that is thrown away while its lab is up."""
    lab = str(directory.path.parents[2] / "one.yaml")
    done = limosa("up", lab, before=away())
    assert done.returncode == 0, done
    done = limosa("up", lab)
    assert done.returncode == 0 and "host1" in done.stdout, done
    assert limosa("down", lab).returncode == 0


def test_what_is_made_anew_is_made_by_whoever_makes_it(directory: LabDirectory) -> None:
    """The lab that ended was brought up by root, as most containers have it, or by an ordinary user."""
    lab, rootless = str(directory.path.parents[2] / "one.yaml"), os.geteuid() != 0
    assert limosa("up", lab).returncode == 0
    record = directory.record()
    assert record is not None and limosa("down", "--keep-disks", lab).returncode == 0
    record.kinds = namespaces.kinds(rootless=not rootless)
    directory.save(record)
    done = limosa("up", lab)
    assert done.returncode == 0, done
    seen = observed(directory.mark)
    assert seen is not None and seen.rootless is rootless
    assert limosa("down", lab).returncode == 0


EPHEMERAL = """
import asyncio, sys
from limosa import spec
from limosa.lab import Lab
async def work():
    async with Lab.open(spec.loads(sys.argv[1]), ephemeral=True) as lab:
        await lab.up()
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await lab.host("host1").run(["true"])
asyncio.run(work())
"""
ANOTHER = textwrap.dedent("""
import asyncio, sys
from limosa import spec
from limosa.errors import StateError
from limosa.lab import Lab, sweep
async def work():
    try:
        async with Lab.open(spec.loads(sys.argv[1]), ephemeral=True) as lab:
            await lab.up()
    except StateError as error:
        print(error.message)
print(sweep())
asyncio.run(work())
""")


def test_an_ephemeral_lab_is_neither_swept_nor_taken_over_from_there(directory: LabDirectory) -> None:
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-c", EPHEMERAL, ONE]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as maker:
        assert maker.stdin is not None and maker.stdout is not None
        assert maker.stdout.readline() == b"up\n"
        done = subprocess.run(
            [*away(), sys.executable, "-c", ANOTHER, ONE], capture_output=True, text=True, env=env, timeout=60
        )
        assert done.returncode == 0, done
        swept, refused = done.stdout.splitlines()
        assert swept == "[]" and "another pid namespace" in refused
        maker.stdin.close()
        assert maker.wait(30) == 0
