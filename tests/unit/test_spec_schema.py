"""The JSON schema agrees with what is read, and docs/lab-file.md agrees with the schema."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limosa.errors import SpecError
from limosa.spec import document, loads, schema
from tests.unit.test_spec_shapes import SHAPES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "lab-file.md"
SECTIONS = (
    ("The file", ""),
    ("A network", "Network"),
    ("A storage", "Storage"),
    ("A host", "Host"),
    ("A guest", "Guest"),
    ("A disk", "Disk"),
    ("An image that boots by itself", "DiskImage"),
    ("How guests are moved", "Migration"),
)
BEYOND_A_SCHEMA = (
    "the key 'name' is missing",
    "is not a whole number of MiB",
    "expected more than 0 bytes",
    "has bits after its prefix",
    "is set aside",
    "is more than the 60 s",
    "is more than 2000 s: QEMU takes no more",
    "is not a power of two",
)
"""Faults that take arithmetic, or the file's name."""


def faults(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    """What the keywords that our schema uses say against *value*; a keyword that is not known here fails."""
    for keyword, wanted in rule.items():
        yield from _KEYWORDS[keyword](value, wanted, rule, root)


def _reference(value: Any, wanted: str, _rule: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    yield from faults(value, root["$defs"][wanted.rpartition("/")[2]], root)


def _type(value: Any, wanted: Any, *_: Any) -> Iterator[str]:
    types = {"object": dict, "array": list, "string": str, "integer": int, "null": type(None)}
    names = wanted if isinstance(wanted, list) else [wanted]
    if isinstance(value, bool) or not isinstance(value, tuple(types[name] for name in names)):
        yield f"{value!r} is not {wanted}"


def _properties(value: Any, wanted: dict[str, Any], _rule: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for key, rule in wanted.items():
        if isinstance(value, dict) and key in value:
            yield from faults(value[key], rule, root)


def _additional(value: Any, wanted: Any, rule: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for key in set(value if isinstance(value, dict) else ()) - set(rule.get("properties", ())):
        yield from faults(value[key], wanted, root) if wanted else (f"{key} is not allowed",)


def _names(value: Any, wanted: Any, _rule: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for key in value if isinstance(value, dict) else ():
        yield from faults(key, wanted, root)


def _items(value: Any, wanted: Any, _rule: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for item in value if isinstance(value, list) else ():
        yield from faults(item, wanted, root)


def _any_of(value: Any, wanted: list[Any], _rule: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    if all(list(faults(value, rule, root)) for rule in wanted):
        yield f"{value!r} fits nothing of anyOf"


def _says(condition: Any) -> Any:
    def check(value: Any, wanted: Any, *_: Any) -> Iterator[str]:
        if not condition(value, wanted):
            yield f"{value!r} does not fit {wanted!r}"

    return check


_nothing = _says(lambda value, wanted: True)
_KEYWORDS: dict[str, Any] = {
    "$schema": _nothing,
    "$defs": _nothing,
    "title": _nothing,
    "description": _nothing,
    "default": _nothing,
    "$ref": _reference,
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _names,
    "items": _items,
    "anyOf": _any_of,
    "required": _says(lambda v, keys: not isinstance(v, dict) or set(keys) <= set(v)),
    "enum": _says(lambda v, choices: any(type(v) is type(choice) and v == choice for choice in choices)),
    "const": _says(lambda v, choice: v == choice),
    "pattern": _says(lambda v, pattern: not isinstance(v, str) or re.search(pattern, v)),
    "minLength": _says(lambda v, least: not isinstance(v, str) or len(v) >= least),
    "minProperties": _says(lambda v, least: not isinstance(v, dict) or len(v) >= least),
    "minimum": _says(lambda v, least: not isinstance(v, int) or v >= least),
    "maximum": _says(lambda v, most: not isinstance(v, int) or v <= most),
}


def schema_faults(text: str) -> list[str]:
    made = schema()
    return list(faults(document.parse(text, "lab.yaml").values, made, made))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_schema_accepts_the_examples(path: Path) -> None:
    assert schema_faults(path.read_text()) == []


@pytest.mark.parametrize(("text", "message", "hint"), SHAPES)
def test_schema_refuses_what_the_reader_refuses(text: str, message: str, hint: str) -> None:
    beyond = any(words in message for words in BEYOND_A_SCHEMA)
    assert bool(schema_faults(text)) is not beyond


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *((word, "on") for word in ("on", "'on'", '"on"', "true", "True", "'true'", "yes")),
        *((word, "off") for word in ("off", "'off'", "false", "FALSE", "no")),
        *((word, "auto") for word in ("auto", "'auto'", "~", "")),
    ],
)
def test_tls_is_read_as_it_is_meant(written: str, meant: str) -> None:
    """By a reader of YAML 1.1, as many editors are, ``on`` is a truth value, and is written back as ``true``."""
    for own, of_lab in ((written, ""), ("", written)):
        guests = f"guests: {{g: {{host: a, migration: {{tls: {own}}}}}}}"
        text = f"name: x\nhosts: {{a: , b: }}\nmigration: {{tls: {of_lab}}}\n{guests}\n"
        assert loads(text).guests["g"].migration.tls == meant
        assert schema_faults(text) == []


def test_every_key_has_a_description() -> None:
    made = schema()
    for owner in (made, *made["$defs"].values()):
        for key, rule in owner["properties"].items():
            assert rule["description"].endswith("."), key


def _as_written(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_schema_names_the_default_it_describes() -> None:
    made = schema()
    for owner in (made, *made["$defs"].values()):
        for rule in owner["properties"].values():
            if "default" in rule:
                assert re.search(rf"Default: `?{re.escape(_as_written(rule['default']))}`?\.", rule["description"])


def test_golden_schema() -> None:
    """Editors keep the schema, so a change of it is seen here first; LIMOSA_GOLDEN=update takes it."""
    golden = ROOT / "tests" / "golden" / "spec-schema.json"
    text = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("LIMOSA_GOLDEN") == "update":
        golden.write_text(text)
    assert text == golden.read_text()


def tables() -> str:
    made = schema()
    lines: list[str] = []
    for title, name in SECTIONS:
        owner = made["$defs"][name] if name else made
        lines += [f"### {title}", "", owner["description"], "", "| key | meaning |", "|---|---|"]
        lines += [f"| `{key}` | {rule['description']} |" for key, rule in owner["properties"].items()]
        lines.append("")
    return "\n".join(lines)


def test_documentation_has_every_key_as_the_schema_tells_it() -> None:
    begin, end = "<!-- keys -->\n", "<!-- /keys -->"
    before, rest = PAGE.read_text().split(begin)
    after = rest.split(end)[1]
    whole = f"{before}{begin}{tables()}{end}{after}"
    if os.environ.get("LIMOSA_GOLDEN") == "update":
        PAGE.write_text(whole)
    assert PAGE.read_text() == whole


def test_documentation_examples_load() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [loads(block).name for block in blocks] == ["short", "full"]


def test_documentation_shows_errors_as_they_are() -> None:
    shown = re.findall(r"```text\n(lab\.yaml:.*?)\n```", PAGE.read_text(), re.DOTALL)
    text = "name: x\nhosts: {host1: }\nguests:\n  guest1: {host: host1,\n    memroy: 1 GiB}\n  guest2: {host: }\n"
    with pytest.raises(SpecError) as caught:
        loads(text, "lab.yaml")
    assert [caught.value.message] == shown
