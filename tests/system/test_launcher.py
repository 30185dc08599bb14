"""The launcher for real: in clones of its own, with empty lock files so that nothing is downloaded."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

LAUNCHER = Path(__file__).resolve().parents[2] / "limosa"
PROGRAM = "import sys\nprint(sys.argv[1:], sys.prefix)\n"
PYTHONS = "/usr/bin:/bin"
"""Only the distribution's Python, so that what is found does not depend on the caller's shims."""


def lock(body: str) -> str:
    return f"# {hashlib.sha256(body.encode()).hexdigest()}\n{body}"


def environment(home: Path, path: str = PYTHONS) -> dict[str, str]:
    return {"PATH": path, "HOME": str(home), "PIP_NO_INDEX": "1", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return bare_clone(tmp_path)


def bare_clone(folder: Path) -> Path:
    if subprocess.run(["/usr/bin/python3", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode:
        pytest.skip("the distribution's Python is older than 3.11")
    root = folder / "a clone"
    (root / "src" / "limosa").mkdir(parents=True)
    shutil.copy(LAUNCHER, root)
    (root / "src/limosa/__init__.py").touch()
    (root / "src/limosa/__main__.py").write_text(PROGRAM)
    for name in ("requirements.lock", "requirements-dev.lock"):
        (root / name).write_text(lock("# nothing\n"))
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone that has its environment; tests take copies, which work because a clone can be moved."""
    root = bare_clone(tmp_path_factory.mktemp("made"))
    done = launch(root, "up", "two words")
    assert (done.returncode, done.stdout) == (0, f"['up', 'two words'] {root}/.venv\n"), done.stderr
    assert "making its Python environment" in done.stderr
    return root


@pytest.fixture
def warm(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / made.name, symlinks=True))


