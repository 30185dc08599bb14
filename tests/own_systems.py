"""Systems of their own, made out of what is at hand, for tests: they know nothing of the lab that runs them."""

from __future__ import annotations

import shutil
from pathlib import Path

from limosa import process
from limosa.events import Events
from limosa.guest import images
from limosa.guest.micro import seed
from limosa.lab.preparation import agent_program

ADDRESS = "10.77.1.101"


async def stranger(folder: Path, mac: str) -> dict[str, str]:
    """The micro guest as a stranger: an SSH server with host keys of its own, one user's key, and no agent.

    Returns what the lab file says of it.
    """
    image = await images.ensure("micro", Events(), agent=await agent_program(Events()))
    keys = await seed.make_keys(folder / "own-keys")
    disk = folder / "stranger.raw"
    shutil.copyfile(image.disk, disk)
    remove = ["debugfs", "-w", "-R", "rm /usr/bin/limosa-agent", str(disk)]
    await process.run(remove)
    belongings = seed.seed(
        hostname="stranger",
        address_cidr=f"{ADDRESS}/24",
        gateway=None,
        mac=mac,
        authorized_keys=keys.authorized_keys,
        host_key=keys.host_key.read_text(),
    )
    initrd = folder / "stranger.initrd"
    initrd.write_bytes(image.initrd.read_bytes() + belongings)
    return {
        "path": str(disk),
        "format": "raw",
        "key": str(keys.user_key),
        "kernel": str(image.kernel),
        "initrd": str(initrd),
        "append": image.kernel_arguments,
    }
