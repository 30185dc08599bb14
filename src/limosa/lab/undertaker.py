"""Takes an ephemeral lab with hosts elsewhere down when its maker was killed; a lab of namespaces needs no such thing.

Run as ``python3 -m limosa.lab.undertaker --lab DIRECTORY --maker PID``; it ends with the lab's directory.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import select
from pathlib import Path

from limosa.events import Events
from limosa.lab.lab import take_down

LOOK_S = 0.5


def main() -> None:
    """Wait for the end of the maker, or of the lab."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lab", required=True)
    parser.add_argument("--maker", type=int, required=True)
    options = parser.parse_args()
    try:
        maker = os.pidfd_open(options.maker)
    except ProcessLookupError:
        maker = -1
    while Path(options.lab).exists():
        if maker < 0 or select.select([maker], [], [], LOOK_S)[0]:
            asyncio.run(take_down(Path(options.lab).name, events=Events()))
            return


if __name__ == "__main__":
    main()
