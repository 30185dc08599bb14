"""Tables for the terminal: plain aligned columns, with Rich only where a terminal shows them."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows* under *head* on standard output."""
    if not rows:
        return
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Column, Table
        from rich.text import Text

        from limosa.cli.printable import printable, raw

        # Where a word has no room it goes on in the next line: of a path every part may matter.
        columns = [Column(name, overflow="fold") for name in head]
        table = Table(*columns, box=box.SIMPLE_HEAD, header_style="bold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        Console(file=raw(sys.stdout)).print(table)
        return
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
