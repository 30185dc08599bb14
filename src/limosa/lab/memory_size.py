"""What size of memory a guest's QEMU gets: the lab file's, or under emulation a little more where that is safer."""

from __future__ import annotations

from collections.abc import Mapping

from limosa import paths
from limosa.errors import LimosaError
from limosa.events import Events
from limosa.guest import bare
from limosa.lab.lab_hosts import LabHosts
from limosa.qemu import dirty_log, ram, trial
from limosa.qemu.features import Features
from limosa.spec import resolved


async def decide(lab_hosts: LabHosts, guest: resolved.Guest, accel: str, known: Mapping[str, Features]) -> int:
    """The bytes of memory for *guest* under *accel*, where the hosts that are on have the QEMUs *known*.

    It is exactly what the lab file says where every QEMU that the guest may get to is known to be sound. One of which
    nothing is remembered is tried, as far as that can be done here.
    """
    size = guest.memory_bytes
    if not ram.needs_sound_qemu(size, accel):
        return size
    all_known = len(known) == len(lab_hosts.lab.hosts)  # one that is off now may have another QEMU
    return ram.ram_bytes(size, accel, sound=all_known and await _all_sound(lab_hosts, known))


async def _all_sound(lab_hosts: LabHosts, known: Mapping[str, Features]) -> bool:
    """Whether all of them are sound; one that is not makes further trials needless."""
    for name, offers in known.items():
        verdict = dirty_log.recall(offers) or await _tried(lab_hosts, name, offers)
        if verdict is None or not verdict.sound:
            return False
    return True


async def _tried(lab_hosts: LabHosts, name: str, offers: Features) -> dirty_log.Verdict | None:
    """The verdict of a trial on the host *name*, which is remembered; None where none can be held, as without gcc."""
    host = lab_hosts.named(name)
    try:
        built = await bare.build(paths.cache() / "images", Events())
        with lab_hosts.events.stage(f"try how QEMU on {name} moves memory"):
            verdict = await trial.hold(host.port, host.spec.qemu, host.spec.qemu_firmware, offers, built.kernel)
    except LimosaError:
        return None
    dirty_log.remember(offers, verdict)
    return verdict
