"""The image ``micro-generic``: as ``micro``, with the distribution's general kernel and fio.

The kernel for virtual machines has no driver for the e1000, the rtl8139 or a SATA controller, so that a guest with
one of them needs this larger image. To compare hardware, every guest of a bench takes this one.
"""

from __future__ import annotations

from pathlib import Path

from limosa.events import Events
from limosa.guest import micro
from limosa.guest.micro import Built, Contents


def digest(agent: Path | None) -> str:
    """What decides the image; the same files as for ``micro``, of which this module is one."""
    return micro.digest(agent)


async def build(directory: Path, events: Events, agent: Path | None) -> Built:
    """Make the image in the existing *directory*. Raises MachineError as ``micro.build`` does."""
    from limosa.guest.micro import kernel, packages, tree

    contents = Contents(
        generic_kernel=True,
        tools=(*packages.TOOLS, *packages.DISK_TOOLS),
        programs=(*tree.PROGRAMS, *tree.DISK_PROGRAMS),
        modules=(*kernel.MODULES, *kernel.EMULATED_MODULES),
    )
    return await micro.make(directory, events, agent, contents)
