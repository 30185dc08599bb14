"""The examples are for everybody: no rare kernel module, no name that limosa does not offer."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import limosa
from limosa import spec

EXAMPLES = Path(__file__).parents[2] / "examples"
LABS = sorted(EXAMPLES.glob("*.yaml"))
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.name)
def test_no_lab_needs_a_kernel_module_that_many_machines_lack(path: Path) -> None:
    delays = {name: network.delay_ms for name, network in spec.load(path).networks.items()}
    assert delays == dict.fromkeys(delays)


def test_the_delay_that_is_commented_out_is_right() -> None:
    path = EXAMPLES / "shaped.yaml"
    text = path.read_text()
    assert "# delay:" in text
    assert spec.loads(text.replace("# delay:", "delay:"), str(path)).networks["lan"].delay_ms == 2.0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_cell_stands_alone(path: Path) -> None:
    cells = path.read_text().split("\n# %%")
    assert len(cells) > 2
    for cell in cells:
        ast.parse(cell if cell.startswith('"""') else cell.partition("\n")[2])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_use_the_names_at_the_top(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("limosa"):
            assert node.module == "limosa"
            assert {alias.name for alias in node.names} <= {*limosa.__all__, "spec"}


def test_every_name_at_the_top_is_there() -> None:
    for name in limosa.__all__:
        assert getattr(limosa, name).__name__ == name
    assert set(limosa.__all__) <= set(dir(limosa))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = limosa.no_such_name


def test_checkers_see_the_names_that_are_loaded() -> None:
    tree = ast.parse(Path(limosa.__file__).read_text())
    shown = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("limosa")
        for alias in node.names
    }
    homes = {(module, name) for module, names in limosa._HOMES.items() for name in names}
    assert shown == homes
    assert {name for _, name in homes} == set(limosa.__all__)


def test_import_is_free() -> None:
    code = "import sys; before = set(sys.modules); import limosa; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"limosa", "__future__"}
