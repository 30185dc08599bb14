"""What one host sees of a move that has not begun, by one program there: files, and userfaultfd.

It runs as the user that runs QEMU there, with the standard library and the modules that are sent with it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from limosa import userfaultfd
from limosa.storage import seen_file


def look(asked: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``limosa.migration.preflight.facts.Sight`` that are *asked* for.

    ``files``: by path, whether a digest and whether a lock is wanted; ``faults``: userfaultfd.
    """
    found: dict[str, Any] = {
        "files": {
            path: seen_file.look(path, head=bool(how["head"]), lock=bool(how["lock"]))
            for path, how in asked["files"].items()
        }
    }
    if asked["faults"]:
        found["faults_by_call"] = userfaultfd.by_call()
        found["faults_by_device"] = userfaultfd.by_device()
    return found


def main() -> None:
    """Print what was seen."""
    print(json.dumps(look(json.loads(sys.argv[1]))))
