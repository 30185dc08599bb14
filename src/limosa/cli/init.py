"""``limosa init``."""

from __future__ import annotations

from typing import Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption
from limosa.cli.values import HOST_KIND, LAB_FILE


def init(
    file: Annotated[
        str, Argument(kind=LAB_FILE, help="Where it goes; what is there is never overwritten.")
    ] = "limosa.yaml",
    kind: Annotated[
        str,
        Option(
            "--kind",
            kind=HOST_KIND,
            help="What the hosts are: namespaces of this machine, containers (incus, lxd), or machines over ssh.",
        ),
    ] = "namespaces",
    as_json: JsonOption = False,
) -> None:
    """Write a lab file to begin with: it works as it is, and says what each line is for.

    Lines that only you can know (machines, bridges) end in EDIT.
    """
    import shlex
    from pathlib import Path

    from limosa.spec import first_file

    name = first_file.write(Path(file), kind)
    lines = Path(file).read_text().splitlines()
    edit = [number for number, line in enumerate(lines, 1) if first_file.MARK in line]
    word = "" if file == first_file.DEFAULT else f" {shlex.quote(file)}"
    commands = [f"limosa check{word}", f"limosa up{word}"]
    if as_json:
        from limosa.cli.face import show_result

        show_result({"file": str(Path(file).absolute()), "lab": name, "kind": kind, "edit": edit, "next": commands})
        return
    print(f"wrote {file}: lab {name}, two hosts ({kind}) and a guest")
    if edit:
        print(f"edit the lines that end in EDIT first: {', '.join(map(str, edit))}")
    print(f"next: {', then '.join(commands)}")
