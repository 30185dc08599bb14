"""Whoever types what the documents show gets what they show: each block, in order.

What cannot be run here is skipped with what it needs, so that the end of a run lists and counts it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import documents, slow
from tests.document_session import Session
from tests.limosa_command import Traces

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Item:
    """One block to run (of Python: all of a document), or what keeps one from being run."""

    blocks: tuple[documents.Block, ...]
    need: documents.Mark | None = None

    @property
    def name(self) -> str:
        block = self.blocks[0]
        return f"{block.document}:{block.line}" + (f" {self.need.words or 'all'}" if self.need else "")


def items() -> Iterator[Item]:
    """Document by document, in order."""
    for path in documents.paths():
        blocks = documents.read(path)
        cells = tuple(block for block in blocks if block.is_cell and (slow.wanted() or not block.slow))
        for block in blocks:
            yield from (Item((block,), need) for need in block.needs)
            if block.value("file") or any(block.runs(shown.command) for shown in block.typed):
                yield Item((block,))
            if cells and block is cells[0]:
                yield Item(cells)


def parameters() -> list[object]:
    """As pytest takes them."""
    return [
        pytest.param(item, id=item.name, marks=[pytest.mark.slow] if item.blocks[0].slow and not item.need else [])
        for item in items()
    ]


@pytest.fixture(scope="module")
def reader() -> Iterator[Callable[[str], Session]]:
    """Who reads a document, from its first block to its last: then nothing of it is left."""
    open_now = list[tuple[Session, Traces]]()

    def close() -> None:
        for session, traces in open_now:
            session.close()
            traces.assert_gone(within_s=20, folders=False)
            shutil.rmtree(session.home)
        open_now.clear()

    def reading(document: str) -> Session:
        if not open_now or open_now[0][0].document != document:
            close()
            home = Path(tempfile.mkdtemp(prefix="limosa-documents-"))
            open_now.append((Session(document, home), Traces(home)))
        return open_now[0][0]

    yield reading
    close()


@pytest.mark.parametrize("item", parameters())
def test_block(item: Item, reader: Callable[[str], Session]) -> None:
    if item.need:
        pytest.skip(f"a document's block needs {item.need.need}: {documents.NEEDS[item.need.need]}")
    session = reader(item.blocks[0].document)
    if item.blocks[0].is_cell:
        session.cells(item.blocks)
        return
    for block in item.blocks:
        session.prepare(block)
        for shown in block.typed:
            if block.runs(shown.command):
                session.type(shown, block.where)
