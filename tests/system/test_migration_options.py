"""Every option of the table in a real move, on each QEMU that can be had: what QEMU says itself that it was told."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from limosa import spec
from limosa.errors import MachineError
from limosa.lab import Lab
from limosa.migration.choice import qmp_name
from limosa.migration.settings import Settings
from limosa.qemu.features import Features
from limosa.spec.migration_options import OPTIONS, Value
from tests.qemu_versions import QEMUS, QemuBinary, machine_qemu

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]

MIB = 1 << 20
GROUPS: dict[str, dict[str, Value]] = {
    "bandwidth and announcement": {
        "downtime-limit": 7777,
        "max-bandwidth": 300 * MIB,
        "avail-switchover-bandwidth": 400 * MIB,
        "max-postcopy-bandwidth": 64 * MIB,
        "announce-initial": 60,
        "announce-max": 500,
        "announce-rounds": 4,
        "announce-step": 90,
    },
    "zlib": {
        "multifd-channels": 3,
        "multifd-compression": "zlib",
        "multifd-zlib-level": 2,
        "zero-page-detection": "none",
    },
    "zstd": {"multifd-compression": "zstd", "multifd-zstd-level": 3, "zero-page-detection": "legacy"},
    "no compression": {"multifd": True, "multifd-compression": "none"},
    "less to send": {
        "xbzrle": True,
        "xbzrle-cache-size": MIB,
        "auto-converge": True,
        "cpu-throttle-initial": 31,
        "cpu-throttle-increment": 11,
        "cpu-throttle-tailslow": True,
        "max-cpu-throttle": 71,
        "throttle-trigger-threshold": 61,
    },
    "answers": {"return-path": True, "switchover-ack": True},
}
"""Options that go together, one move each."""
OF_ROOT: dict[str, dict[str, Value]] = {
    "no copies": {"zero-copy-send": True},
    "may become post-copy": {"postcopy-ram": True, "postcopy-preempt": True, "postcopy-blocktime": True},
}
"""These take the right to lock memory, and to have page faults answered."""
REFUSED = {"dirty-limit", "vcpu-dirty-limit", "vcpu-dirty-limit-period"}
"""No guest is started with what they take."""
AMPLE: dict[str, Value] = {"downtime-limit": 9000}
"""The guest never ceases to write; what is looked at is what QEMU was told."""
OURS = frozenset({"events"})
"""Capabilities that limosa turns on by itself."""


def test_no_option_is_left_out() -> None:
    tried = set[str]().union(*GROUPS.values(), *OF_ROOT.values())
    assert tried | REFUSED == set(OPTIONS) and not tried & REFUSED


@pytest.fixture(params=QEMUS)
def qemu(request: pytest.FixtureRequest) -> QemuBinary:
    found, why = QEMUS[request.param]()
    if found is None:
        pytest.skip(why)
    return found


def text(name: str, qemu: QemuBinary) -> str:
    host = f"{{qemu: {qemu.path}, qemu_firmware: [{', '.join(qemu.firmware)}]}}"
    guest = "{host: host1, image: bare, memory: 32 MiB, accel: tcg}"
    return f"name: {name}\nhosts: {{host1: {host}, host2: {host}}}\nguests: {{guest1: {guest}}}\n"


def known(name: str, offers: Features) -> bool:
    """Whether that QEMU has the option."""
    return bool(qmp_name(OPTIONS[name], offers))


async def test_each_option_reaches_qemu_and_stays_no_longer_than_its_move(qemu: QemuBinary) -> None:
    groups = {**GROUPS, **(OF_ROOT if os.geteuid() == 0 else {})}
    async with Lab.open(spec.loads(text(f"options-{qemu.label}", qemu)), ephemeral=True) as lab:
        await lab.up()
        offers, source, target = await lab.hosts.features("host1"), "host1", "host2"
        for group, asked in groups.items():
            options = {name: value for name, value in (AMPLE | asked).items() if known(name, offers)}
            if "postcopy-ram" in options and offers.has("status postcopy-device"):
                with pytest.raises(MachineError, match="post-copy may damage guest1"):
                    await lab.migrate("guest1", target, Settings(options=dict(options)))
                continue
            outcome = await lab.migrate("guest1", target, Settings(options=dict(options), timeout_s=120))
            assert outcome.capabilities is not None and outcome.parameters is not None
            effective = outcome.plan.options
            assert options.items() <= effective.items(), group
            told = _told("source", effective, offers)
            assert {name: outcome.parameters[name] for name in told} == told, f"{group}: {source}"
            assert set(outcome.capabilities) - OURS == _on("source", effective), f"{group}: {source}"

            copy = await lab.guests.qemu("guest1")
            capabilities, parameters = await copy.qemu.control.capabilities(), await copy.qemu.control.parameters()
            await copy.qemu.close()
            told = _told("target", effective, offers)
            assert {name: parameters[name] for name in told} == told, f"{group}: {target}"
            assert set(capabilities) - OURS == _on("target", effective), f"{group}: {target}"
            source, target = target, source


def _told(side: str, effective: dict[str, Any], offers: Features) -> dict[str, Value]:
    """All parameters of a QEMU: what is asked for where that side acts by it, and else what nobody asks for."""
    return {
        option.qmp_names[0]: effective.get(name, option.unasked) if option.side in ("both", side) else option.unasked
        for name, option in OPTIONS.items()
        if not option.capability and known(name, offers)
    }


def _on(side: str, effective: dict[str, Any]) -> set[str]:
    on = {name for name, value in effective.items() if OPTIONS[name].capability and value}
    return {name for name in on if OPTIONS[name].side in ("both", side)}


async def test_what_a_qemu_lacks_is_refused_and_the_guest_stays() -> None:
    found, why = machine_qemu()
    if found is None:
        pytest.skip(why)
    async with Lab.open(spec.loads(text("options-lacking", found)), ephemeral=True) as lab:
        await lab.up()
        offers = await lab.hosts.features("host1")
        lacking = [name for name in OPTIONS if not known(name, offers)]
        for name in ("postcopy-ram", *lacking):
            options: dict[str, Value | None] = {"multifd": True, "postcopy-ram": True, "return-path": True}
            if name != "postcopy-ram":
                options = {name: OPTIONS[name].kind.example, **OPTIONS[name].needs}
            elif offers.has("status postcopy-device"):
                continue
            with pytest.raises(MachineError, match=name):
                await lab.migrate("guest1", "host2", Settings(options=options))
        assert await lab.guests.where("guest1") == "host1"
