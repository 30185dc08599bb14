"""What others wrote: JSON of guests, QEMUs, daemons and files, and names that are to become paths.

Rule: whatever is wrong with it, one kind of error tells; the decoder of the library lets others through.
"""

from __future__ import annotations

from typing import Any, TypeVar, overload

import msgspec

from limosa.errors import SpecError

T = TypeVar("T")

LONGEST_INTEGER_BITS = 64
"""Larger ones are numbers of nothing, and neither text nor a float can be made of the largest."""

LONGEST_NAME_BYTES = 128
"""Far more than any name of ours; a file system takes 255, and names of ours get endings."""


@overload
def decode(data: bytes | str) -> Any: ...
@overload
def decode(data: bytes | str, *, type: type[T]) -> T: ...
def decode(data: bytes | str, *, type: Any = Any) -> Any:
    """The value of a JSON text, of *type*. Raises msgspec.DecodeError, and nothing else, for whatever is wrong.

    So are bytes that are not UTF-8, nesting without end, and integers of more than 64 bits.
    """
    value = unchecked(data)
    try:
        _check_integers(value)
    except ValueError as error:
        raise _malformed(error) from error
    return value if type is Any else unchecked(data, type=type)


def unchecked(data: bytes | str, *, type: Any = Any) -> Any:
    """As ``decode``, with integers of any size: for messages of which one bad value is not to spoil the rest."""
    try:
        return msgspec.json.decode(data, type=type)
    except msgspec.MsgspecError:
        raise
    except (ValueError, RecursionError) as error:
        raise _malformed(error) from error


def _malformed(error: Exception) -> msgspec.DecodeError:
    return msgspec.DecodeError("JSON is malformed: " + (str(error) or "nested too deeply"))


def convert(value: Any, type: type[T]) -> T:
    """What a library has decoded, as *type*. Raises msgspec.ValidationError, and nothing else."""
    try:
        _check_integers(value)
        return msgspec.convert(value, type)
    except msgspec.ValidationError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise msgspec.ValidationError(str(error)) from error


def _check_integers(value: Any) -> None:
    left = [value]
    while left:
        match left.pop():
            case bool() | str() | float() | None:
                pass
            case int() as number:
                if number.bit_length() > LONGEST_INTEGER_BITS:
                    raise ValueError(f"an integer of {number.bit_length()} bits")
            case list() as items:
                left.extend(items)
            case dict() as entries:
                left.extend(entries.values())


def check_name(text: str, what: str) -> str:
    """*text*, when it can be the name of one file or folder; *what* says what it would be the name of.

    Every name that becomes part of a path passes here. Raises SpecError.
    """
    if (
        not text
        or text.startswith(".")
        or "/" in text
        or not text.isprintable()
        or len(text.encode(errors="surrogatepass")) > LONGEST_NAME_BYTES
    ):
        shown = repr(text[:40])[1:-1] + ("..." if len(text) > 40 else "")
        raise SpecError(
            f"'{shown}' cannot be the name of a {what}",
            hint=f"at most {LONGEST_NAME_BYTES} letters, digits and '-', and no '/' and no '.' in front",
        )
    return text
