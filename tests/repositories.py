"""A repository of packages, served where containers of a test find it: on their daemon's bridge, by plain HTTP."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests import daemons

PORT = 8077


@contextlib.contextmanager
def served(daemon: daemons.Daemon, folder: Path) -> Iterator[None]:
    """What is in *folder* is served on the daemon's bridge."""
    address = daemons.ADDRESS.split("/")[0]
    argv = [sys.executable, "-m", "http.server", "--bind", address, "--directory", str(folder), str(PORT)]
    child = subprocess.Popen(
        daemon.enter(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    probe = f"import socket; socket.create_connection(({address!r}, {PORT}), 5)"
    try:
        end_s = time.monotonic() + 30
        while subprocess.run(daemon.enter([sys.executable, "-c", probe]), capture_output=True).returncode:
            assert time.monotonic() < end_s and child.poll() is None, "the repository is not served"
            time.sleep(0.1)
        yield
    finally:
        child.kill()
        child.wait()
