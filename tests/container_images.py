"""What an image of a distribution is for container daemons, and how a daemon comes to know it."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests import daemons

METADATA = """architecture: x86_64
creation_date: 1700000000
properties: {{description: {description}}}
templates:
  /etc/hostname: {{when: [create, copy], template: hostname.tpl}}
  /etc/hosts: {{when: [create, copy], template: hosts.tpl}}
"""
# sudo asks for the machine's own name, and would wait for a name server that there is none.
HOSTS = "127.0.0.1 localhost\n127.0.1.1 {{ container.name }}\n"


@dataclass(frozen=True, slots=True)
class Image:
    """An image to import, and the folder that is served as the repository that its package manager asks."""

    metadata: Path
    rootfs: Path
    repository: Path


def described(directory: Path, description: str) -> Path:
    """The metadata beside a root file system, in *directory*."""
    metadata = directory / "metadata.tar.gz"
    with tarfile.open(metadata, "w:gz") as archive:
        daemons.add_file(archive, "metadata.yaml", METADATA.format(description=description))
        daemons.add_file(archive, "templates/hostname.tpl", "{{ container.name }}\n")
        daemons.add_file(archive, "templates/hosts.tpl", HOSTS)
    return metadata


def imported(daemon: daemons.Daemon, image: Image, alias: str) -> None:
    """Have the daemon know the image as *alias*, and start containers as it does by default."""
    daemon.client("image", "import", str(image.metadata), str(image.rootfs), "--alias", alias)
    profile = daemons.PROFILE_WITHOUT_USR.format(bridge=daemon.flavour.bridge)
    daemon.client("profile", "edit", "default", stdin=profile.encode())
