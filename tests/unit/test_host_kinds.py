"""The kinds of hosts: one row each, one package each, and nobody else who asks for a kind by its name."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from limosa.hosts import catalogue
from limosa.spec import host_kinds

PACKAGE = Path(catalogue.__file__).parents[1]
CATALOGUE, ROWS = "hosts/catalogue.py", "spec/host_kinds.py"
FOLDERS = {module.split(".")[2] for module in catalogue.PACKAGES.values()}
CONSTANTS = {name.upper() for name in host_kinds.KINDS}
DEFAULT = {"spec/resolved.py", "spec/written.py"}
"""They name the kind that a host is of when a lab file names none."""


def test_every_kind_has_a_row_and_a_package() -> None:
    assert list(catalogue.PACKAGES) == list(host_kinds.KINDS)
    for module in catalogue.PACKAGES.values():
        assert (PACKAGE.parent / (module.replace(".", "/") + ".py")).exists(), module


def complaints(name: str, tree: ast.Module) -> list[str]:
    """Where a module of *name* asks for a kind by its name, or by what only one kind has."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            named = {c.value for side in sides for c in ast.walk(side) if isinstance(c, ast.Constant)}
            kinds = [side for side in sides if getattr(side, "attr", getattr(side, "id", "")) == "kind"]
            if kinds and named & set(host_kinds.KINDS):
                found.append(f"{name}:{node.lineno}: compares with the name of a kind")
        elif isinstance(node, ast.Attribute):
            if node.attr in CONSTANTS and getattr(node.value, "id", "") == "host_kinds" and name not in DEFAULT:
                found.append(f"{name}:{node.lineno}: asks for the row {node.attr}")
            if node.attr == "adopt" and not name.startswith("spec/"):
                found.append(f"{name}:{node.lineno}: asks whether a host is adopted")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            words = ast.unparse(node).replace(",", " ").split()
            modules = [word for word in words if word.startswith("limosa.hosts.")]
            modules += [f"limosa.hosts.{word}" for word in words] if "limosa.hosts" in words else []
            if any(module.split(".")[2] in FOLDERS for module in modules):
                found.append(f"{name}:{node.lineno}: imports a kind's own package")
    return found


@pytest.mark.parametrize("line", [
    'spec.kind == "ssh"', 'host.kind in ("incus", "lxd")', 'kind != "namespaces"', "host_kinds.SSH", "host.adopt",
    "from limosa.hosts.ssh.kind import SshKind", "from limosa.hosts import local, namespaces",
    "import limosa.hosts.containers.kind",
])  # fmt: skip
def test_what_names_a_kind_is_noticed(line: str) -> None:
    assert len(complaints("lab/hosts.py", ast.parse(line))) == 1


@pytest.mark.parametrize(
    "line", ['storage.kind == "nfs"', '["ssh", "-F", "none"]', "host.traits.own_system", "host.kind"]
)
def test_what_names_none_is_not(line: str) -> None:
    assert complaints("lab/hosts.py", ast.parse(line)) == []


def test_nobody_asks_for_a_kind_by_its_name() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        own = name.startswith("hosts/") and name.split("/")[1] in FOLDERS
        if not own and name not in (CATALOGUE, ROWS):
            found += complaints(name, ast.parse(path.read_text()))
    assert not found, "\n".join(found)


def test_a_lab_of_namespaces_imports_no_other_kind() -> None:
    code = """
import sys
from limosa import spec
from limosa.events import Events
from limosa.lab.lab_hosts import LabHosts
from limosa.lab.record import LabDirectory, Record
lab = spec.loads("{name: one, hosts: {host1: {}}}")
LabHosts(lab, LabDirectory.named("one"), Record(), Events(), rootless=True).kind("host1")
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "limosa.hosts.namespaces.kind" in loaded
    assert not loaded & {"asyncssh", "limosa.hosts.ssh.kind", "limosa.hosts.containers.kind", "limosa.hosts.link.host"}
