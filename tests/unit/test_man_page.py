"""The manual page tells what help tells, in a language that man understands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from limosa.cli.declared import parameters
from limosa.cli.man_page import man_page
from limosa.cli.verbs import PARTS, ROOT_OPTIONS, VERBS
from limosa.errors import LimosaError

ROOT = Path(__file__).parents[2]
REQUESTS = {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".nh", ".ad"}


def plain(roff: str) -> str:
    """The text of the page without its commands."""
    text = re.sub(r"\\f[BR]|\\&", "", roff)
    text = re.sub(r"\\\[u([0-9A-F]{4,})\]", lambda found: chr(int(found[1], 16)), text)
    return text.replace("\\-", "-").replace("\\(dq", '"').replace("\\(aq", "'").replace("\\e", "\\")


def test_every_line_is_text_or_a_command_that_is_meant() -> None:
    for line in man_page().splitlines():
        assert line.isascii() and line, line
        assert not line.startswith("'"), line
        assert not line.startswith(".") or line.split(" ")[0] in REQUESTS, line


def test_every_verb_and_every_option_is_told() -> None:
    page = plain(man_page())
    for verb, (module, name, about) in VERBS.items():
        _, found, section = page.partition(f'.SS "limosa {verb} [OPTIONS]')
        section = re.split(r"^\.S[SH]", section, flags=re.MULTILINE)[0]
        assert found, verb
        assert about.replace("`", "") in section
        for each in parameters(getattr(import_module(f"limosa.cli.{module}"), name)):
            assert each.metavar in section
            assert all(option in section for option in (*each.names, *each.noes)), (verb, each.name)
    for part in PARTS:
        assert f'.SH "{part.upper()}"' in page
    assert all(option in page for option in ROOT_OPTIONS)


def test_it_tells_the_exit_codes() -> None:
    told = {int(number) for number in re.findall(r"(\d+) [a-z]", plain(man_page()).partition(".SH EXIT STATUS")[2])}
    kinds = [LimosaError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {0, *(kind.exit_code for kind in kinds)} <= told


def test_a_build_can_make_it() -> None:
    """Who builds a wheel has the standard library, and what pyproject.toml names for it."""
    built_by = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    there = {re.split(r"\W", each)[0] for each in built_by} | sys.stdlib_module_names | {"limosa"}
    code = f"""import sys
class Absent:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] not in {there!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent)
from limosa.cli.man_page import man_page
from limosa.cli.completion import PLACES, script
print(len(man_page()), *map(script, PLACES))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_man_complains_of_nothing(tmp_path: Path) -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    (tmp_path / "limosa.1").write_text(man_page())
    argv = ["man", "--warnings", "-l", str(tmp_path / "limosa.1")]
    environment = {"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "--install-completion" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
