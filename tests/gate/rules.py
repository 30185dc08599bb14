"""The rules of the house that no linter knows: each takes a tree's root and returns complaints, file:line: what."""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

FUNCTION_LINES = 60
MODULE_LINES = 500
PYTHON = ("src", "tests", "benchmarks", "examples")
EVERYTHING = (*PYTHON, "docs", ".ci")
_NOT_OURS = {"__pycache__", ".git"}  # the second is a file in a worktree
_TASKS = {"create_task", "ensure_future", "gather", "shield"}
LASTING_TASKS = (
    "src/limosa/tasks.py",
    "src/limosa/hosts/link/near.py",  # as long as the link, which ends them when it is closed
    "src/limosa/hosts/containers/opener.py",  # the same for a wire
)
"""Modules that begin tasks themselves."""
_UNSPEAKING = re.compile(r"(^|_)(utils?|helpers?|managers?)(_|\.|$)|[Mm]anager")
_UNFINISHED = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b")
_PRIVATE = re.compile(r"(?<![\w.$}])(/wor[k]/|/opt/wheel[s]|/roo[t]/(?!\.ssh\b))")
ARCHITECTURE = re.compile(r"q35|x86_64|\bqemu64\b|pcie\.0|qboot|\bpc\.ram\b")
"""Words that only a guest of one architecture knows."""
_ASKS_ARCHITECTURE = ("src/limosa/qemu/", "src/limosa/lab/", "src/limosa/spec/", "src/limosa/accel.py")
_SHORT_HOSTS = re.compile(r"(^|_)(src|dst)(_|$)")


def files(root: Path, *folders: str, suffix: str = "") -> Iterator[Path]:
    """The tree's own files in these folders (and, for ``.``, beside them), caches left out."""
    for folder in folders:
        found = root.glob("*") if folder == "." else (root / folder).rglob("*")
        for path in sorted(found):
            if path.is_file() and path.name.endswith(suffix) and not _NOT_OURS & set(path.parts):
                yield path


def trees(root: Path) -> Iterator[tuple[str, str, ast.Module]]:
    """Each Python file: its name in the tree, its text and its syntax tree."""
    for path in files(root, *PYTHON, suffix=".py"):
        text = path.read_text()
        yield str(path.relative_to(root)), text, ast.parse(text)


def long_functions(root: Path) -> list[str]:
    """Functions over 60 lines, decorators and docstring included."""
    complaints = []
    for name, _, tree in trees(root):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                lines = (node.end_lineno or first) - first + 1
                if lines > FUNCTION_LINES:
                    complaints.append(f"{name}:{first}: {node.name} has {lines} lines, {FUNCTION_LINES} at most")
    return complaints


def long_modules(root: Path) -> list[str]:
    """Modules over 500 lines."""
    counted = [(name, len(text.splitlines())) for name, text, _ in trees(root)]
    return [f"{name}: {lines} lines, {MODULE_LINES} at most" for name, lines in counted if lines > MODULE_LINES]


def loose_tasks(root: Path) -> list[str]:
    """Tasks, gatherings and shields beside those of ``limosa.tasks``, which ends what it began and drops no
    cancellation."""
    complaints = []
    for name, _, tree in trees(root):
        if not name.startswith("src/") or name in LASTING_TASKS:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in _TASKS and ast.unparse(node.value) == "asyncio":
                complaints.append(f"{name}:{node.lineno}: {node.attr}: take limosa.tasks")
    return complaints


def unspeaking_names(root: Path) -> list[str]:
    """Modules and classes named utils, helpers or manager: names that say nothing."""
    complaints = []
    for name, _, tree in trees(root):
        if _UNSPEAKING.search(Path(name).name):
            complaints.append(f"{name}: name the module after what it holds")
        complaints += [
            f"{name}:{node.lineno}: name the class {node.name} after what it is"
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and _UNSPEAKING.search(node.name)
        ]
    return complaints


def shells(root: Path) -> list[str]:
    """Calls with ``shell=True`` and their like: a command is a list of arguments."""
    complaints = []
    for name, _, tree in trees(root):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            shell = any(k.arg == "shell" and getattr(k.value, "value", True) for k in node.keywords)
            if shell or called in ("create_subprocess_shell", "popen", "getoutput", "getstatusoutput"):
                complaints.append(f"{name}:{node.lineno}: {called} goes through a shell; pass a list of arguments")
    return complaints


