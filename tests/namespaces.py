"""Which namespaces whoever runs the tests may make, and what a lab's record says of them."""

from __future__ import annotations

import os
import subprocess

import msgspec
import pytest

from limosa.hosts.kind import part_of
from limosa.hosts.namespaces.traces import Processes
from limosa.lab.record import Record
from limosa.spec import host_kinds

NAME = host_kinds.NAMESPACES.name


def required(*, rootless: bool) -> None:
    """Skip the test, with the reason, where no lab of such namespaces can be made."""
    if not rootless and os.geteuid() != 0:
        pytest.skip("only root makes namespaces without a user namespace")
    user = ["--user", "--map-root-user"] if rootless else []
    done = subprocess.run(["unshare", *user, "--net", "--mount", "true"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no {'user ' if rootless else ''}namespaces here: {done.stderr.strip()}")


def processes(record: Record) -> Processes:
    """The processes that are on record."""
    return part_of(record.kinds, NAME, Processes)


def kinds(**fields: object) -> dict[str, msgspec.Raw]:
    """The parts of a record that has these processes."""
    return {NAME: msgspec.Raw(msgspec.json.encode(fields))}
