"""From what people write about a migration's options to values, and back."""

from __future__ import annotations

from collections.abc import Mapping

from limosa import paths
from limosa.errors import SpecError
from limosa.spec.migration_options.option_table import OPTIONS
from limosa.spec.migration_options.row import Option
from limosa.spec.migration_options.value_kinds import Value

DEFAULT = "default"
"""Written for a value: as if nobody had asked. With it a command takes back what a lab file says."""


def named(name: str) -> Option:
    """The row called *name*. Raises SpecError, with the nearest name there is."""
    if name in OPTIONS:
        return OPTIONS[name]
    import difflib

    near = difflib.get_close_matches(name.lower().replace("_", "-"), OPTIONS, 1)
    all_of_them = f"{paths.document('options.md')} has all of them"
    raise SpecError(f"there is no migration option {name!r}", hint=f"did you mean {near[0]}?" if near else all_of_them)


def read(name: str, text: str) -> Value | None:
    """The value that *text* gives the option *name*: ``("downtime-limit", "300 ms")`` is 300; None for ``default``.

    Raises SpecError for a name or a value that cannot be.
    """
    option = named(name)
    if text.strip() == DEFAULT:
        return None
    try:
        return option.kind.read(text)
    except ValueError as error:
        raise SpecError(f"{name}: {error}", hint=_hint(option)) from error


def value(name: str, given: object) -> Value | None:
    """*given* as QMP takes it: a value of the option's own unit, or text as people write it; None is its default.

    Raises SpecError for a name or a value that cannot be.
    """
    option = named(name)
    if given is None:
        return None
    if isinstance(given, str):
        return read(name, given)
    if fault := option.kind.fault(given):
        raise SpecError(f"{name}: {fault}", hint=_hint(option))
    assert isinstance(given, bool | int), "every kind refuses what QMP does not take"
    return given


def shown(name: str, given: Value) -> str:
    """*given* as people write it, with its unit: it reads back as the same value. Raises SpecError for the name."""
    return named(name).kind.shown(given)


def merged(*layers: Mapping[str, Value | None]) -> dict[str, Value | None]:
    """What is asked for in all, option by option: the first of *layers* that names one decides."""
    found: dict[str, Value | None] = {}
    for layer in layers:
        found |= {name: given for name, given in layer.items() if name not in found}
    return found


def _hint(option: Option) -> str:
    because = f", as {option.kind.why}" if option.kind.why else ""
    return f"{option.name} is {option.kind.told}{because}"
