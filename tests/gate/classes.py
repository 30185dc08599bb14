"""The rule for types: what acts is a plain class, what a start must be fast for is a ``msgspec.Struct``, and all other
data is that or a frozen slotted dataclass."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.gate import layers

CALLED = {"Callable", "Awaitable", "Coroutine", "AsyncIterator"}
STARTS = ("limosa.cli.migrate", "limosa.cli.status")
"""The verbs whose start is to be fast."""

Place = tuple[str, str]
"""A module and the name of a class in it."""


def acting_data(root: Path) -> list[str]:
    """Structs and dataclasses that have async methods, or hold a callable or what has async methods itself."""
    known = layers.modules(root / "src/limosa")
    trees = {name: ast.parse(path.read_text()) for name, path in known.items()}
    acting = {(name, node.name) for name, tree in trees.items() for node in _classes(tree) if _acts(node)}
    complaints = []
    for name, tree in trees.items():
        homes = _homes(name, tree)
        for node in _classes(tree):
            if not (_dataclass(node) or _struct(node)):
                continue
            why = ["has async methods"] if _acts(node) else []
            why += dict.fromkeys(f"holds {held}" for held in _held(node, homes, acting))
            if why:
                complaints.append(f"{node.name} in {known[name].relative_to(root)} {', '.join(why)}: make it plain")
    return complaints


def loose_data(root: Path) -> list[str]:
    """Dataclasses that are not frozen and slotted, and those that a fast start has to define."""
    package = root / "src/limosa"
    known, fast = layers.modules(package), layers.loaded(package, STARTS)
    complaints = []
    for name, path in known.items():
        for node in _classes(ast.parse(path.read_text())):
            if not (made := _dataclass(node)):
                continue
            where = f"{node.name} in {path.relative_to(root)}"
            if name in fast:
                complaints.append(f"{where} is defined at each start of migrate or status: make it a Struct")
            elif not {"frozen=True", "slots=True"} <= {ast.unparse(each) for each in made}:
                complaints.append(f"{where} is loose: make it frozen and slotted, a Struct or a plain class")
    return complaints


def _classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def _acts(node: ast.ClassDef) -> bool:
    return any(isinstance(each, ast.AsyncFunctionDef) for each in node.body)


def _struct(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).split(".")[-1] == "Struct" for base in node.bases)


def _dataclass(node: ast.ClassDef) -> list[ast.AST]:
    """The decorator's keywords, and the decorator itself, of a dataclass; nothing of any other class."""
    for each in node.decorator_list:
        called = each.func if isinstance(each, ast.Call) else each
        if ast.unparse(called).split(".")[-1] == "dataclass":
            return [each, *(each.keywords if isinstance(each, ast.Call) else ())]
    return []


def _homes(name: str, tree: ast.Module) -> dict[str, Place]:
    """Where each class and module that a module names is defined, as far as its imports tell."""
    homes = {node.name: (name, node.name) for node in _classes(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            homes |= {each.asname or each.name: (node.module, each.name) for each in node.names}
    return homes


def _held(node: ast.ClassDef, homes: Mapping[str, Place], acting: set[Place]) -> Iterator[str]:
    """What the fields of a class hold that acts."""
    for field in node.body:
        if not isinstance(field, ast.AnnAssign) or "ClassVar" in ast.unparse(field.annotation):
            continue
        for part in ast.walk(field.annotation):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                module = ".".join(homes.get(part.value.id, ("", part.value.id)))
                if (module, part.attr) in acting:
                    yield f"{part.value.id}.{part.attr}"
            elif isinstance(part, ast.Name) and (part.id in CALLED or homes.get(part.id) in acting):
                yield part.id
