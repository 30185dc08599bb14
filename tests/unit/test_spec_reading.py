"""Files that are no lab files: every sentence a person may read, to the letter, with its line."""

from pathlib import Path

import pytest

from limosa import paths
from limosa.errors import SpecError
from limosa.spec import load, loads

EXAMPLE = paths.told(paths.example())
HEAD = "name: x\nhosts: {a: , b: }\n"
"""Two lines that begin a valid lab; what is wrong comes in line 3 or later."""

YAML: list[tuple[str, str, str]] = [
    ("", "<text>: is empty", "the shortest lab is: hosts: {host1: {}}"),
    ("# only a remark\n", "<text>: is empty", "the shortest lab is: hosts: {host1: {}}"),
    ("---\n", "<text>: is empty", "the shortest lab is: hosts: {host1: {}}"),
    (
        "- a\n- b\n",
        "<text>:1: a lab file is a mapping of keys to values, this is a list",
        f"begin with `hosts:`; {EXAMPLE} shows one",
    ),
    (
        "\nhosts\n",
        "<text>:2: a lab file is a mapping of keys to values, this is plain text",
        f"begin with `hosts:`; {EXAMPLE} shows one",
    ),
    (
        "hosts:\n  a:\n\tmemory: 1 GiB\n",
        "<text>:3: a tab stands where YAML wants spaces",
        "indent with spaces",
    ),
    (
        "hosts: {a: {}\nname: x\n",
        "<text>:2: not valid YAML: expected ',' or '}', but got '<scalar>' while parsing a flow mapping",
        "a bracket opened with { or [ is not closed, or a comma is missing",
    ),
    (
        "name: a: b\n",
        "<text>:1: not valid YAML: mapping values are not allowed here",
        "check the indentation, and quote text that contains ': '",
    ),
    (
        "hosts:\n  a: {}\n b: {}\n",
        "<text>:3: not valid YAML: expected <block end>, but found '<block mapping start>' "
        "while parsing a block mapping",
        "entries of one mapping begin in the same column",
    ),
    (
        'name: "x\nhosts: {}\n',
        "<text>:3: not valid YAML: found unexpected end of stream while scanning a quoted scalar",
        "a quote or bracket is not closed",
    ),
    (
        "hosts: {a: *b}\n",
        "<text>:1: not valid YAML: found undefined alias 'b'",
        "an alias (*name) must follow its anchor (&name)",
    ),
    (
        "name: x\n---\nname: y\n",
        "<text>:2: a second YAML document begins here",
        "a lab file holds one: remove the '---' between",
    ),
    (
        "name: x\nhosts: {a: }\nname: y\n",
        "<text>:3: name: this key stands twice, first in line 1",
        "remove one",
    ),
    (
        "hosts:\n  a: {}\n  b: {}\n  a: {}\n",
        "<text>:4: hosts.a: this key stands twice, first in line 2",
        "remove one",
    ),
    (
        HEAD + "guests: {g: {host: !secret a}}\n",
        "<text>:3: guests.g.host: the YAML tag !secret has no meaning in a lab file",
        "remove it",
    ),
    (
        HEAD + "guests: !!python/object:os.system {}\n",
        "<text>:3: guests: the YAML tag !!python/object:os.system has no meaning in a lab file",
        "remove it",
    ),
    (
        "name: x\nhosts: &loop {a: *loop}\n",
        "<text>:2: hosts.a: an alias may not stand inside its own anchor",
        "",
    ),
    ("hosts:\n  [a, b]: {}\n", "<text>:2: hosts: a key must be text, not a list or a mapping", ""),
    (
        "hosts: {a: {<<: 5}}\n",
        "<text>:1: hosts.a: << takes the anchor of another mapping, as in <<: *name",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, cpus: 010}}\n",
        "<text>:3: guests.g.cpus: 010 is read as octal by some YAML readers and as decimal by others",
        "write 10, or quote it if it is a name",
    ),
    (
        HEAD + "guests: {g: {host: a, cpus: .inf}}\n",
        "<text>:3: guests.g.cpus: '.inf' is not a number that a lab can use",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, cpus: " + "9" * 5000 + "}}\n",
        f"<text>:3: guests.g.cpus: '{'9' * 40}' is not a number that can be read",
        "",
    ),
    ("- " * 5000, "<text>: is nested too deeply to be a lab file", ""),
    (
        "name: x\nhosts: {a: \x07}\n",
        "<text>:2: the character U+0007 does not belong in a text file",
        "a lab file is YAML text in UTF-8",
    ),
]


