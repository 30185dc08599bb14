"""A document's Python blocks as the cells of one notebook: ``python document_cells.py DOCUMENT`` reads them as JSON.

Standard input is a list of [line, text]. Cells may ``await``, as in a notebook, and share their names.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import sys


async def run(document: str, cells: list[tuple[int, str]]) -> None:
    """Run them in order; a traceback shows the document's own lines."""
    names: dict[str, object] = {"__name__": "__main__"}
    for line, text in cells:
        tree = compile("\n" * (line - 1) + text, document, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if inspect.iscoroutine(value := eval(tree, names)):
            await value


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], json.load(sys.stdin)))
