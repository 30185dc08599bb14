"""Each rule of the gate fails where it has to, on small trees, and passes what is right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gate import classes, layers, names, rules


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def function_of(lines: int) -> str:
    return "@property\n" + "def f():\n" + "    x = 1\n" * (lines - 2)


LATER, HOME = "todo".upper(), f"/{'root'}/"  # not spelled out, for the gate reads this file too

BREAKS = {
    "long function": (rules.long_functions, "src/a.py", function_of(61), "src/a.py:1: f has 61 lines"),
    "loose task": (rules.loose_tasks, "src/a.py", "import asyncio\nasyncio.gather()\n", "src/a.py:2: gather"),
    "long module": (rules.long_modules, "tests/a.py", "x = 1\n" * 501, "tests/a.py: 501 lines"),
    "utils module": (rules.unspeaking_names, "src/net_utils.py", "", "src/net_utils.py"),
    "manager class": (rules.unspeaking_names, "src/a.py", "class LabManager: ...\n", "LabManager"),
    "shell=True": (rules.shells, "src/a.py", "import subprocess\nsubprocess.run('x', shell=True)\n", "src/a.py:2"),
    "popen": (rules.shells, "src/a.py", "import os\nos.popen('x')\n", "popen goes through a shell"),
    "src argument": (rules.short_host_names, "src/a.py", "def f(src_host): ...\n", "src_host: say source or target"),
    "dst field": (rules.short_host_names, "src/a.py", "class A:\n    dst: str\n", "src/a.py:2: dst"),
    "machine type": (rules.spread_architecture, "src/limosa/lab/a.py", "x = 'pc-q35-7.2'\n", "a.py:1: q35: ask"),
    "unfinished": (rules.unfinished, "src/a.py", f"# {LATER}: later\n", "src/a.py:1"),
    "unfinished page": (rules.unfinished, "README.md", f"{LATER}\n", "README.md:1"),
    "private path": (rules.private_paths, "docs/a.md", f"see /{'work'}/limosa\n", "docs/a.md:1"),
    "root's home": (rules.private_paths, ".ci/run", f"cd {HOME}limosa\n", ".ci/run:1"),
    "link to nowhere": (rules.broken_links, "docs/a.md", "[b](b.md)\n", "docs/a.md:1: b.md is not there"),
    "link to no heading": (rules.broken_links, "README.md", "# One\n[x](#two)\n", "no such heading"),
}  # fmt: skip


@pytest.mark.parametrize("case", BREAKS.values(), ids=BREAKS)
def test_rule_fails(tmp_path: Path, case: tuple[Callable[[Path], list[str]], str, str, str]) -> None:
    rule, name, text, complaint = case
    found = rule(tree(tmp_path, {name: text}))
    assert len(found) == 1
    assert complaint in found[0]


def test_rules_pass_what_is_right(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "src/a.py": function_of(60) + "run(['ls'], shell=False)\nsource = 'root/.ssh'\n",
            "src/manage.py": "class Target: ...\n",
            "src/limosa/guest/init.sh": f"mkdir {HOME}x\n",
            "docs/a.md": "# The A-b: c\n[b](../README.md#one-two), [c](#the-a-b-c), [d](https://example.org/x)\n"
            "`/root/.ssh/authorized_keys` in the guest\n```\n[not](a-link.md)\n```\n",
            "README.md": "## One two\n",
        },
    )
    for case in BREAKS.values():
        assert case[0](root) == []


def package(root: Path, files: dict[str, str]) -> Path:
    files = {"__init__.py": "", "hosts/__init__.py": "", "qemu/__init__.py": ""} | files
    return tree(root / "limosa", files)


@pytest.mark.parametrize(
    "statement",
    [
        "from limosa.qemu import argv",
        "import limosa.qemu.argv",
        "from limosa import qemu",
        "from ..qemu import argv",
        "def f():\n    from limosa.qemu.argv import build",
        "import typing\nif typing.TYPE_CHECKING:\n    from limosa.qemu import argv",
    ],
)
def test_import_that_points_upward_is_found(tmp_path: Path, statement: str) -> None:
    root = package(tmp_path, {"qemu/argv.py": "build = 1\n", "hosts/ssh.py": statement + "\n"})
    (complaint,) = layers.upward(root)
    assert "hosts must not import limosa.qemu" in complaint


def test_import_that_points_downward_is_allowed(tmp_path: Path) -> None:
    root = package(tmp_path, {"qemu/argv.py": "from limosa.hosts import ssh\nfrom limosa import __version__\n"})
    assert layers.upward(root) == []


def test_part_without_a_layer_is_found(tmp_path: Path) -> None:
    (complaint,) = layers.upward(package(tmp_path, {"toolbox.py": ""}))
    assert "'toolbox' has no layer" in complaint


def test_circle_is_found(tmp_path: Path) -> None:
    files = {
        "hosts/a.py": "from . import b\n",
        "hosts/b.py": "def f():\n    import limosa.hosts.c\n",
        "hosts/c.py": "from limosa.hosts.a import x\n",
        "hosts/d.py": "from limosa.hosts import a\n",
    }
    assert layers.circles(package(tmp_path, files)) == [
        "these modules import each other: limosa.hosts.a, limosa.hosts.b, limosa.hosts.c"
    ]


def locked(body: str) -> str:
    return f"# {hashlib.sha256(body.encode()).hexdigest()}\n{body}"


PROJECT = '[project]\ndependencies = ["qemu.qmp>=0.1"]\noptional-dependencies.dev = ["pytest"]\n'


@pytest.mark.parametrize(
    ("lock", "complaint"),
    [
        ("# 0\nqemu-qmp==0.1\n", "not the hash"),
        (locked("rich==1\n"), "qemu-qmp of pyproject.toml is not locked"),
        (locked("qemu-qmp==0.1 # https://example.org\n"), "names a host"),
    ],
)
def test_stale_lock_is_found(tmp_path: Path, lock: str, complaint: str) -> None:
    good = locked("qemu-qmp==0.1\npytest==9\n")
    files = {"pyproject.toml": PROJECT, "requirements.lock": lock, "requirements-dev.lock": good}
    (found,) = rules.unlocked(tree(tmp_path, files))
    assert complaint in found
    (tmp_path / "requirements.lock").write_text(locked("qemu-qmp==0.1\n"))
    assert rules.unlocked(tmp_path) == []


def test_undocumented_exit_code_is_found(tmp_path: Path) -> None:
    errors = '"""Tree.\n\nOne  exit 1\n"""\nclass One:\n    exit_code: int = 1\nclass Two(One):\n    exit_code = 2\n'
    files = {"src/limosa/errors.py": errors, "docs/debugging.md": "| 1 | failed |\n"}
    found = rules.undocumented_exit_codes(tree(tmp_path, files))
    assert [("Two" in f or "exit 2" in f) for f in found] == [True] * 3
    fixed = errors.replace("exit 1\n", "exit 1\nTwo  exit 2\n")
    files = {"src/limosa/errors.py": fixed, "docs/debugging.md": "| 1 | failed |\n| 2 | wrong |\n"}
    assert rules.undocumented_exit_codes(tree(tmp_path, files)) == []


def test_part_off_the_map_is_found(tmp_path: Path) -> None:
    page = "| layer | part | what |\n|---|---|---|\n| one | `errors`, `ghost` | `spec` is elsewhere |\n"
    files = {"src/limosa/__init__.py": "", "src/limosa/errors.py": "", "src/limosa/spec/__init__.py": ""}
    assert rules.unmapped_parts(tree(tmp_path, files | {"docs/architecture.md": page})) == [
        "docs/architecture.md: the map lacks spec",
        "docs/architecture.md: the map shows ghost, which is gone",
    ]


def test_commands_and_examples_are_found_in_documentation(tmp_path: Path) -> None:
    text = "`limosa up` and `./limosa` make limosa fly\n```\n$ ./limosa down now\n```\n```yaml\nhosts: {}\n```\n"
    root = tree(tmp_path, {"README.md": text})
    assert list(rules.commands(root)) == [("README.md:1", "up"), ("README.md:3", "down")]
    assert list(rules.examples(root, "yaml")) == [("README.md:6", "hosts: {}\n")]


@pytest.mark.parametrize(
    ("files", "complaints"),
    [
        (["lab/reach.py", "hosts/reach.py"], ["reach is one name for hosts/reach.py and lab/reach.py"]),
        (["hosts/a/x.py", "hosts/b/x.py", "lab/x.py"], ["x is one name for hosts/a/x.py and lab/x.py"]),
        (["guest/a/disk.py", "guest/disk.py"], ["disk is one name for guest/a/disk.py and guest/disk.py"]),
        (["bench/a/parse.py", "bench/b/parse.py"], []),
        (["hosts/host.py", "hosts/a/host.py", "hosts/a/__init__.py", "hosts/__init__.py"], []),
    ],
)  # fmt: skip
def test_name_for_two_things_is_found(tmp_path: Path, files: list[str], complaints: list[str]) -> None:
    assert names.repeated_names(tree(tmp_path / "src/limosa", dict.fromkeys(files, "")).parents[1]) == complaints


def test_file_of_a_verb_may_be_named_as_what_it_calls(tmp_path: Path) -> None:
    verb, other = '"""``limosa stop``."""\n', '"""What stops."""\n'
    root = tree(tmp_path, {"src/limosa/cli/stop.py": verb, "src/limosa/lab/stop.py": ""})
    assert names.repeated_names(root) == []
    tree(root, {"src/limosa/cli/stop.py": other})
    assert names.repeated_names(root) == ["stop is one name for cli/stop.py and lab/stop.py"]


@pytest.mark.parametrize(
    "pair", ["keeper keeping", "wire wiring", "wires wiring", "host hosting", "stop stopped", "launch launches"]
)
def test_names_that_differ_by_an_ending_are_found(tmp_path: Path, pair: str) -> None:
    files = {f"src/limosa/{folder}/{name}.py": "" for folder, name in zip("ab", pair.split(), strict=True)}
    (complaint,) = names.paired_names(tree(tmp_path, files))
    assert complaint == f"{' and '.join(pair.split())} differ by an ending alone"


def test_names_of_their_own_are_no_pair(tmp_path: Path) -> None:
    plain = ["start", "status", "string", "sting", "order", "ordinal", "process", "proof", "keys", "keyboard"]
    assert names.paired_names(tree(tmp_path, {f"src/limosa/{name}.py": "" for name in plain})) == []


PORT = "class Host(Protocol):\n    async def run(self): ...\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("class A(msgspec.Struct):\n    async def run(self): ...\n", "has async methods"),
        ("@dataclass(frozen=True)\nclass A:\n    async def run(self): ...\n", "has async methods"),
        ("from limosa.hosts.host import Host\nclass A(Struct):\n    on: Host | None\n", "holds Host"),
        ("from limosa.hosts import host\nclass A(Struct):\n    on: dict[str, host.Host]\n", "holds host.Host"),
        ("class A(Struct):\n    then: Callable[[], Awaitable[None]]\n", "holds Callable, holds Awaitable"),
        ("class A:\n    then: Callable[[], None]\n    async def run(self): ...\n", ""),
        ("class Host(Struct): ...\nclass A(Struct):\n    on: Host\n    run: ClassVar[Callable[[], None]]\n", ""),
    ],
)
def test_data_that_acts_is_found(tmp_path: Path, text: str, why: str) -> None:
    files = {"src/limosa/hosts/host.py": PORT, "src/limosa/a.py": text}
    expected = [f"A in src/limosa/a.py {why}: make it plain"] if why else []
    assert classes.acting_data(tree(tmp_path, files)) == expected


def test_loose_dataclasses_and_those_of_a_fast_start_are_found(tmp_path: Path) -> None:
    frozen = "@dataclass(frozen=True, slots=True)\nclass {}: ...\n"
    files = {
        "src/limosa/cli/migrate.py": "def migrate():\n    from limosa.lab import fast\n",
        "src/limosa/cli/status.py": "if TYPE_CHECKING:\n    from limosa import late\n",
        "src/limosa/lab/__init__.py": "",
        "src/limosa/lab/fast.py": frozen.format("Fast") + "def f():\n    from limosa import late\n",
        "src/limosa/late.py": frozen.format("Late") + "@dataclass(slots=True)\nclass Loose: ...\n",
    }
    assert classes.loose_data(tree(tmp_path, files)) == [
        "Fast in src/limosa/lab/fast.py is defined at each start of migrate or status: make it a Struct",
        "Loose in src/limosa/late.py is loose: make it frozen and slotted, a Struct or a plain class",
    ]


def test_change_without_a_place_is_found(tmp_path: Path) -> None:
    rows = "".join(f"| a {change} | `cli/stop.py`, `src/limosa/*/st*.py`, `Host` |\n" for change in rules.CHANGES[1:])
    page = f"| a host kind | `cli` |\n## Where would I change X?\n\n| X | place |\n|---|---|\n{rows}\n## Next\n"
    root = tree(tmp_path, {"src/limosa/cli/stop.py": "", "docs/architecture.md": page})
    assert rules.lost_places(root) == ["docs/architecture.md: where would I change a host kind?"]
    tree(root, {"docs/architecture.md": page.replace("a probe | `cli/stop.py`", "a probe | `cli/gone.py`")})
    assert rules.lost_places(root)[1:] == ["docs/architecture.md: probe: cli/gone.py is not there"]


def test_lost_room_is_found(tmp_path: Path) -> None:
    page = "# Map\n\n## The way of `limosa migrate`\n\n```\ncli/stop  ends it\n   └─ lab/lab  does it\n```\n"
    root = tree(tmp_path, {"docs/architecture.md": page, "src/limosa/cli/stop.py": "", "src/limosa/lab/lab.py": ""})
    assert rules.lost_rooms(root) == []
    tree(root, {"docs/architecture.md": page.replace("lab/lab", "lab/gone")})
    assert rules.lost_rooms(root) == ["docs/architecture.md: the way of a migration: lab/gone is not there"]
    tree(root, {"docs/architecture.md": page.replace("lab/lab", "cli/stop")})
    assert rules.lost_rooms(root) == ["docs/architecture.md: the way of a migration: cli/stop is drawn twice"]
    tree(root, {"docs/architecture.md": "# Map\n"})
    assert rules.lost_rooms(root) == ["docs/architecture.md: the way of a migration is not drawn"]
