"""Options and arguments that several verbs share, and what the shell completes for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated

from limosa.cli.declared import Argument, Option
from limosa.errors import SpecError


def _complete(kind: str, incomplete: str) -> list[str]:
    from limosa.lab.record import existing

    names: set[str] = set()
    with contextlib.suppress(Exception):  # completion never complains
        for directory in existing():
            names.update({directory.name} if kind == "labs" else getattr(directory.spec(), kind))
    return sorted(name for name in names if name.startswith(incomplete))


def complete_labs(incomplete: str) -> list[str]:
    """Names of labs."""
    return _complete("labs", incomplete)


def complete_guests(incomplete: str) -> list[str]:
    """Names of guests of any lab."""
    return _complete("guests", incomplete)


def complete_hosts(incomplete: str) -> list[str]:
    """Names of hosts of any lab."""
    return _complete("hosts", incomplete)


LabOption = Annotated[
    str,
    Option(
        "--lab",
        help="The lab: its file or its name. Without it: $LIMOSA_LAB, ./limosa.yaml, or the only lab that is up.",
        complete=complete_labs,
        show_default=False,
    ),
]
JsonOption = Annotated[bool, Option("--json", help="Print the result as one JSON document.")]
GuestArgument = Annotated[str, Argument(help="A guest of the lab.", complete=complete_guests)]
HostArgument = Annotated[str, Argument(help="A host of the lab.", complete=complete_hosts)]


def size_rate(text: str, option: str) -> int | None:
    """``100 MiB/s`` in bytes/s; empty is None. Raises SpecError."""
    from limosa.units import parse_bytes_per_s

    return int(_parsed(parse_bytes_per_s, text, option, "100 MiB/s")) if text else None


def seconds(text: str, option: str) -> float | None:
    """``300 ms`` in seconds; empty is None. Raises SpecError."""
    from limosa.units import parse_seconds

    return _parsed(parse_seconds, text, option, "30 s") if text else None


def _parsed(parse: Callable[[str], float], text: str, option: str, example: str) -> float:
    try:
        return float(parse(text))
    except ValueError as error:
        raise SpecError(f"{option}: {error}", hint=f"as in {option} '{example}'") from error
