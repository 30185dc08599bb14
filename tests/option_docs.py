"""The table of docs/options.md, as ``limosa.spec.migration_options`` has it.

``python -m tests.option_docs`` writes it between its marks; a test says when that was forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from limosa.spec.migration_options import OPTIONS, Option, Value
from limosa.spec.migration_options.row import TLS

PAGE = Path(__file__).parent.parent / "docs" / "options.md"
BEGIN, END = "<!-- options: written by tests/option_docs.py -->\n", "<!-- end of options -->"


def table() -> str:
    """A row an option."""
    head = ("option", "value", "default", "what it is for", "with others")
    rows = [head, ("---",) * len(head), *map(_row, OPTIONS.values())]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


def _row(option: Option) -> tuple[str, ...]:
    default = option.kind.shown(option.default)
    if option.ours is not None:
        default = f"{option.kind.shown(option.ours)} (QEMU's own: {default})"
    about = f"{option.purpose} {option.remark}".strip()
    qmp = [name for name in option.qmp_names if name != option.name]
    kind = "capability" if option.capability else "parameter"
    told = f"QEMU's {kind}{' ' + ' or '.join(f'`{name}`' for name in qmp) if qmp else ''}, {_SIDES[option.side]}"
    return f"`{option.name}`", option.kind.told, default, f"{about} <sub>{told}</sub>", " ".join(_company(option))


_SIDES = {"both": "both sides", "source": "the source", "target": "the target"}


def _company(option: Option) -> list[str]:
    found = []
    if option.turns_on:
        found.append(f"Sets {_words(option.turns_on)}.")
    if option.needs:
        found.append(f"Needs {_words(option.needs)}.")
    if option.not_less_than:
        found.append(f"Not less than `{option.not_less_than}`.")
    if option.guest_needs:
        found.append("Needs a guest that was started with KVM's dirty ring; limosa starts none so.")
    for exclusion in option.excludes:
        other = "TLS" if exclusion.other == TLS else f"`{exclusion.other}`"
        found.append(f"Not with {other}: {exclusion.why}.")
    return found


def _words(values: Mapping[str, Value]) -> str:
    return ", ".join(f"`{name}={OPTIONS[name].kind.shown(value)}`" for name, value in values.items())


def written(text: str) -> str:
    """*text* with the table between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
