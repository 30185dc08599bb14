"""The rule for the names of modules: one name, one meaning, and no two that differ by an ending alone."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path, PurePosixPath

REGISTRIES = ("hosts", "bench", "guest", "probes")
"""Folders with a folder for each variant, in which the same name stands for the same role."""

PORTS = ("hosts/host.py", "hosts/kind.py", "guest/provision.py")
"""Files of a registry that say what the files of the same name in its folders fulfil."""

_ENDINGS = ("ing", "er", "or", "ed", "es", "s")


def repeated_names(root: Path) -> list[str]:
    """Base names that stand for two things. A verb's file in ``cli`` and the same role in the folders of a registry
    stand for one."""
    places = defaultdict(list)
    for path in _modules(root):
        places[_role(path)].append(path)
    meanings = defaultdict(list)
    for role, paths in places.items():
        meanings[PurePosixPath(role).stem].append(str(paths[0]))
    return [
        f"{stem} is one name for {' and '.join(sorted(paths))}"
        for stem, paths in sorted(meanings.items())
        if len(paths) > 1
    ]


def paired_names(root: Path) -> list[str]:
    """Modules whose names differ by a gerund, an agent or a plural alone: the reader has to guess which holds what."""
    stems = defaultdict(set)
    for path in _modules(root):
        stems[_trunk(path.stem)].add(path.stem)
    return [
        f"{' and '.join(sorted(names, key=lambda name: (len(name), name)))} differ by an ending alone"
        for _, names in sorted(stems.items())
        if len(names) > 1
    ]


def _modules(root: Path) -> list[PurePosixPath]:
    """The modules of limosa as they are seen from its folder, without packages' ``__init__`` and verbs' files."""
    package = root / "src/limosa"
    return [
        PurePosixPath(path.relative_to(package))
        for path in sorted(package.rglob("*.py"))
        if path.stem != "__init__" and not _is_verb(path)
    ]


def _is_verb(path: Path) -> bool:
    """Whether this is a verb's file, which says so in its first words."""
    return path.parent.name == "cli" and (ast.get_docstring(ast.parse(path.read_text())) or "").startswith("``limosa ")


def _role(path: PurePosixPath) -> str:
    first, last = path.parts[0], path.parts[-1]
    if len(path.parts) < 3 or first not in REGISTRIES:
        return str(path)
    return port if (port := f"{first}/{last}") in PORTS else f"{first}/*/{last}"


def _trunk(name: str) -> str:
    """*name* without what makes a gerund, an agent or a plural of it."""
    ending = next((each for each in _ENDINGS if name.endswith(each) and len(name) > len(each) + 2), "")
    trunk = name.removesuffix(ending)
    if trunk[-1] == trunk[-2] or trunk[-1] == "e":
        trunk = trunk[:-1]
    return trunk
