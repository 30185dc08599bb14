"""Every option of every verb is of a kind: one way to write durations and sizes, placeholders that say what they take,
and completion wherever it is known what may stand there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated

import pytest

from limosa import spec
from limosa.cli import values
from limosa.cli.completion import suggestions
from limosa.cli.declared import Option, Parameter, parameters
from limosa.cli.values import DIRECTORIES, FILES, FREE, KNOWN, Choice, Kind, bandwidth, duration, number, size
from limosa.cli.verbs import ROOT_OPTIONS, VERBS
from limosa.guest import library
from limosa.lab.record import LabDirectory
from limosa.results.store import RunDirectory

PLACEHOLDERS = {"NAME=VALUE",
    "GUEST", "HOST", "GUEST|HOST", "LAB", "RUN", "IMAGE", "FILE", "DIRECTORY", "DURATION", "SIZE", "BANDWIDTH",
    "NUMBER", "FACTOR", "POLICY", "COMMAND", "NAME", "VERSION", "URL", "CHECKSUM", "PACKAGE", "SUITE",
}  # fmt: skip
"""All that may stand for a value, beside the words of a closed set. A new one says what it takes; TEXT says nothing."""

MOST_LETTERS = 80
"""Of a closed set's words that stand for a value by themselves: as much as a line of help has."""


def all_parameters() -> list[tuple[str, Parameter]]:
    found = []
    for path, (module, name, _) in VERBS.items():
        function: Callable[..., None] = getattr(import_module(f"limosa.cli.{module}"), name)
        found += [(path, each) for each in parameters(function)]
    return found


OF_A_KIND = [
    pytest.param(path, each, each.kind, id=f"{path} {each.names[0] if each.names else each.name}")
    for path, each in all_parameters()
    if each.kind is not None
]


