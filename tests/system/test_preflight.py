"""``limosa migrate --plan`` on labs that were made wrong on purpose: what it says, that the move itself is refused with
the same words and exit code, and that asking changes nothing.

The guest need not have booted for any of this: nobody waits for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from move_bench import NEEDED, TAKES_USERFAULTFD, Bench, Ran, bench

from limosa import spec, userfaultfd
from limosa.errors import LimosaError, MachineError
from limosa.lab import Lab
from limosa.lab.prospect import Prospect
from limosa.migration.journal import unfinished
from limosa.migration.preflight.memory_backend import IN_MEMORY
from limosa.migration.settings import Settings
from limosa.network import echo
from tests import micro_image, namespaces
from tests.qemu_versions import newer_machine, second_qemu

pytestmark = NEEDED
NAME = "web"


def text(name: str, hosts: str = "{host1: {}, host2: {}}", more: str = "") -> str:
    lan = "networks: {lan: {subnet: 10.77.1.0/24}, migration: {subnet: 10.77.2.0/24, purpose: migration}}"
    guest = f"{{host: host1, image: micro, memory: 192 MiB, accel: tcg{more}}}"
    return f"name: {name}\n{lan}\nhosts: {hosts}\nguests:\n  {NAME}: {guest}\n"


@contextmanager
def started(folder: Path, content: str, name: str, *, alone: bool = False) -> Iterator[Bench]:
    """A lab whose guest runs on host1. *alone*: started while host2 is off, as it would not be otherwise."""
    micro_image.at_hand()
    with bench(folder, content, name, guests=False) as lab:
        if alone:
            lab.run("host", "power-off", "host2")
        lab.run("start", NAME, "--no-wait")
        if alone:
            lab.run("host", "restore", "host2")
        yield lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("p")
    with started(folder, text("looked", "{host1: {}, host2: {}, host3: {memory: 100 MiB}}"), "looked") as made:
        yield made


def plan(lab: Bench, *words: str, target: str = "host2", expect: int = 0) -> Any:
    """What ``--plan --json`` says."""
    ran = lab.run("migrate", NAME, target, "--plan", "--json", *words, expect=expect)
    assert ran.result["exit_code"] == expect and ran.result["could_go"] is (expect == 0)
    return ran.result


def severe(said: Any, severity: str = "error") -> list[tuple[str, str]]:
    return [(each["check"], each["sentence"]) for each in said["findings"] if each["severity"] == severity]


def refused(lab: Bench, expect: int, *words: str, target: str = "host2") -> Ran:
    """The plan names an error, and the move is refused with the very same one: the guest stays, nothing is left."""
    said = plan(lab, *words, target=target, expect=expect)
    first = next(each for each in said["findings"] if each["severity"] == "error")
    ran = lab.run("migrate", NAME, target, "--json", *words, expect=expect)
    assert (ran.result["error"], ran.result["hint"]) == (first["sentence"], first["fix"])
    assert unfinished(lab.directory.journal(NAME), NAME) is None
    assert qemus(lab) == ["host1"]
    return ran


def files(lab: Bench) -> dict[str, str]:
    """Every file of the lab's state by what is in it, but for what a running guest itself writes and for whose turn it
    is: a lock file names the command that last held it."""
    found = {}
    for path in sorted(lab.directory.path.rglob("*")):
        kept = path.suffix == ".log" or path.name == "lock" or "storage" in path.parts
        if path.is_file() and not kept:
            found[str(path)] = f"{path.stat().st_mtime_ns} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        else:
            found[str(path)] = "there"
    return found


def qemus(lab: Bench) -> list[str]:
    """The hosts that have a QEMU, for each that they have."""
    return [key.split()[0] for key, name in inside(lab).items() if name.startswith("qemu")]


def inside(lab: Bench) -> dict[str, str]:
    """Every process of the hosts, by host and pid."""
    found = {}
    record = lab.directory.record()
    assert record is not None
    for name in namespaces.processes(record).hosts:
        space = os.readlink(f"/proc/{lab.host(name).keeper.pid}/ns/pid")  # noqa: PTH115
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(folder / "ns/pid") == space:  # noqa: PTH115
                    found[f"{name} {folder.name}"] = (folder / "comm").read_text()
    return found


def test_a_plan_says_what_would_be_done_and_changes_nothing(lab: Bench) -> None:
    before, running = files(lab), inside(lab)
    said = plan(lab)
    assert (said["source"], said["target"]) == ("host1", "host2") and said["plan"]["method"] == "pre-copy"
    assert set(said["qemu"]) == {"host1", "host2"} and said["plan"]["address"] == "10.77.2.12"
    assert said["packets"]["passes_bytes"] == 1500 and severe(said) == []
    assert severe(plan(lab, "--max-bandwidth", "100 MiB/s")) == []
    assert files(lab) == before
    assert inside(lab) == running


def test_a_plan_is_told_in_words(lab: Bench) -> None:
    ran = lab.run("migrate", NAME, "host2", "--plan", "--max-bandwidth", "20 MiB/s")
    assert "plan: web from host1 to host2 by pre-copy" in ran.out
    assert "source: QEMU" in ran.out and "max-bandwidth=20 MiB/s" in ran.out
    assert "downtime-limit" not in ran.out, "what QEMU does by itself is not told"
    assert ran.out.endswith("web can be moved from host1 to host2; nothing was changed\n")
    ran = lab.run("migrate", NAME, "host1", "--plan", expect=4)
    assert ran.out == (
        "error: guest web is on host1 already\n  fix: other hosts: host2, host3\nweb would not be moved to host1\n"
    )
    assert "no host called host9" in lab.run("migrate", NAME, "host9", "--plan", expect=2).err


def test_a_target_without_room_is_told(lab: Bench) -> None:
    said = plan(lab, target="host3", expect=3)
    assert ("memory", "host3 has no room for web: it needs 192 MiB, 100 MiB are left") in severe(said)
    refused(lab, 3, target="host3")


def test_a_target_that_is_off_or_cut_is_told(lab: Bench) -> None:
    lab.run("host", "cut", "host3")
    assert severe(plan(lab, target="host3", expect=4)) == [("place", "host host3 is cut off from the network")]
    lab.run("host", "restore", "host3")
    lab.run("host", "power-off", "host3")
    assert severe(plan(lab, target="host3", expect=4)) == [("place", "host host3 is off")]
    lab.run("host", "restore", "host3")


def on(lab: Bench, host: str, *words: str) -> None:
    """Run a command on a host of the lab, as somebody who administers it."""
    asyncio.run(lab.host(host).run(list(words)))


def fabric(lab: Bench, *words: str) -> None:
    """Run a command in the fabric."""
    from limosa.events import Events
    from limosa.hosts.namespaces.first_process import Keeper
    from limosa.hosts.namespaces.host import NamespaceHost

    record = lab.directory.record()
    assert record is not None
    known = namespaces.processes(record)
    client = NamespaceHost("client", Keeper(known.client_pid, "client", lab.directory.mark), known.rootless, Events())
    asyncio.run(client.run(list(words)))


def test_a_bridge_with_a_spanning_tree_is_warned_of_and_refuses_nothing(lab: Bench) -> None:
    on(lab, "host2", "ip", "link", "set", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "400")
    try:
        said = plan(lab)
        assert severe(said, "warning") == [
            (
                "spanning tree",
                "host2: bridge br0 uses STP: a guest that starts or arrives there is silent for 8 s",
            )
        ]
    finally:
        on(lab, "host2", "ip", "link", "set", "br0", "type", "bridge", "stp_state", "0")


def test_a_way_that_loses_large_packets_is_an_error(lab: Bench) -> None:
    fabric(lab, "ip", "link", "set", "host2.1", "mtu", "1400")
    try:
        ran = refused(lab, 3)
        passes = int(ran.result["error"].partition("those of ")[2].partition(" ")[0])
        assert 1400 - echo.STEP_BYTES <= passes <= 1400
        assert "packets of 1500 bytes are lost between host1 and host2" in ran.result["error"]
    finally:
        fabric(lab, "ip", "link", "set", "host2.1", "mtu", "1500")


def disk(lab: Bench) -> str:
    record = lab.directory.guest_record(NAME)
    assert record is not None
    return record.disk


def test_another_file_in_the_place_of_the_disk_is_an_error(lab: Bench, tmp_path: Path) -> None:
    path, other = disk(lab), tmp_path / "other"
    other.write_bytes(b"another disk")
    on(lab, "host2", "mount", "--bind", str(other), path)
    try:
        said = refused(lab, 3).result["error"]
        assert said == f"the disk of web, {path}, is another file on host2 than on host1"
    finally:
        on(lab, "host2", "umount", path)


def test_a_disk_that_is_not_there_is_an_error(lab: Bench) -> None:
    path = disk(lab)
    folder = str(Path(path).parent)
    on(lab, "host2", "mount", "-t", "tmpfs", "none", folder)
    try:
        said = plan(lab, expect=3)
        assert ("files", f"the disk of web, {path}, is not there on host2") in severe(said)
        ran = lab.run("migrate", NAME, "host2", "--json", expect=3)
        assert "is not there on host2" in ran.result["error"]
    finally:
        on(lab, "host2", "umount", folder)


def test_after_all_that_the_guest_moves(lab: Bench) -> None:
    """The warnings of the move itself are told where people read them."""
    assert severe(plan(lab)) == []
    on(lab, "host2", "ip", "link", "set", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "200")
    ran = lab.run("migrate", NAME, "host2", "--json")
    assert ran.err.count("warning: ") == 1 and "bridge br0 uses STP" in ran.err
    assert qemus(lab) == ["host2"]


WRAPPER = """#!/bin/sh
case " $* " in
  *" -M none "*) exec QEMU "$@" ;;
  *) exec QEMU "$@" MORE ;;
