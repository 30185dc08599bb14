"""What somebody has who installed limosa by pip: a wheel in an environment of its own, no checkout, no network."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from limosa import requirements
from limosa.cli.completion import PLACES, script
from limosa.cli.man_page import man_page
from tests import wheels
from tests.limosa_command import Command, Traces

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
BUILT_FROM = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src", "examples", "docs")


@dataclass(frozen=True)
class Installed(Command):
    """``limosa`` from the wheel, as it is on the PATH; ``prefix`` of its environment."""

    where: Path = Path()

    def argv(self, *arguments: str) -> list[str]:
        """The whole command line."""
        return [str(self.where / "bin/limosa"), *arguments]

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file that was installed, with its size and when it was written."""
        found = [path for path in self.where.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built from what the checkout has, then installed from a folder of wheels."""
    folder = tmp_path_factory.mktemp("wheel")
    try:
        shelf, tool = wheels.locked(ROOT / "requirements.lock"), wheels.fetched("setuptools").parent
        pip = next(wheels.working_pips(folder), None)
    except LookupError as error:
        pytest.skip(str(error))
    assert pip, "the wheels are there, and no pip is"
    source, made, where = folder / "source", folder / "made", folder / "an environment"
    _copy(source)
    shelves = [word for place in (shelf, tool, made) for word in ("--find-links", place)]
    offline = ["--no-index", *shelves, "-q"]
    _ok(*pip, "wheel", *offline, "--no-deps", "-w", made, source)
    shutil.rmtree(source)
    _ok(getattr(sys, "_base_executable", sys.executable), "-I", "-m", "venv", "--without-pip", where)
    _ok(*pip, "--python", where / "bin/python", "install", *offline, "limosa")
    environment = {"PYTHONPATH": "", "PATH": f"{where}/bin:{os.environ['PATH']}"}
    return Installed(folder, environment=environment, where=where)


def _copy(source: Path) -> None:
    """What a wheel is built from, in a place of its own: building writes beside it."""
    source.mkdir()
    for each in (ROOT / name for name in BUILT_FROM):
        if each.is_dir():
            shutil.copytree(each, source / each.name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(each, source)


def _ok(*argv: str | Path) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    environment = kept | {"PIP_CONFIG_FILE": "/dev/null", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(argv, cwd="/", env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def limosa(installed: Installed, tmp_path: Path) -> Installed:
    """The same, in a home of the test's own."""
    return Installed(tmp_path, environment=installed.environment, where=installed.where)


def test_it_is_the_wheel_that_runs(limosa: Installed) -> None:
    said = _ok(limosa.where / "bin/python", "-c", "import limosa; print(limosa.__file__)")
    assert said.startswith(f"{limosa.where}/lib/")
    assert "To begin" in limosa.ok("--help").text
    limosa.run("demmo").refused(2, hint="did you mean limosa demo?")


def test_doctor_looks_at_the_machine(limosa: Installed) -> None:
    done = limosa.run("doctor", "--json")
    assert done.returncode in (0, 3), done
    assert f"at {limosa.where}/bin/python" in done.text


def test_every_file_that_a_hint_names_is_there(limosa: Installed) -> None:
    done = limosa.run("status")
    done.refused(4, "no lab is up")
    example = Path(done.errors.split("try ")[1].strip())
    assert example.is_relative_to(limosa.where) and example.is_file()
    (limosa.home / "lab.yaml").write_text("hosts: {host1: {}}\nguest: {}\n")
    refused = limosa.run("up", "lab.yaml")
    refused.refused(2)
    (limosa.home / "lab.yaml").write_text("- host1\n")
    refused = limosa.run("up", "lab.yaml")
    refused.refused(2, hint=f"{example} shows one")


def test_man_finds_the_page(limosa: Installed) -> None:
    share = limosa.where / "share/man"
    assert (share / "man1/limosa.1").read_text() == man_page()
    if shutil.which("man"):
        assert _ok("man", "-M", share, "-w", "limosa").strip() == f"{share}/man1/limosa.1"


ASKS = {
    "bash": """source '{file}'; COMP_WORDS=(limosa mig); COMP_CWORD=1
_limosa_completion limosa; printf '%s\n' "${{COMPREPLY[@]}}" """,
    "fish": "complete -C 'limosa mig'",
    "zsh": """fpath+=('{folder}'); autoload -Uz _limosa; compdef() {{ print compdef; }}; _files() {{ print files; }}
_describe() {{ print -l -- $found; }}; words=(limosa mig); CURRENT=2; _limosa; _limosa""",
}
"""How each shell is brought to say what it completes, by the file that it found. zsh is asked twice: the first call
loads the file."""


@pytest.mark.parametrize("shell", ASKS)
def test_shells_find_their_completion(limosa: Installed, shell: str) -> None:
    file = limosa.where / PLACES[shell]
    assert file.read_text() == f"{script(shell)}\n"
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    environment = limosa.env(HOME=str(limosa.home), XDG_DATA_DIRS=f"{limosa.where}/share:/usr/share")
    argv = [shell, "-c", ASKS[shell].format(file=file, folder=file.parent)]
    done = subprocess.run(
        argv, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60
    )
    assert done.stderr == ""
    found = [line.replace(":", "\t").split("\t")[0] for line in done.stdout.splitlines()]
    assert found == ["migrate"] * (2 if shell == "zsh" else 1)


def test_every_example_is_a_lab_file(limosa: Installed) -> None:
    code = """from pathlib import Path
from limosa import paths, spec
print([spec.load(file).name for file in sorted(paths.example().parent.glob("*.yaml"))])"""
    names = _ok(limosa.where / "bin/python", "-I", "-c", code)
    assert names.count(",") + 1 == len(list((ROOT / "examples").glob("*.yaml")))


def _needed() -> None:
    if missing := asyncio.run(requirements.missing()):
        pytest.skip(f"not installed: {', '.join(each.program for each in missing)}")


def test_demo(limosa: Installed) -> None:
    _needed()
    before, traces = limosa.files(), Traces(limosa.home)
    done = limosa.run("demo", "--json", timeout_s=400)
    assert done.returncode == 0, done
    assert done.json["passed"] is True
    assert Path(done.json["report"]).is_file()
    traces.assert_gone(within_s=20)
    assert limosa.files() == before, "nothing is written where limosa is installed"


@pytest.mark.parametrize("words", [("homework", "--quick"), ("bench", "during-migration")], ids=" ".join)
def test_what_takes_long_finds_its_lab(limosa: Installed, words: tuple[str, ...]) -> None:
    """It goes as far as its hosts, which are those of the example, and is told to end there."""
    _needed()
    traces = Traces(limosa.home)
    child = limosa.begin(*words, "--no-install", stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 120
        while not limosa.labs and child.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait(120) == 130
    finally:
        child.kill()
        child.wait()
    traces.assert_gone(within_s=20)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("homework", "--quick"), ("bench", "during-migration")], ids=" ".join)
def test_what_takes_long(limosa: Installed, words: tuple[str, ...]) -> None:
    _needed()
    done = limosa.run(*words, "--json", timeout_s=1500)
    assert done.returncode == 0, done