def short_host_names(root: Path) -> list[str]:
    """Names made with src or dst in limosa itself: the hosts of a migration are source and target."""
    complaints = []
    for path in files(root, "src", suffix=".py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = ""
            if isinstance(node, ast.arg):
                found = node.arg
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found = node.id
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found = node.attr
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found = node.name
            if _SHORT_HOSTS.search(found):
                complaints.append(
                    f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}: {found}: say source or target"
                )
    return complaints


def spread_architecture(root: Path) -> list[str]:
    """Facts of a guest's architecture beside ``limosa.architecture``, where parts look that have to ask it."""
    found = [each for each in _lines_with(root, ARCHITECTURE, "ask limosa.architecture") if ".py:" in each]
    return [each for each in found if each.startswith(_ASKS_ARCHITECTURE)]


def unfinished(root: Path) -> list[str]:
    """Notes to do something later: do it, or open an issue."""
    return _lines_with(root, _UNFINISHED, "finish it, or open an issue")


def private_paths(root: Path) -> list[str]:
    """Absolute paths of somebody's machine. Guests have a root of their own, so limosa itself may name its home."""
    found = _lines_with(root, _PRIVATE, "a path of one machine")
    return [each for each in found if not re.match(r"src/limosa/.*: /roo[t]/:", each)]


def _lines_with(root: Path, pattern: re.Pattern[str], complaint: str) -> list[str]:
    complaints = []
    for path in files(root, ".", *EVERYTHING):
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if match := pattern.search(line):
                complaints.append(f"{path.relative_to(root)}:{number}: {match.group(0)}: {complaint}")
    return complaints


def broken_links(root: Path) -> list[str]:
    """Links in Markdown files to files or headings that are not there."""
    complaints = []
    for path in [*files(root, ".", suffix=".md"), *files(root, "docs", "examples", suffix=".md")]:
        for number, line in _prose(path):
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                if re.match(r"[a-z]+:", target):
                    continue
                file, _, heading = target.partition("#")
                there = path.parent / file if file else path
                if not there.exists():
                    complaints.append(f"{path.relative_to(root)}:{number}: {target} is not there")
                elif heading and there.suffix == ".md" and heading not in _anchors(there):
                    complaints.append(f"{path.relative_to(root)}:{number}: {target}: no such heading")
    return complaints


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    inside = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            yield (
                number,
                re.sub(r"`[^`]*`", lambda m: "x" * len(m.group(0)), line) if "](" not in line else line,
            )


