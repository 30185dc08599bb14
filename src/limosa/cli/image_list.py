"""``limosa image list``, ``show`` and ``remove``: the images that are kept on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption
from limosa.cli.values import IMAGE

if TYPE_CHECKING:
    from limosa.lab.image_store import Kept

NameArgument = Annotated[str, Argument(kind=IMAGE, help="An image, by its name.")]


def list_images(as_json: JsonOption = False) -> None:
    """List what is kept: what it is, how much room it takes, how old it is, which labs use it."""
    from limosa.cli.face import show_result
    from limosa.lab import image_store

    found = image_store.kept()
    if as_json:
        show_result([kept.described() for kept in found])
        return
    from limosa.cli.columns import print_table

    if not found:
        print("no images are kept; limosa image install and limosa image build make some")
    print_table(
        ("image", "kind", "format", "firmware", "takes", "age", "used by"),
        [_row(kept) for kept in found],
    )


def _row(kept: Kept) -> tuple[str, ...]:
    from limosa.units import format_bytes

    return (
        kept.name, kept.kind, kept.format, kept.firmware, format_bytes(kept.size_bytes), _age(kept.age_s),
        ", ".join(kept.used_by),
    )  # fmt: skip


def _age(age_s: float) -> str:
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= length_s:
            return f"{age_s / length_s:.0f} {unit}"
    return f"{max(0.0, age_s):.0f} s"


def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show all that is known of an image: where it is from, its checksum, how it was made, how to log in."""
    from limosa.cli.face import show_result
    from limosa.lab import image_store

    described = image_store.find(name).described()
    if as_json:
        show_result(described)
        return
    from limosa.cli.columns import print_table

    print_table(("what", "value"), [(key, _text(value)) for key, value in _flat(described) if value])


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _flat(values: dict[str, object], before: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, value in values.items():
        rows += _flat(value, f"{before}{key}.") if isinstance(value, dict) else [(f"{before}{key}", value)]
    return rows


def remove(
    names: Annotated[list[str] | None, Argument(kind=IMAGE, help="Images, by name.")] = None,
    unused: Annotated[
        bool, Option("--unused", help="Also what limosa built itself in an older form, and broken downloads.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove images. One that a lab uses stays, and the lab is named."""
    from limosa.cli.face import show_result
    from limosa.errors import SpecError
    from limosa.lab import image_store
    from limosa.units import format_bytes

    if not names and not unused:
        raise SpecError("which image?", hint="give names, or --unused; limosa image list shows them")
    gone = image_store.remove(*dict.fromkeys(names or ()))
    if unused:
        gone |= image_store.remove_unused()
    if as_json:
        show_result({"removed": gone})
        return
    for name, size_bytes in gone.items():
        print(f"removed {name}: {format_bytes(size_bytes)}")
    if not gone:
        print("nothing to remove")
