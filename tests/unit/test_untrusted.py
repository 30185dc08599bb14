"""JSON and names from elsewhere: whatever is wrong with them, one kind of error tells."""

from __future__ import annotations

import msgspec
import pytest

from limosa import untrusted
from limosa.errors import SpecError


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b'"\xff\xfe"',
        b'{"a": "\xc3\x28"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 4300,
        b"-" + b"9" * 5000,
        b'[1, {"a": ' + b"9" * 40 + b"}]",
        b"1e999999",
        b'"\\ud800"',
        b"NaN",
        b"1 2",
    ],
    ids=lambda text: repr(text[:14]),
)
@pytest.mark.parametrize("kind", [object, dict[str, object], list[int]])
def test_one_kind_of_error(text: bytes, kind: type) -> None:
    with pytest.raises(msgspec.DecodeError):
        untrusted.decode(text, type=kind)
    with pytest.raises(msgspec.DecodeError):
        untrusted.decode(text)


def test_what_is_right_is_read() -> None:
    assert untrusted.decode(b'{"a": [1, -2, 3.5, null, true, "x", 18446744073709551615]}')["a"][-1] == 2**64 - 1
    assert untrusted.decode("[1]", type=list[int]) == [1]


def test_a_number_of_the_wrong_size_is_found_however_deep() -> None:
    for depth in (1, 2, 50, 200):
        with pytest.raises(msgspec.DecodeError, match="bits"):
            untrusted.decode(b"[" * depth + b"9" * 30 + b"]" * depth)


@pytest.mark.parametrize("name", ["two-hosts", "a", "g1", "limosa_demo", "Ärger", "x" * 128, "a.b"])
def test_names_that_can_be(name: str) -> None:
    assert untrusted.check_name(name, "lab") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "/", "../x", "a\nb", "\x1b[2J", "a\0b", "x" * 129, "\udcff", "\u202e", "ä" * 65],
    ids=repr,
)
def test_names_that_cannot(name: str) -> None:
    with pytest.raises(SpecError, match="cannot be the name of a lab") as raised:
        untrusted.check_name(name, "lab")
    assert raised.value.message.isprintable() and len(raised.value.message) < 200
