"""How a guest of ``micro`` or ``micro-generic`` is had: kernel, initramfs with the guest's own seed, and a disk."""

from __future__ import annotations

from limosa import paths
from limosa.accel import Subject
from limosa.architecture import X86_64
from limosa.events import Events
from limosa.guest import built_images, root_disk
from limosa.guest.agent import executable
from limosa.guest.built_images import Image
from limosa.guest.micro.seed import seed
from limosa.guest.provision import Order, Placed, Stock, Trial
from limosa.spec import resolved
from limosa.storage.disk_file import Claim

SAME_RATE = 1e-4
"""Hosts whose counters differ by less than this share are of one rate: it is measured to some 10 ppm."""

IMAGE_ROOT = "root=/dev/vda"
"""What the image's own kernel arguments say of the root disk."""


def stock(guest: resolved.Guest) -> Stock:
    """The image of the present recipe, with the present agent in it."""
    names = (name for name in current() if name.rpartition("-")[0] == guest.image)
    there = any(built_images.find(paths.cache() / "images" / name) is not None for name in names)
    return Stock(there, "built when it is first needed")


async def have(guest: resolved.Guest, events: Events) -> None:
    """Nothing: it is built when a guest is started from it."""


async def place(order: Order) -> Placed:
    """Put kernel, initrd (with this guest's own seed) and disk on the storage; a disk that exists is kept."""
    guest = order.guest
    image = await built_images.ensure(guest.image, order.events, agent=await executable.ensure(order.events))
    kernel, initrd = f"{guest.name}.kernel", f"{guest.name}.initrd"
    await order.shelf.link(image.kernel, kernel)
    keys = await order.lab_keys()
    belongings = seed(
        hostname=guest.name,
        address_cidr=f"{guest.address}/{order.lab.networks[guest.network].prefix_length}",
        gateway=None,
        mac=guest.mac,
        authorized_keys=keys.authorized_keys,
        host_key=keys.host_key.read_text(),
    )
    await order.shelf.write(initrd, image.initrd.read_bytes() + belongings)
    return Placed(
        provenance=image.provenance,
        kernel=kernel,
        kernel_source=image.kernel,
        initrd=initrd,
        append=_arguments(image, guest),
        disk=await _disk(order, image),
        renewed=(kernel, initrd),
    )


def _arguments(image: Image, guest: resolved.Guest) -> str:
    """The image's own, with the name that the root disk has on this guest's bus."""
    return image.kernel_arguments.replace(IMAGE_ROOT, f"root={guest.disk.device}" if guest.disk else IMAGE_ROOT)


async def _disk(order: Order, image: Image) -> str:
    disk = order.guest.disk
    if disk is None:
        return ""
    if await order.shelf.has(disk.file):
        await root_disk.check_kept(order.shelf, disk.file, disk.format)
        return disk.file
    said = root_disk.source_claim(order.guest) if disk.source else Claim(path=image.disk, format="raw")
    await root_disk.place_whole(order.shelf, said, disk.file, disk.format)
    return disk.file


def subject(kernel: str, initrd: str) -> Subject:
    """A kernel and the image's initramfs, whose init prints the marker and stops instead of looking for a disk."""
    return Subject(
        name="a Linux kernel",
        reach="reach its init",
        reached="reached its init",
        marker=b"limosa: kernel reached init",
        kernel=kernel,
        append=f"console={X86_64.console_tty} panic=-1 limosa.diskless=1",
        initrd=initrd,
    )


async def trial(order: Order, placed: Placed) -> Trial:
    """The guest's own kernel and initramfs."""
    assert placed.kernel_source is not None
    return Trial(subject(order.seen(placed.kernel), order.seen(placed.initrd)), placed.kernel_source)


async def kernel_arguments(order: Order, placed: Placed, accel: str) -> str:
    """Emulated, it is told of its time stamp counter, which is its host's: on a busy machine it would measure the rate
    wrongly. Where the hosts' rates differ, or cannot be told, another clock is right everywhere, though slower to read.
    """
    if accel != "tcg":
        return placed.append
    rates = await order.counter_rates()
    if min(rates) and max(rates) - min(rates) <= SAME_RATE * min(rates):
        return f"{placed.append} {X86_64.clock_rate}={rates[0]}"
    return f"{placed.append} {X86_64.clock_unstable}"


def current() -> set[str]:
    """Those of both images, with the agent that there is."""
    agent = executable.kept_file()
    return built_images.current(agent if agent.exists() else None)
