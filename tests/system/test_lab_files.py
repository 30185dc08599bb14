"""``limosa init`` and ``limosa check``: the file to begin with, and whether a file is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa.spec import host_kinds
from tests.limosa_command import Command, fresh

pytestmark = pytest.mark.system


@pytest.fixture
def limosa(tmp_path: Path) -> Iterator[Command]:
    command = fresh(tmp_path / "home")
    yield command
    for name in command.labs:
        command.run("down", "--lab", name)


@pytest.mark.parametrize("kind", host_kinds.KINDS)
def test_what_init_writes_passes_check(limosa: Command, kind: str) -> None:
    written = limosa.ok("init", f"{kind}.yaml", "--kind", kind, "--json").json
    assert written["next"] == [f"limosa check {kind}.yaml", f"limosa up {kind}.yaml"]
    found = limosa.ok("check", f"{kind}.yaml", "--json").json
    assert found["right"] and found["name"] == written["lab"]
    assert {host["kind"] for host in found["hosts"]} == {kind}
    lines = (limosa.home / f"{kind}.yaml").read_text().splitlines()
    assert [n for n, line in enumerate(lines, 1) if "# EDIT" in line] == written["edit"]
    assert limosa.labs == [], "nothing is made"


def test_the_first_lab_goes_up_as_it_is_written(limosa: Command) -> None:
    """As it is typed: three words of two verbs each, and no name of a file."""
    said = limosa.ok("init").text
    assert "next: limosa check, then limosa up" in said and "EDIT" not in said
    assert "limosa.yaml is right" in limosa.ok("check").text
    limosa.ok("up", timeout_s=400)
    assert limosa.ok("ssh", "guest1", "hostname").text.strip() == "guest1"
    limosa.run("init").refused(4, "limosa.yaml is there already", hint="limosa check limosa.yaml")
    limosa.ok("down")


def test_check_says_what_is_made_and_what_is_missing(limosa: Command) -> None:
    (limosa.home / "x.yaml").write_text(
        "hosts: {a: {}, b: {memory: 2 GiB}}\nguests:\n  one: {host: a, image: mirco}\n"
        "  two: {host: b, image: bare, memory: 64 MiB}\n  three: {host: b, image: mirco}\n"
    )
    found = limosa.ok("check", "x.yaml", "--json").json
    assert [host["name"] for host in found["hosts"]] == ["a", "b"]
    assert [(g["name"], g["host"], g["image"]) for g in found["guests"]] == [
        ("one", "a", "mirco"), ("two", "b", "bare"), ("three", "b", "mirco")
    ]  # fmt: skip
    images = {image["name"]: image for image in found["images"]}
    assert images["mirco"]["guests"] == ["one", "three"] and not images["mirco"]["there"]
    assert "did you mean micro?" in images["mirco"]["hint"] and not images["mirco"]["comes"]
    text = limosa.ok("check", "x.yaml", XDG_CACHE_HOME=str(limosa.home / "cache")).text
    assert "x.yaml is right: lab x" in text and "no, built when it is first needed" in text
    assert not (limosa.home / "cache").exists() and not limosa.state.exists(), "nothing is touched"


def test_check_reads_tls_as_it_is_meant(limosa: Command) -> None:
    """Also where the writer took ``on`` for a truth value, as YAML 1.1 does."""
    file, rest = limosa.home / "x.yaml", "hosts: {a: , b: }\nguests:\n  g: {host: a, image: bare, memory: 64 MiB}\n"
    for written in ("on", "off", "true", "false", '"on"', "auto"):
        file.write_text(f"migration: {{tls: {written}}}\n{rest}")
        assert limosa.ok("check", "x.yaml", "--json").json["right"], written
    for written, near in (("onn", ", did you mean 'on'?"), ("oof", ", did you mean 'off'?"), ("2", "")):
        file.write_text(f"migration: {{tls: {written}}}\n{rest}")
        wrong = limosa.run("check", "x.yaml")
        assert wrong.returncode == 2, wrong
        assert "x.yaml:1: migration.tls: expected 'auto', 'on' or 'off', found " in wrong.errors
        assert near in wrong.errors


def test_a_wrong_file_is_told_by_line_and_key(limosa: Command) -> None:
    (limosa.home / "x.yaml").write_text("hosts:\n  a: {kidn: ssh}\nguests:\n  g: {host: a, memory: much}\n")
    wrong = limosa.run("check", "x.yaml")
    assert wrong.returncode == 2
    assert "x.yaml:2: hosts.a.kidn" in wrong.errors and "x.yaml:4: guests.g.memory" in wrong.errors
    as_json = limosa.run("check", "x.yaml", "--json")
    assert as_json.returncode == 2 and not as_json.json["right"]
    assert [(each["line"], each["key"]) for each in as_json.json["problems"]] == [
        (2, "hosts.a.kidn"), (4, "guests.g.memory")
    ]  # fmt: skip
    assert all(each["message"] for each in as_json.json["problems"])
    limosa.run("check").refused(2, "limosa.yaml: no such file", hint="x.yaml")
    (limosa.home / "x.yaml").unlink()
    limosa.run("check").refused(2, "limosa.yaml: no such file", hint="limosa init")
    nothing = limosa.run("check", "--json")
    assert nothing.returncode == 2 and nothing.json["problems"][0]["line"] is None