def _anchors(path: Path) -> set[str]:
    headings = [line.lstrip("#").strip() for _, line in _prose(path) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def examples(root: Path, language: str) -> Iterator[tuple[str, str]]:
    """The fenced examples in one language in README and docs: where (file:line) and text."""
    for path in [*files(root, ".", suffix=".md"), *files(root, "docs", "examples", suffix=".md")]:
        text = path.read_text()
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 2
            yield f"{path.relative_to(root)}:{line}", match.group(1)


def commands(root: Path) -> Iterator[tuple[str, str]]:
    """Every ``limosa VERB`` in the documentation's shell examples and code spans: where and the verb."""
    for path in [*files(root, ".", suffix=".md"), *files(root, "docs", "examples", suffix=".md")]:
        inside = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.lstrip().startswith("```"):
                inside = not inside
            pieces = [line] if inside else re.findall(r"`([^`]+)`", line)
            for piece in pieces:
                for verb in re.findall(r"(?:^|[$;&] ?)\s*(?:sudo )?(?:\./)?limosa ([a-z][a-z-]*)\b", piece):
                    yield f"{path.relative_to(root)}:{number}", verb


def unlocked(root: Path) -> list[str]:
    """Lock files that do not match their first line, or that lack a dependency of pyproject.toml."""
    complaints = []
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = {
        "requirements.lock": project["dependencies"],
        "requirements-dev.lock": project["dependencies"] + project["optional-dependencies"]["dev"],
    }
    for name, dependencies in wanted.items():
        first, _, rest = (root / name).read_text().partition("\n")
        if first != f"# {hashlib.sha256(rest.encode()).hexdigest()}":
            complaints.append(f"{name}: its first line is not the hash of the rest; run .ci/lock")
        locked = set(re.findall(r"^([A-Za-z0-9-]+)==", rest, re.MULTILINE))
        for dependency in dependencies:
            plain = re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~;\[]", dependency)[0]).lower()
            if plain not in locked:
                complaints.append(f"{name}: {plain} of pyproject.toml is not locked; run .ci/lock")
        complaints += [f"{name}: names a host" for _ in re.findall(r"https?://", rest)[:1]]
    return complaints


def undocumented_exit_codes(root: Path) -> list[str]:
    """Exit codes that errors.py sets and docs/debugging.md or the tree in its own docstring does not tell."""
    tree = ast.parse((root / "src/limosa/errors.py").read_text())
    drawn, page = ast.get_docstring(tree) or "", (root / "docs/debugging.md").read_text()
    complaints = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        if not re.search(rf"\b{node.name} +exit \d", drawn):
            complaints.append(f"src/limosa/errors.py:{node.lineno}: {node.name} is not in the docstring's tree")
        for statement in node.body:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
            if not (isinstance(target, ast.Name) and target.id == "exit_code"):
                continue
            value = getattr(getattr(statement, "value", None), "value", None)
            if not re.search(rf"\b{node.name} +exit {value}\b", drawn):
                complaints.append(f"src/limosa/errors.py:{node.lineno}: exit {value} is not in the docstring's tree")
            if not re.search(rf"^\| {value} \|", page, re.MULTILINE):
                complaints.append(f"docs/debugging.md: exit code {value} ({node.name}) is not in the table")
    return complaints


def unmapped_parts(root: Path) -> list[str]:
    """Parts of limosa that the map in docs/architecture.md does not show, and parts on it that are gone."""
    package = root / "src/limosa"
    folders = {p.stem for p in package.iterdir() if p.is_dir() and not p.is_symlink() and any(p.glob("*.py"))}
    parts = folders | {p.stem for p in package.glob("*.py")} - {"__init__"}
    rows = re.findall(r"^\|[^|]*\|([^|]*)\|", (root / "docs/architecture.md").read_text(), re.MULTILINE)
    shown = {part for row in rows for part in re.findall(r"`(\w+)`", row)}
    return [f"docs/architecture.md: the map lacks {part}" for part in sorted(parts - shown)] + [
        f"docs/architecture.md: the map shows {part}, which is gone" for part in sorted(shown - parts)
    ]


def lost_rooms(root: Path) -> list[str]:
    """Rooms in the map's drawing of a migration that are not there, or are drawn twice."""
    _, _, rest = (root / "docs/architecture.md").read_text().partition("\n## The way of `limosa migrate`\n")
    rooms = re.findall(r"\b[a-z]+/[a-z_]+\b", rest.partition("```")[2].partition("```")[0])
    complaints = [] if rooms else ["docs/architecture.md: the way of a migration is not drawn"]
    for room in dict.fromkeys(rooms):
        place = root / "src/limosa" / room
        if not place.is_dir() and not place.with_suffix(".py").exists():
            complaints.append(f"docs/architecture.md: the way of a migration: {room} is not there")
        if rooms.count(room) > 1:
            complaints.append(f"docs/architecture.md: the way of a migration: {room} is drawn twice")
    return complaints


CHANGES = (
    *("host kind", "metric", "probe", "image", "bench", "verb", "page", "check before a move"),
    *("method of migration", "policy of migration", "option of migration", "transport of migration"),
)
"""What docs/architecture.md has to say the place of, under its heading "Where would I change X?"."""


def lost_places(root: Path) -> list[str]:
    """Files that the map's table of changes names and that are not there, and changes that it does not tell."""
    _, _, rest = (root / "docs/architecture.md").read_text().partition("\n## Where would I change X?\n")
    rows = re.findall(r"^\| *([^|]+?) *\|([^|]*)\|", rest.partition("\n## ")[0], re.MULTILINE)
    told = {re.sub(r"^(an?|the) ", "", change): re.findall(r"`([^`]+)`", places) for change, places in rows}
    complaints = [f"docs/architecture.md: where would I change a {change}?" for change in CHANGES if change not in told]
    for change, places in told.items():
        for place in places:
            if "/" in place and not any(any(base.glob(place)) for base in (root, root / "src/limosa")):
                complaints.append(f"docs/architecture.md: {change}: {place} is not there")
    return complaints
