"""What a lab file says of how one guest is moved: the guest's own part over the lab's, option by option."""

from __future__ import annotations

from collections.abc import Iterator

from limosa.errors import SpecError
from limosa.spec import resolved
from limosa.spec.migration_options import Value, merged, named, value
from limosa.spec.problems import Location, found
from limosa.spec.written import LabFile
from limosa.spec.written_migration import Migration

Fault = tuple[Location, str, str]
"""Where it is, what is wrong, and the way out."""


def faults(file: LabFile) -> Iterator[Fault]:
    """What is wrong with the options of a lab file, the lab's and its guests'."""
    yield from _faults(file.migration, ("migration",))
    for name, guest in file.guests.items():
        yield from _faults(guest.migration, ("guests", name, "migration"))


def _faults(written: Migration, place: Location) -> Iterator[Fault]:
    for name, given in written.options.items():
        try:
            _value(name, given)
        except SpecError as error:
            yield (*place, "options", name), error.message.removeprefix(f"{name}: "), error.hint


def of(lab: Migration, guest: Migration) -> resolved.Wishes:
    """How a guest is moved, as the lab's and its own part say; options at fault are left out."""
    layers = [{name: _or_none(name, given) for name, given in each.options.items()} for each in (guest, lab)]
    options = {name: given for name, given in merged(*layers).items() if given is not None}
    return resolved.Wishes(guest.method or lab.method or "pre-copy", guest.tls or lab.tls or "auto", options)


def _or_none(name: str, given: object) -> Value | None:
    try:
        return _value(name, given)
    except SpecError:
        return None


def _value(name: str, given: object) -> Value | None:
    """As ``migration_options.value``, but a number without the unit that it needs is refused. Raises SpecError."""
    kind = named(name).kind
    if isinstance(given, int) and not isinstance(given, bool) and not kind.bare:
        raise SpecError(f"{found(given)} is not {kind.told}", hint=f"write for instance {kind.example}")
    return value(name, given)
