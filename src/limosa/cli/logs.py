"""``limosa logs``."""

from __future__ import annotations

from typing import Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption, LabOption
from limosa.cli.values import COUNT, GUEST_OR_HOST


def logs(
    name: Annotated[str, Argument(kind=GUEST_OR_HOST, help="A guest or a host; without it everything.")] = "",
    lab: LabOption = "",
    lines: Annotated[int, Option("--lines", "-n", kind=COUNT, help="How many lines of each log.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show what guests printed on their consoles, and what QEMU and the hosts said.

    Control sequences are left out, which would command your terminal; --json has the text as it is.
    """
    from limosa.cli.face import face, run, show_result
    from limosa.errors import SpecError
    from limosa.lab import Lab

    async def work() -> dict[str, list[str]]:
        import difflib

        with face(as_json, quiet=True) as events:
            async with Lab.open(lab, events=events) as opened:
                known = [*opened.spec.guests, *opened.spec.hosts]
                if name and name not in known:
                    near = difflib.get_close_matches(name, known, 1)
                    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
                    raise SpecError(f"there is no guest or host called {name}", hint=hint)
                found = await opened.hosts.logs(lines)
                return {
                    file: last
                    for file, last in found.items()
                    if not name or name in file.removesuffix(".log").split(".")[0].split("@")
                }

    texts = run(work)
    if as_json:
        show_result(texts)
        return
    for file, last in texts.items():
        if last:
            print(f"== {file}")
            print("\n".join(last))
