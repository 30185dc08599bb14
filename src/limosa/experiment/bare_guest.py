"""Guests without an operating system on the one host of a lab, beside the guests that its file describes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from limosa import accel as acceleration
from limosa.bench.bed import HOST
from limosa.guest.bare.provision import subject
from limosa.lab import Lab
from limosa.qemu import argv, features, launches
from limosa.qemu.guest_process import start as start_qemu
from limosa.qemu.launches import runtime_directory
from limosa.spec.image_kinds import BARE
from limosa.spec.resolved import Guest


class BareGuests:
    """What the port ``limosa.bench.bed.BareGuests`` asks for."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    async def prove_kvm(self, kernel: Path) -> str:
        """Why KVM may be taken for *kernel* here. Raises MachineError when it may not."""
        host, spec = self._lab.host(HOST), self._lab.spec.hosts[HOST]

        async def prove() -> acceleration.Proof:
            with self._lab.events.stage("prove KVM"):
                return await acceleration.prove_kvm(
                    host,
                    qemu=spec.qemu,
                    subject=subject(str(kernel)),
                    cpu=BARE.cpu,
                    runtime_directory=host.runtime_directory,
                    firmware=spec.qemu_firmware,
                )

        key = await acceleration.proof_key(host, kernel, features.local_identity(spec.qemu), cpu=BARE.cpu)
        return (await acceleration.choose(host, "kvm", prove, key=key)).reason

    @asynccontextmanager
    async def serial(self, name: str, accel: str, kernel: Path, append: str) -> AsyncIterator[asyncio.StreamReader]:
        """Start a guest that ends with the context; what it writes to its serial line."""
        host, spec = self._lab.host(HOST), self._lab.spec.hosts[HOST]
        known = await self._lab.hosts.features(HOST)
        launch_id = launches.new_id()
        launch = argv.Launch(
            id=launch_id,
            lab=self._lab.name,
            guest=Guest(name=name, host=HOST, image=BARE.name, memory_bytes=32 << 20),
            qemu=spec.qemu,
            features=known,
            accel="kvm" if accel == "kvm" else "tcg",
            machine=features.common_machine({HOST: known}, ""),
            cpu=BARE.cpu,
            runtime_directory=runtime_directory(host, name),
            serial_log=f"{host.runtime_directory}/log/{name}.console.log",
            firmware=spec.qemu_firmware,
            kernel=str(kernel),
            append=append,
        )
        log = f"{host.runtime_directory}/log/{name}.qemu.log"
        qemu = await start_qemu(host, name, launch_id, argv.command_line(launch), log, self._lab.events)
        try:
            sock = await host.connect(f"{runtime_directory(host, name)}/serial.sock")
            reader, writer = await asyncio.open_unix_connection(sock=sock)
            try:
                yield reader
            finally:
                writer.close()
        finally:
            await qemu.end()
