"""The dependency rule of docs/architecture.md, computed from every import statement, the late ones included."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        *("errors", "events", "units", "architecture", "deadline", "durable", "locks", "paths", "untrusted", "bundle"),
        *("remembered", "spec", "tasks", "temporary"),
    ),
    ("process", "remedies", "requirements", "capabilities", "userfaultfd"),
    ("network",),
    ("hosts",),
    ("qemu", "guest", "storage", "probes", "results", "accel"),
    ("migration", "bench", "report"),
    ("prediction",),
    ("lab",),
    ("experiment", "homework"),
    ("cli", "__main__"),
)
"""From the ground floor up. A part may import its own layer and those before it; new parts are added here."""

HEIGHT = {part: height for height, layer in enumerate(LAYERS) for part in layer}


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name, ``limosa.hosts.host``."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[tuple[str, int]]:
    """The known modules that a module imports, each with the line; ``from a import b`` is a.b when that is a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        for target in _targets(node, name, path, known):
            yield target, getattr(node, "lineno", 0)


def loaded(package: Path, roots: Iterable[str]) -> set[str]:
    """The modules that are loaded when the *roots* are imported and their functions run: the late imports of the roots
    count, not those of others, and none for type checkers."""
    known, found = modules(package), set[str]()
    todo = list(roots)
    while todo:
        name = todo.pop()
        for each in _with_packages(name):
            if each not in known or each in found:
                continue
            found.add(each)
            tree = ast.parse(known[each].read_text())
            for node in _executed(tree, late=each in roots):
                todo += _targets(node, each, known[each], known)
    return found


def _executed(tree: ast.AST, late: bool) -> Iterator[ast.AST]:
    """The nodes that are executed by an import; with *late* those in functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not late:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from _executed(node, late)


def _targets(node: ast.AST, name: str, path: Path, known: Mapping[str, Path]) -> list[str]:
    """The modules of the package that an import statement in the module *name* imports; of any other node none."""
    root = name.split(".")[0]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    targets: list[str] = []
    if isinstance(node, ast.Import):
        targets = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        targets = [t if (t := f"{base}.{alias.name}") in known else base for alias in node.names]
    return [target for target in targets if target.split(".")[0] == root]


def _with_packages(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: length + 1]) for length in range(len(parts))]


def upward(package: Path) -> list[str]:
    """Imports that point upward, and parts without a layer. The package's own ``__init__`` may name anything."""
    known, complaints = modules(package), []
    for name, path in known.items():
        if name == package.name:
            continue
        part = name.split(".")[1]
        if part not in HEIGHT:
            complaints.append(f"{path}: the part {part!r} has no layer; add it to LAYERS in tests/gate/layers.py")
            continue
        for target, line in imports(name, path, known):
            above = target.split(".")[1] if "." in target else ""
            if HEIGHT.get(above, -1) > HEIGHT[part]:
                complaints.append(f"{path}:{line}: {part} must not import {target}: {above} is built on {part}'s layer")
    return complaints


def circles(package: Path) -> list[str]:
    """Groups of modules that import each other, one line each."""
    known = modules(package)
    graph = {
        name: {target for target, _ in imports(name, path, known) if target not in (name, package.name)}
        for name, path in known.items()
    }
    reached = {name: _reachable(name, graph) for name in graph}
    found = {
        frozenset({name} | {t for t in reached[name] if name in reached[t]}) for name in graph if name in reached[name]
    }
    return [f"these modules import each other: {', '.join(sorted(circle))}" for circle in sorted(found, key=sorted)]


def _reachable(name: str, graph: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = list(graph[name])
    while todo:
        if (target := todo.pop()) not in seen and target in graph:
            seen.add(target)
            todo.extend(graph[target])
    return seen
