"""A reader who types what a document says, in a clone and with a state directory and an image cache of their own."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from limosa import paths
from tests import document_cells, documents
from tests.limosa_command import Command

DEADLINE_S = 900
"""A document's longest command, on a machine with much else to do."""
LEAVE = b"\x1d"
"""Ctrl-]"""
_INTERACTIVE = re.compile(r"limosa (console|screen)\b(?!.*--(text|png|json|help))")


def clone(folder: Path, root: Path = documents.ROOT) -> Path:
    """What a clone of the working tree holds, in *folder*; its Python environment is this tree's."""
    listed = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, capture_output=True, check=True).stdout.decode().split("\0"):
        if name and ((root / name).is_file() or (root / name).is_symlink()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name, follow_symlinks=False)
    if (root / ".venv").is_dir():
        (folder / ".venv").symlink_to(root / ".venv")
    return folder


@dataclass
class Session:
    """One reader of one document."""

    document: str
    home: Path
    place: Path = field(init=False)
    command: Command = field(init=False)

    def __post_init__(self) -> None:
        folder = clone(self.home / "clone")
        self.place = folder
        cache = self.home / "cache/limosa"
        cache.mkdir(parents=True)
        for part in ("accel", "agent", "qemu"):  # what takes long to find out, and is the same for all
            (paths.cache() / part).mkdir(parents=True, exist_ok=True)
            (cache / part).symlink_to(paths.cache() / part)
        for image in (paths.cache() / "images").glob("micro-[0-9a-f]*"):
            copied = ["cp", "-a", "--sparse=always", str(image), str(cache / "images")]
            (cache / "images").mkdir(exist_ok=True)
            subprocess.run(copied, check=True)
        path = f"{folder}:{os.environ['PATH']}"
        self.command = Command(self.home, environment={"XDG_CACHE_HOME": str(cache.parent), "PATH": path})

    @property
    def environment(self) -> dict[str, str]:
        """What the reader's shell has."""
        return {name: value for name, value in self.command.env().items() if name != "PYTHONPATH"}

    def prepare(self, block: documents.Block) -> None:
        """Write the block's file, bring its lab up."""
        if name := block.value("file"):
            (self.place / name).write_text(block.text)
        if lab := block.value("lab"):
            self.type(documents.Shown(f"limosa up {lab}"), block.where)

    def type(self, shown: documents.Shown, where: str) -> None:
        """Type one command, and compare what it prints. The directory that it changes to stays."""
        left = self.home / "place"
        script = f"{shown.command}\ncode=$?; pwd >{left}; exit $code"
        if _INTERACTIVE.search(shown.command) and not shown.fails:
            code, printed = self._at_a_terminal(script)
        else:
            done = subprocess.run(
                ["bash", "-c", script], cwd=self.place, env=self.environment, timeout=DEADLINE_S,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            code, printed = done.returncode, done.stdout.decode(errors="replace")
        told = f"{where}: $ {shown.command}\n{printed}[exit code {code}]"
        assert (code != 0) == shown.fails, f"exit code {code}: {told}"
        assert not (lost := documents.missing(shown, printed)), f"not printed: {lost}\n{told}"
        if left.exists():
            self.place = Path(left.read_text().rstrip("\n"))

    def _at_a_terminal(self, script: str) -> tuple[int, str]:
        """Wait until it shows something, and leave by Ctrl-]."""
        ours, theirs = pty.openpty()
        child = subprocess.Popen(
            ["bash", "-c", script], cwd=self.place, env=self.environment | {"TERM": "xterm"},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        seen, end, pressed = b"", time.monotonic() + DEADLINE_S, 0.0
        try:
            while child.poll() is None:
                assert time.monotonic() < end, seen
                if select.select([ours], [], [], 0.2)[0]:
                    try:
                        seen += os.read(ours, 65536)
                    except OSError:
                        break
                if seen.strip() and time.monotonic() > pressed + 2:
                    os.write(ours, LEAVE)
                    pressed = time.monotonic()
            return child.wait(60), seen.decode(errors="replace")
        finally:
            child.kill()
            child.wait()
            os.close(ours)

    def cells(self, blocks: Sequence[documents.Block]) -> None:
        """Run the Python blocks as one program."""
        done = subprocess.run(
            [sys.executable, "-P", document_cells.__file__, self.document],
            input=json.dumps([[block.line, block.text] for block in blocks]),
            cwd=self.place, env=self.environment | {"PYTHONPATH": str(documents.ROOT / "src")},
            capture_output=True, text=True, timeout=DEADLINE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def close(self) -> None:
        """Take the labs down that the document leaves up."""
        for lab in self.command.labs:
            self.command.run("down", "--lab", lab)
