"""Which namespaces whoever runs the tests may make."""

from __future__ import annotations

import os
import subprocess

import pytest


def required(*, rootless: bool) -> None:
    """Skip the test, with the reason, where no lab of such namespaces can be made."""
    if not rootless and os.geteuid() != 0:
        pytest.skip("only root makes namespaces without a user namespace")
    user = ["--user", "--map-root-user"] if rootless else []
    done = subprocess.run(["unshare", *user, "--net", "--mount", "true"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no {'user ' if rootless else ''}namespaces here: {done.stderr.strip()}")
