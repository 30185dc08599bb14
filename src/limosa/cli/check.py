"""``limosa check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Argument
from limosa.cli.options import JsonOption
from limosa.cli.values import LAB_FILE

if TYPE_CHECKING:
    from limosa.errors import SpecError
    from limosa.lab.description import ImageDescription, LabDescription


def check(
    file: Annotated[str, Argument(kind=LAB_FILE, help="The lab file.")] = "limosa.yaml",
    as_json: JsonOption = False,
) -> None:
    """Read a lab file: whether it is right, and what it makes; nothing is touched.

    A wrong one ends with exit code 2, and each fault is told with its file, line and key. An image that is not on this
    machine is no fault of the file, and is told.
    """
    from limosa import spec
    from limosa.cli.face import show_result
    from limosa.errors import SpecError
    from limosa.lab.description import describe

    try:
        described = describe(spec.load(file))
    except SpecError as error:
        if not as_json:
            raise
        show_result(_wrong(error, file))
        raise SystemExit(error.exit_code) from error
    if as_json:
        import msgspec

        show_result({"right": True, **msgspec.to_builtins(described)})
    else:
        _show(described, file)


def _wrong(error: SpecError, file: str) -> dict[str, object]:
    problems = error.problems or ((error.line, error.key, error.message, error.hint),)
    return {
        "right": False,
        "file": file,
        "problems": [{"line": line, "key": key, "message": told, "hint": hint} for line, key, told, hint in problems],
        "error": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def _show(lab: LabDescription, file: str) -> None:
    from limosa.cli.columns import print_table
    from limosa.units import format_bytes

    print(f"{file} is right: lab {lab.name}")
    print_table(("network", "subnet", "for"), [(each.name, each.subnet, each.purpose) for each in lab.networks])
    print_table(
        ("host", "kind", "addresses"),
        [
            (
                each.name,
                each.kind if each.made else f"{each.kind}, yours",
                ", ".join(f"{network} {address}" for network, address in each.addresses.items()),
            )
            for each in lab.hosts
        ],
    )
    print_table(
        ("guest", "host", "image", "memory", "CPUs", "address"),
        [(g.name, g.host, g.image, format_bytes(g.memory_bytes), str(g.cpus), g.address) for g in lab.guests],
    )
    print_table(("image", "here"), [(image.name, _here(image)) for image in lab.images])


def _here(image: ImageDescription) -> str:
    if image.there:
        return "yes"
    return f"no, {image.comes}" if image.comes else f"no: {image.hint}"