@pytest.mark.parametrize(("path", "parameter", "kind"), OF_A_KIND)
def test_a_placeholder_says_what_stands_there(path: str, parameter: Parameter, kind: Kind) -> None:
    """The words of a closed set themselves, unless they are too many for that: then they are completed."""
    closed, told = isinstance(kind, Choice), kind.metavar in PLACEHOLDERS
    assert told or (closed and kind.metavar.split("|") == kind.complete(""))
    assert not (told and closed) or len("|".join(kind.complete(""))) > MOST_LETTERS


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home with a lab, a run and an image."""
    home = tmp_path_factory.mktemp("home")
    (home / "shop.yaml").write_text("hosts: {alpha: {}, beta: {}}\nguests: {web: {host: alpha}}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home))
        patch.setenv("XDG_CACHE_HOME", str(home))
        LabDirectory.named("shop").create(spec.load(home / "shop.yaml"))
        RunDirectory.create(kind="demo", lab="shop", guest="web")
        (library.directory() / "alpine-3").mkdir(parents=True)
        (library.directory() / "alpine-3" / library._RECORD).write_text("{}")
        yield


@pytest.mark.usefixtures("furnished")
@pytest.mark.parametrize(("path", "parameter", "kind"), OF_A_KIND)
def test_every_value_that_is_known_is_completed(path: str, parameter: Parameter, kind: Kind) -> None:
    before = path.split(" ")
    if parameter.names:
        before.append(parameter.names[-1])
    else:
        arguments = [each for of, each in all_parameters() if of == path and not each.names]
        before += ["x"] * [each.name for each in arguments].index(parameter.name)
    found, possible = suggestions(before, "")
    assert possible == kind.values
    assert possible in (FREE, FILES, DIRECTORIES) or found
    assert not found or all(word in kind.complete("") for word, _ in found)


@pytest.mark.usefixtures("furnished")
@pytest.mark.parametrize(("words", "found"), [
    ("migrate w", ["web"]),
    ("migrate web b", ["beta"]),
    ("migrate --timeout 5s --lab shop web b", ["beta"]),
    ("down --forget a", ["alpha"]),
    ("logs ", ["web", "alpha", "beta"]),
    ("up s", ["shop"]),
    ("report la", ["latest"]),
    ("runs ", ["show", "open", "prune"]),
    ("runs p", ["prune"]),
    ("runs show lat", ["latest"]),
    ("image show a", ["alpine-3"]),
    ("image show mi", ["micro", "micro-generic"]),
    ("image install ", ["alpine", "debian"]),
    ("image build debian --suite t", ["trixie"]),
    ("bench network --nic v", ["virtio-net", "vhost-net"]),
    ("bench network --nic virtio-net --nic r", ["rtl8139"]),
    ("bench disk --cache w", ["writeback"]),
    ("bench during-migration --load c", ["cpu"]),
    ("bench cpu --guest b", ["bare"]),
    ("--install-completion z", ["zsh"]),
    ("status --h", ["--help"]),
    ("migrate web beta --timeout ", []),
])  # fmt: skip
def test_what_the_shell_is_told(words: str, found: list[str]) -> None:
    *before, beginning = words.split(" ")
    assert [word for word, _ in suggestions(before, beginning)[0]] == found


def test_a_labs_file_is_completed_beside_the_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.yaml", "b.yml", "c.txt"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "nowhere"))
    assert values.LAB.complete("") == ["a.yaml", "b.yml"]


def test_where_nothing_is_known_completion_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)
    for kind in (values.LAB, values.GUEST, values.HOST, values.RUN):
        assert kind.complete("") == []

    def broken() -> list[str]:
        raise OSError

    assert Kind("X", known=broken).complete("") == []


def test_a_word_that_nobody_said_anything_of_cannot_be_declared() -> None:
    def verb(limit: Annotated[str, Option(help="What?")] = "") -> None: ...

    def other(
        limit: Annotated[str, Option(kind=values.DURATION, help="Which?")] = "",
    ) -> None: ...

    for function in (verb, other):
        with pytest.raises(TypeError, match="limit"):
            parameters(function)


@pytest.mark.parametrize(("kind", "text", "value"), [
    (duration(), "300 ms", 0.3),
    (duration(), "2min", 120.0),
    (duration(1, whole=True), "2 min", 120),
    (size(), "1 GiB", 1 << 30),
    (bandwidth(), "8 Mbit/s", 10**6),
    (values.RATE, "20 Mbit/s", 20_000_000),
    (values.RATE, "1 MB/s", 8_000_000),
    (number(1, 3), "3", 3),
    (values.FILE, "a/b", Path("a/b")),
    (Choice(lambda: ("sata",), also=("ide",)), "ide", "ide"),
])  # fmt: skip
def test_words_are_read(kind: Kind, text: str, value: object) -> None:
    assert kind.read(text) == value
    assert type(value) is kind.type or isinstance(value, kind.type)


@pytest.mark.parametrize(("kind", "text", "wrong"), [
    (duration(), "30", "'30' has no unit"),
    (duration(), "", "'' is not a duration"),
    (duration(), "-1 s", "'-1 s' is not a duration"),
    (duration(1), "999 ms", "'999 ms' is less than 1 s"),
    (duration(most_s=2000, why="QEMU takes no more"), "1 h", "'1 h' is more than 2000 s: QEMU takes no more"),
    (duration(whole=True), "1.5 s", "'1.5 s' is not a whole number of seconds"),
    (size(), "512M", "did you mean 512 MiB"),
    (size(1 << 20), "1 KiB", "'1 KiB' is less than 1 MiB"),
    (bandwidth(), "0 B/s", "'0 B/s' is too little"),
    (bandwidth(1 << 16, why="so it is"), "5 B/s", "'5 B/s' is less than 64 KiB/s: so it is"),
    (number(1), "0", "0 is less than 1"),
    (number(), "2.0", "'2.0' is not a whole number"),
    (values.choice("auto", "kvm"), "KVM", "'KVM' is none of auto, kvm"),
])  # fmt: skip
def test_wrong_words_are_told(kind: Kind, text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        kind.read(text)
    assert wrong in str(caught.value)


def test_help_shows_defaults_as_they_are_written() -> None:
    told = {(path, each.name): each.told for path, each in all_parameters()}
    assert told["image build", "size"].endswith("[default: 2 GiB]")
    assert told["bench network", "udp_rate"].endswith("[default: 20 Mbit/s]")
    assert told["bench during-migration", "before"].endswith("[default: 20 s]")
    assert told["bench cpu", "time"].endswith("[default: 10 s]")
    assert all(word.startswith("--") for word in ROOT_OPTIONS) and KNOWN
