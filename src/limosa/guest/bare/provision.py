"""How a bare guest is had: its kernel alone, which is told to write over and over half of the guest's memory."""

from __future__ import annotations

from limosa import paths
from limosa.accel import Subject
from limosa.architecture import X86_64
from limosa.events import Events
from limosa.guest.bare.arguments import kernel_arguments as arguments
from limosa.guest.bare.image import build, directory_name
from limosa.guest.provision import Order, Placed, Stock, Trial
from limosa.spec import resolved
from limosa.spec.image_kinds import BARE


def stock(guest: resolved.Guest) -> Stock:
    """The kernel of the present sources, in its folder of the cache."""
    there = (paths.cache() / "images" / directory_name()).exists()  # which is made in one step, so it is whole
    return Stock(there, "built when it is first needed")


async def have(guest: resolved.Guest, events: Events) -> None:
    """Nothing: it is built in a second, when a guest is started from it."""


async def place(order: Order) -> Placed:
    """Put the kernel on the storage."""
    built = await build(paths.cache() / "images", order.events)
    kernel = f"{order.guest.name}.kernel"
    await order.shelf.link(built.kernel, kernel)
    return Placed(
        provenance={
            "name": BARE.name,
            "digest": built.digest,
            "sha256": built.kernel_sha256,
            "compiler": built.compiler,
        },
        kernel=kernel,
        kernel_source=built.kernel,
        append=arguments("write", memory_mib=order.guest.memory_bytes // (2 << 20)),
        renewed=(kernel,),
    )


def subject(kernel: str) -> Subject:
    """The kernel counting primes, which runs under some KVMs that no Linux can use."""
    return Subject(
        name="the bare guest",
        reach="report",
        reached="reported",
        marker=b"bare: events=",
        kernel=kernel,
        append="mode=primes report=1",
        bios=X86_64.small_firmware,
    )


async def trial(order: Order, placed: Placed) -> Trial:
    """The guest's own kernel, put to other work."""
    assert placed.kernel_source is not None
    return Trial(subject(order.seen(placed.kernel)), placed.kernel_source)


async def kernel_arguments(order: Order, placed: Placed, accel: str) -> str:
    """The same under every accelerator."""
    return placed.append


def current() -> set[str]:
    """The one directory of the present sources."""
    return {directory_name()}