@pytest.mark.parametrize(("text", "message", "hint"), YAML)
def test_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(text)
    assert caught.value.message == message
    assert caught.value.hint == hint or (not hint and "docs/lab-file.md" in caught.value.hint)


def test_alias_bomb_is_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(SpecError, match=r"has more than 20000 values once its aliases are followed$"):
        loads("\n".join(lines))


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"name: \xff\n", "lab.yaml:1: byte 0xFF is not UTF-8", "save the lab file as UTF-8"),
        (b"name: x\n# caf\xe9\n", "lab.yaml:2: byte 0xE9 is not UTF-8", "save the lab file as UTF-8"),
        (
            "name: x\n".encode("utf-16"),
            "lab.yaml:1: byte 0xFF is not UTF-8 (it looks like UTF-16)",
            "save the lab file as UTF-8",
        ),
        (b"QFI\xfb\0\0\0\x03" * 100, "lab.yaml: is a binary file, not a lab file", ""),
        (
            b"a\0b",
            "lab.yaml:1: the character U+0000 does not belong in a text file",
            "a lab file is YAML text in UTF-8",
        ),
        (b"", "lab.yaml: is empty", "the shortest lab is: hosts: {host1: {}}"),
        (
            b"#" * (1024 * 1024 + 1),
            "lab.yaml: is larger than 1 MiB, which no lab file is",
            f"name a YAML file, such as {paths.example()}",
        ),
    ],
)
def test_refused_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str, hint: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lab.yaml").write_bytes(data)
    with pytest.raises(SpecError) as caught:
        load("lab.yaml")
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_missing_file_names_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one.yaml", "two.yml", "three.txt"):
        Path(name).touch()
    with pytest.raises(SpecError) as caught:
        load("tow.yaml")
    assert caught.value.message == "tow.yaml: no such file"
    assert caught.value.hint == "YAML files there: one.yaml, two.yml"


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "none" / "lab.yaml")
    assert caught.value.message == f"{tmp_path}/none/lab.yaml: no such file"
    assert caught.value.hint == f"there is no folder {tmp_path}/none; limosa init writes a lab file here"
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "examples" / "two-hosts.yaml")
    there = f"there is no folder {tmp_path}/examples"
    assert caught.value.hint == f"{there}; the example of that name is {paths.told(paths.example())}"


def test_directory_names_the_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").touch()
    with pytest.raises(SpecError) as caught:
        load(tmp_path)
    assert caught.value.message == f"{tmp_path}: is a directory, not a lab file"
    assert caught.value.hint == "YAML files there: lab.yaml"


def test_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(SpecError, match=r"^/dev/zero: is larger than 1 MiB, which no lab file is$"):
        load("/dev/zero")


@pytest.mark.parametrize("path", ["/dev/null/lab.yaml", "x" * 300, "a\0b"])
def test_paths_that_the_kernel_refuses(path: str) -> None:
    with pytest.raises(SpecError, match=r"cannot be read|no such file"):
        load(path)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """root reads everything, so the kernel's refusal has to be made."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "lab.yaml")
    assert caught.value.message == f"{tmp_path}/lab.yaml: may not be read by this user"
    assert caught.value.hint == "let this user read it"


def test_file_name_that_cannot_name_a_lab(tmp_path: Path) -> None:
    path = tmp_path / "My Lab.yaml"
    path.write_text("hosts: {a: }\n")
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.message == (
        f"{path}:1: the key 'name' is missing, and the file's name 'My Lab.yaml' cannot be the lab's"
    )