def launch(root: Path, *arguments: str, cwd: Path = Path("/"), **more: str) -> subprocess.CompletedProcess[str]:
    env = environment(root.parent) | more
    return subprocess.run(
        [str(root / "limosa"), *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=60
    )


def in_namespace(root: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Launch after *script*, which may cover parts of the file system, in mount and user namespaces of its own."""
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh"]
    if subprocess.run([*argv[:4], "true"], capture_output=True).returncode:
        pytest.skip("no user and mount namespaces here")
    argv += [str(root / "limosa"), *arguments]
    return subprocess.run(argv, env=environment(root.parent), capture_output=True, text=True, timeout=60)


def test_second_use_is_quiet(warm: Path) -> None:
    before = (warm / ".venv").stat()
    done = launch(warm, "up")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"['up'] {warm}/.venv\n", "")
    assert (warm / ".venv").stat().st_ino == before.st_ino


def test_every_way_to_call_it(warm: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "limosa").symlink_to("../link")
    (tmp_path / "link").symlink_to(warm / "limosa")
    ways = {
        "symlinks by PATH": (["limosa"], tmp_path, f"{tmp_path}/bin:{PYTHONS}"),
        "relative": (["../a clone/limosa"], tmp_path / "bin", PYTHONS),
        "here": (["./limosa"], warm, PYTHONS),
        "by bash": (["bash", "limosa"], warm, PYTHONS),
    }
    for way, (argv, cwd, path) in ways.items():
        done = subprocess.run(
            ["/usr/bin/env", *argv], cwd=cwd, env=environment(tmp_path, path), capture_output=True, text=True
        )
        assert (done.stdout, done.stderr) == (f"[] {warm}/.venv\n", ""), way


def test_current_directory_is_not_imported_from(warm: Path, tmp_path: Path) -> None:
    (tmp_path / "limosa.py").write_text("raise SystemExit('the wrong limosa')\n")
    assert launch(warm, cwd=tmp_path).stdout == f"[] {warm}/.venv\n"


def test_changed_lock_and_lost_interpreter_make_it_again(warm: Path) -> None:
    (warm / "requirements.lock").write_text(lock("# something else\n"))
    assert "making its" in launch(warm).stderr
    (warm / ".venv/bin/python").unlink()
    (warm / ".venv/bin/python").symlink_to("/nowhere/python3.10")
    assert "making its" in launch(warm).stderr
    assert launch(warm).stderr == ""


def test_two_at_once_make_it_once(clone: Path) -> None:
    env = environment(clone.parent)
    both = [
        subprocess.Popen([str(clone / "limosa")], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [child.communicate(timeout=60) for child in both]
    assert [out for out, _ in said] == [f"[] {clone}/.venv\n"] * 2
    assert sorted("making its" in err for _, err in said) == [False, True]
    assert any("another limosa is making" in err for _, err in said)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_setup_is_done_again(clone: Path, number: signal.Signals) -> None:
    child = subprocess.Popen([str(clone / "limosa")], env=environment(clone.parent), stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while not (clone / ".venv/pyvenv.cfg").exists() and time.monotonic() < until:
        time.sleep(0.005)
    child.send_signal(number)
    assert child.wait(timeout=30) == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    if number != signal.SIGKILL:
        assert not (clone / ".venv").exists()
    done = launch(clone)
    assert (done.returncode, done.stdout) == (0, f"[] {clone}/.venv\n"), done.stderr
    assert "making its" in done.stderr


def test_failed_setup_says_so_and_leaves_nothing(clone: Path) -> None:
    body = f"no-such-thing==1 --hash=sha256:{'0' * 64}\n"
    (clone / "requirements.lock").write_text(lock(body))
    done = launch(clone)
    assert done.returncode == 3
    assert "no-such-thing" in done.stderr
    assert "libraries could not be installed" in done.stderr
    assert not (clone / ".venv").exists()


def test_test_adds_the_developers_tools(warm: Path) -> None:
    (warm / "requirements-dev.lock").write_text(lock("# more\n"))
    done = launch(warm, "test", "-k", "some thing")
    assert "making its" in done.stderr
    assert "No module named pytest" in done.stderr  # the empty lock has none; it is what the launcher runs
    assert launch(warm).stderr == ""


def test_python_too_old_is_said_with_what_was_found(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("#!/bin/sh\necho False /opt/python3.9\n")
    (tmp_path / "old").chmod(0o755)
    real = Path("/usr/bin/python3").resolve()
    done = in_namespace(clone, f"mount --bind '{tmp_path}/old' {real}")
    assert done.returncode == 3
    assert "needs Python 3.11 or newer, and /opt/python3.9 was found" in done.stderr
    assert "hint: install Python 3.11" in done.stderr


def without_pip(tmp_path: Path) -> str:
    """A script that covers pip and ensurepip of the distribution's Python with an empty folder."""
    (tmp_path / "empty").mkdir()
    ask = (
        "import importlib.util as u\nfor n in ('pip', 'ensurepip'):\n    s = u.find_spec(n)\n    if s: print(s.origin)"
    )
    found = subprocess.run(["/usr/bin/python3", "-I", "-c", ask], capture_output=True, text=True).stdout.split()
    return "\n".join(f"mount --bind '{tmp_path}/empty' '{Path(origin).parent}'" for origin in found)


def with_lists(tmp_path: Path, lists: list[str]) -> str:
    """A script after which those are apt's lists of packages."""
    (tmp_path / "lists").mkdir()
    for name in lists:
        (tmp_path / "lists" / name).touch()
    return f"mount --bind '{tmp_path}/lists' /var/lib/apt/lists"


@pytest.mark.parametrize(
    ("lists", "first"), [(["mirror_main_Packages"], ""), ([], "apt-get update && ")], ids=["lists", "no lists"]
)
def test_missing_venv_module_is_said_with_the_apt_line(
    clone: Path, tmp_path: Path, lists: list[str], first: str
) -> None:
    if not Path("/usr/bin/apt-get").exists():
        pytest.skip("no apt-get here")
    script = f"{without_pip(tmp_path)}\n{with_lists(tmp_path, lists)}"
    done = in_namespace(clone, script, "up", "--no-install")
    package = Path("/usr/bin/python3").resolve().name + "-venv"
    assert done.returncode == 3
    assert f"the package {package} is missing" in done.stderr
    assert f"hint: run: {first}apt-get install -y --no-install-recommends {package}" in done.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize(
    ("lists", "update", "runs"),
    [
        pytest.param(["mirror_main_Packages"], 0, ["install", "update", "install"], id="lists that are old"),
        pytest.param([], 0, ["update", "install"], id="no lists"),
        pytest.param([], 1, ["update"], id="no lists and no mirror"),
    ],
)
def test_missing_venv_module_is_installed_after_saying_so(
    clone: Path, tmp_path: Path, lists: list[str], update: int, runs: list[str]
) -> None:
    """A container's image often has no lists of packages: nothing is tried that can only fail."""
    (tmp_path / "apt").write_text(f'#!/bin/sh\necho "apt ran: $*"\n[ $1 = update ] && exit {update}\nexit 1\n')
    (tmp_path / "apt").chmod(0o755)
    script = f"{without_pip(tmp_path)}\n{with_lists(tmp_path, lists)}"
    done = in_namespace(clone, f"{script}\nmount --bind '{tmp_path}/apt' /usr/bin/apt-get", "up")
    package = Path("/usr/bin/python3").resolve().name + "-venv"
    lines = {"install": f"install -y --no-install-recommends {package}", "update": "update"}
    said = done.stderr.splitlines()
    assert done.returncode == 3
    assert [line for line in said if line.startswith("apt ran")] == [f"apt ran: {lines[run]}" for run in runs]
    assert any(line.startswith("limosa: running") and line.endswith(f"apt-get {lines[runs[0]]}") for line in said)
    assert said[-1].endswith(f"apt-get {lines['install']}")


def test_read_only_clone_keeps_the_environment_in_the_cache(clone: Path, tmp_path: Path) -> None:
    script = f"mount --bind '{clone}' '{clone}'; mount -o remount,bind,ro '{clone}'"
    first = in_namespace(clone, script, "up")
    (made,) = (tmp_path / ".cache/limosa").glob("venv-*")
    assert (first.returncode, first.stdout) == (0, f"['up'] {made}\n"), first.stderr
    second = in_namespace(clone, script, "up")
    assert (second.stdout, second.stderr) == (f"['up'] {made}\n", "")
    assert not (clone / ".venv").exists()


NOEXEC = "mount --bind '{0}' '{0}'; mount -o remount,bind,noexec '{0}'"


def test_clone_on_a_file_system_that_runs_no_programs(clone: Path, tmp_path: Path) -> None:
    """Python itself lies elsewhere, and so has what it loads: libraries are refused there as programs are."""
    script = NOEXEC.format(clone) + '; set -- bash "$@"'
    first = in_namespace(clone, script, "up")
    (made,) = (tmp_path / ".cache/limosa").glob("venv-*")
    assert (first.returncode, first.stdout) == (0, f"['up'] {made}\n"), first.stderr
    second = in_namespace(clone, script, "up")
    assert (second.stdout, second.stderr) == (f"['up'] {made}\n", "")
    assert not (clone / ".venv").exists()


def test_environment_that_was_made_before_the_file_system_was_mounted_so(warm: Path, tmp_path: Path) -> None:
    done = in_namespace(warm, NOEXEC.format(warm) + '; set -- bash "$@"', "up")
    (made,) = (tmp_path / ".cache/limosa").glob("venv-*")
    assert (done.returncode, done.stdout) == (0, f"['up'] {made}\n"), done.stderr


def test_no_place_that_runs_programs_is_said(clone: Path, tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    script = f'{NOEXEC.format(clone)}; {NOEXEC.format(tmp_path / ".cache")}; set -- bash "$@"'
    done = in_namespace(clone, script, "up")
    assert done.returncode == 3
    assert done.stderr == (
        f"limosa: there is no place for the Python environment: programs in {clone} do not run, and programs in "
        f"{tmp_path}/.cache/limosa do not run.\n"
        "  hint: set XDG_CACHE_HOME to a directory of your own, on a disk that programs run from\n"
    )
    assert list((tmp_path / ".cache/limosa").iterdir()) == []


NOBODY = 45678


def as_nobody(root: Path, setting: str) -> subprocess.CompletedProcess[str]:
    """Launch as a user whom the system does not know, without HOME, where only the clone's parent is writable."""
    script = f"""for place in '{root.parent}' '{root}'; do mount --bind "$place" "$place"; done
for place in '{root}' /; do mount -o remount,bind,ro "$place"; done
set -- unshare --user --map-user={NOBODY} --map-group={NOBODY} env -u HOME TMPDIR='{root.parent}' '{setting}' "$@" """
    return in_namespace(root, script, "up")


def test_nobodys_home_is_said(clone: Path) -> None:
    done = as_nobody(clone, "XDG_CACHE_HOME=")
    assert done.returncode == 3
    assert done.stderr == (
        f"limosa: there is no place for the Python environment: {clone} cannot be written, and /.cache/limosa cannot "
        "be written.\n  hint: set HOME to a directory of your own, or XDG_CACHE_HOME and XDG_STATE_HOME\n"
    )


def test_nobody_with_a_cache_can_go_on(clone: Path, tmp_path: Path) -> None:
    done = as_nobody(clone, f"XDG_CACHE_HOME={tmp_path}/cache")
    (made,) = (tmp_path / "cache/limosa").glob("venv-*")
    assert (done.returncode, done.stdout) == (0, f"['up'] {made}\n"), done.stderr


def test_warm_start_spawns_no_process(warm: Path) -> None:
    """Without any program to spawn on PATH, a clone start still works."""
    empty = warm.parent / "nothing"
    empty.mkdir()
    argv = ["/bin/bash", str(warm / "limosa"), "up"]
    done = subprocess.run(argv, env=environment(warm.parent, str(empty)), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"['up'] {warm}/.venv\n", "")


def test_ctrl_c_while_python_starts_is_no_traceback(warm: Path) -> None:
    """It waits for the program's own main, which needs nothing else to see it."""
    (site,) = (warm / ".venv/lib").glob("python3.*/site-packages")
    interrupted = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    (site / "limosa.pth").write_text(f"{LAUNCHER.parent / 'src'}\n{interrupted}\n")
    done = launch(warm, "up")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    (warm / ".venv/blocks").unlink()
    assert "KeyboardInterrupt" in launch(warm, "up").stderr, "an env that cannot block is no obstacle"


def test_uv_is_used_where_it_is(clone: Path) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("uv is not installed")
    done = launch(clone, PATH=f"{Path(uv).parent}:{PYTHONS}", UV_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert "uv = " in (clone / ".venv/pyvenv.cfg").read_text()


def test_uv_that_fails_gives_way_to_pip(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "uv").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "uv").chmod(0o755)
    done = launch(clone, PATH=f"{tmp_path}:{os.environ.get('PATH', '')}:{PYTHONS}")
    assert (done.returncode, done.stdout) == (0, f"[] {clone}/.venv\n"), done.stderr