esac
"""
"""A QEMU that gives its guests something more than limosa asks for."""


def wrapped(folder: Path, more: str) -> str:
    path = folder / "qemu-with-more"
    path.write_text(WRAPPER.replace("QEMU", shutil.which("qemu-system-x86_64") or "").replace("MORE", more))
    path.chmod(0o755)
    return str(path)


def test_a_device_that_cannot_be_moved_is_told_by_its_own_qemu(tmp_path: Path) -> None:
    (tmp_path / "nvme").write_bytes(bytes(1 << 20))
    drive = f"-drive if=none,id=n0,format=raw,file={tmp_path}/nvme,file.locking=off -device nvme,serial=one,drive=n0"
    qemu = wrapped(tmp_path, drive)
    with started(tmp_path, text("stuck", f"{{host1: {{qemu: {qemu}}}, host2: {{qemu: {qemu}}}}}"), "stuck") as lab:
        said = refused(lab, 4).result["error"]
        assert said.startswith("web cannot leave host1: non-migratable device: ") and "nvme" in said


@TAKES_USERFAULTFD
def test_memory_in_a_file_on_a_disk_is_not_moved_by_post_copy(tmp_path: Path) -> None:
    stat = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True)
    if (file_system := stat.stdout.strip()) in IN_MEMORY:
        pytest.skip("temporary files are in memory here, which post-copy can fill")
    ram = f"-object memory-backend-file,id=kept,size=1M,mem-path={tmp_path}/ram,share=on"
    qemu = wrapped(tmp_path, ram)
    with started(tmp_path, text("kept", f"{{host1: {{qemu: {qemu}}}, host2: {{qemu: {qemu}}}}}"), "kept") as lab:
        assert severe(plan(lab)) == [], "pre-copy takes it"
        said = refused(lab, 4, "--method", "post-copy").result["error"]
        assert f"its memory kept is the file {tmp_path}/ram on {file_system}" in said


def test_post_copy_takes_a_kernel_that_permits_userfaultfd(tmp_path: Path) -> None:
    """Root of a user namespace is an ordinary user to the kernel, which permits it to none of them, as a rule."""
    namespaces.required(rootless=True)
    if Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() == "1":
        pytest.skip("this kernel permits userfaultfd to everybody")
    lab = spec.loads(text("unprivileged"))

    async def look() -> tuple[Prospect, LimosaError | None]:
        async with Lab.open(lab, ephemeral=True, rootless=True) as opened:
            await opened.up(start=False)
            await opened.start(NAME, wait=False)
            settings = Settings(method="post-copy")
            said = await opened.guests.plan(NAME, "host2", settings)
            return said, (await opened.attempt(NAME, "host2", settings)).failure

    said, failure = asyncio.run(look())
    if os.geteuid() == 0 and failure is None:  # QEMU 8.1 and newer open its device, which is root's in every namespace
        assert not said.refusal and not userfaultfd.by_device()
        return
    (error,) = [each for each in said.findings if each.severity == "error"]
    assert error.check == "userfaultfd" and error.exit_code == 3
    assert "the kernel of host2 does not let QEMU" in error.sentence and "unprivileged_userfaultfd=1" in error.fix
    assert isinstance(failure, MachineError) and failure.message == error.sentence


def test_doctor_says_briefly_what_each_move_would_meet(lab: Bench) -> None:
    """Of the guest where it runs, with each other host."""
    said = lab.run("doctor", "--lab", lab.name, "--json").result["moves"]
    assert [(move["guest"], move["source"], move["target"]) for move in said] == [
        (NAME, "host2", "host1"), (NAME, "host2", "host3"),
    ]  # fmt: skip
    assert [move["could_go"] for move in said] == [True, False]
    told = lab.run("doctor", "--lab", lab.name).out
    assert "moves of the guests that run" in told
    assert re.search(r"^REFUSED +web +host2 → host3 +host3 has no room for web", told, re.MULTILINE)


def test_another_qemu_that_knows_less_is_told(tmp_path: Path) -> None:
    """The machine type and the CPU model of a newer one."""
    second, why = second_qemu()
    if second is None:
        pytest.skip(why)
    newer = f"{{qemu: {second.path}, qemu_firmware: [{', '.join(second.firmware)}]}}"
    hosts, more = f"{{host1: {newer}, host2: {{}}}}", f", machine: {newer_machine()}, cpu: GraniteRapids-v1"
    with started(tmp_path, text("newer", hosts, more), "newer", alone=True) as lab:
        said = plan(lab, expect=3)
        assert [check for check, _ in severe(said)] == ["machine type", "CPU"]
        assert "does not know web's CPU model GraniteRapids-v1" in severe(said)[1][1]
        refused(lab, 3)
