"""The kinds of hosts that have a system of their own, imported when a lab has one of them."""

from __future__ import annotations

import os
import platform
import sys

from limosa import process
from limosa.events import Events
from limosa.hosts.host import CLIENT
from limosa.hosts.kind import Kind
from limosa.hosts.link.far.system import user_name
from limosa.hosts.local import LocalHost
from limosa.lab import identity
from limosa.lab.record import LabDirectory
from limosa.spec import resolved


def elsewhere(kind: str, lab: resolved.Lab, directory: LabDirectory, events: Events) -> Kind:
    """What is responsible for the lab's hosts of *kind*."""
    if kind == "ssh":
        from limosa.hosts.ssh.kind import SshKind

        here = f"{user_name()}@{platform.node()}"
        # As it was before there were ids, for a lab that was brought up then.
        return SshKind(lab, lab.mark or f"{platform.node()}:{directory.mark}", events, here=here)
    from limosa.hosts.containers.kind import Containers

    directories = {s.name: directory.storage(s) for s in lab.storage.values() if s.kind == "directory"}
    return Containers(kind, lab, identity.mark(lab, directory), directories, events)


def engage_undertaker(directory: LabDirectory) -> None:
    """Have a process of its own take the lab down when this one, which is making it, is killed."""
    words = ["--lab", directory.mark, "--maker", str(os.getpid())]
    process.detach([sys.executable, "-m", "limosa.lab.undertaker", *words], log=directory.log / "undertaker.log")


def this_machine(directory: LabDirectory, events: Events) -> LocalHost:
    """The client of a lab whose hosts are all elsewhere."""
    return LocalHost(CLIENT, str(directory.path), events)
