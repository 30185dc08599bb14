"""From the options that are asked for, and what two QEMUs offer, to what each of them is told. Pure.

Every parameter of the table that a QEMU knows is told each time, with its default where nobody asks for more: what an
earlier move set stays set, and a target is the source of the next move.
"""

from __future__ import annotations

from collections.abc import Mapping

from limosa.errors import SpecError
from limosa.spec.migration_options import OPTIONS, Option, Value, named


def expanded(asked: Mapping[str, Value]) -> dict[str, Value]:
    """*asked* with what it turns on. Raises SpecError for what is asked for without what it needs."""
    found = dict(asked)
    for name, given in asked.items():
        found |= {other: value for other, value in _turned_on(named(name), given).items() if other not in found}
    for name, given in found.items():
        option = named(name)
        for other, value in {**_turned_on(option, given), **_needed(option, given)}.items():
            if found.get(other, OPTIONS[other].unasked) != value:
                word = f"{other}={OPTIONS[other].kind.shown(value)}"
                raise SpecError(f"{name} needs {word}", hint=f"--set {word}, or leave {name} out")
        least = found.get(option.not_less_than, named(option.not_less_than).unasked) if option.not_less_than else given
        if isinstance(least, int) and isinstance(given, int) and given < least:
            raise SpecError(
                f"{name} is {option.kind.shown(given)}, less than the {option.kind.shown(least)} of "
                f"{option.not_less_than}",
                hint=f"give {option.not_less_than} a smaller value, too",
            )
    return found


def _turned_on(option: Option, given: Value) -> Mapping[str, Value]:
    return {} if given is False else option.turns_on


def _needed(option: Option, given: Value) -> Mapping[str, Value]:
    return {} if given is False else option.needs
