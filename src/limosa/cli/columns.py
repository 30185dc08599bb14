"""Tables for the terminal: plain aligned columns, with Rich only where a terminal shows them."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = ()) -> None:
    """Print *rows* under *head* on standard output. The *spare* columns go, the first of them first, where a terminal
    is too narrow for all."""
    if not rows:
        return
    if sys.stdout.isatty():
        _draw(head, rows, spare)
        return
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _draw(head: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from limosa.cli.printable import printable, raw

    console, left_out = Console(file=raw(sys.stdout)), list(spare)
    gone: set[str] = set()
    while True:
        kept = [index for index, name in enumerate(head) if name not in gone]
        table = Table(box=box.SIMPLE_HEAD, header_style="bold")
        for index in kept:
            table.add_column(head[index], overflow="fold")  # never cut: a path or a name may be what is looked for
        for row in rows:
            table.add_row(*(Text(printable(row[index])) for index in kept))
        if (
            not left_out
            or console.measure(table, options=console.options.update(width=10_000)).maximum <= console.width
        ):
            console.print(table)
            return
        gone.add(left_out.pop(0))
