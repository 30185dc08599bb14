"""Kinds of images: a row each and a module each, and nobody else who knows one by name."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import limosa
from limosa import spec
from limosa.errors import SpecError
from limosa.guest import library, provision
from limosa.spec import image_kinds, resolved
from tests import toy_image
from tests.toy_image import TOY

SOURCE = Path(limosa.__file__).parent
TOYS = """
name: toys
hosts: {host1: {}, host2: {}}
guests:
  one: {host: host1, image: toy}
"""


@pytest.mark.parametrize("kind", image_kinds.KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_has_a_module_that_does_all_that_is_asked(kind: image_kinds.ImageKind) -> None:
    wanted = {name: f for name, f in vars(provision.Provision).items() if inspect.isfunction(f) and name[0] != "_"}
    module = provision.of(kind)
    for name, asked in wanted.items():
        done = getattr(module, name)
        assert list(inspect.signature(done).parameters) == list(inspect.signature(asked).parameters)[1:], name
        assert inspect.iscoroutinefunction(done) == inspect.iscoroutinefunction(asked), name


def test_every_module_belongs_to_a_kind() -> None:
    assert provision.PROVISIONS.keys() == image_kinds.KINDS.keys()


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a tree compares with, looks up or lists the name of an image: a branch that a new kind would have to join.

    And where it says ``bare`` at all: nothing but that kind is called so.
    """
    names = {kind.name for kind in image_kinds.KINDS.values() if kind.built}
    branches = (ast.Compare, ast.MatchValue, ast.Set, ast.Tuple, ast.List)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value == image_kinds.BARE.name:
            yield node.lineno, node.value
        parts = node.keys if isinstance(node, ast.Dict) else ast.iter_child_nodes(node)
        for part in parts if isinstance(node, (*branches, ast.Dict)) else ():
            if isinstance(part, ast.Constant) and part.value in names:
                yield part.lineno, str(part.value)
        if isinstance(node, ast.Compare):
            sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
            symbols = [side for side in sides if side.rpartition(".")[2] in ("image", "image_kind")]
            if symbols and not all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
                yield node.lineno, ast.unparse(node)


def test_nobody_else_knows_a_kind_by_name() -> None:
    own = [SOURCE / "spec/image_kinds.py", *(SOURCE / "guest" / kind for kind in ("micro", "bare", "own_disk"))]
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {what}"
        for path in sorted(SOURCE.rglob("*.py"))
        if not any(path == place or place in path.parents for place in own)
        for line, what in named(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        'x = guest.image == "bare"',
        'if guest.image in ("micro", other): pass',
        'x = {"micro": 1}',
        'match x:\n case "micro": pass',
        'f("bare")',
    ],
)
def test_that_rule_sees_a_branch(text: str) -> None:
    assert list(named(ast.parse(text)))


def test_a_fast_command_imports_no_kind() -> None:
    """What the command line of a migration and of a status begins with."""
    program = "import sys, limosa.lab.lab, limosa.lab.move, limosa.lab.start; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    places = ("limosa.guest.micro", "limosa.guest.bare", "limosa.guest.own_disk", "limosa.guest.provision")
    assert [name for name in done.stdout.split() if name.startswith(places)] == []


def test_a_lab_file_may_name_a_kind_that_was_added(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_image.added(monkeypatch)
    guest = spec.loads(TOYS).guests["one"]
    assert (guest.image_kind, guest.memory_bytes, guest.network, guest.disk) == (TOY, 48 << 20, "", None)
    with pytest.raises(SpecError) as refused:
        spec.loads(TOYS.replace("image: toy", "image: toy, memory: 16 MiB, network: lan"))
    assert "a guest with the image 'toy' has no network" in str(refused.value)
    assert "too little for the image 'toy'" in str(refused.value)
    with pytest.raises(SpecError, match="taken by one that limosa builds itself"):
        library.check_name("toy")
    assert library.is_built(f"toy-{'0' * 16}") and "toy" in library.unknown("toys").hint


def test_what_is_no_kind_is_a_disk_of_its_own() -> None:
    assert resolved.Guest("one", "host1", image="alpine-3.20").image_kind is image_kinds.OWN_DISK
    described = resolved.Guest("one", "host1", disk_image=resolved.DiskImage(path="/disk.raw"))
    assert described.image_kind is image_kinds.OWN_DISK
