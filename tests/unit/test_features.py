"""Reading QEMU's answers, caching them, and choosing what all hosts share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from limosa.architecture import X86_64
from limosa.errors import MachineError
from limosa.hosts.host import HostFacts
from limosa.process import Completed
from limosa.qemu.features import (
    NEEDED,
    QUESTIONS,
    TYPES,
    CpuModel,
    Features,
    Machine,
    common_cpu,
    common_machine,
    host_identity,
    local_identity,
    probe,
)
from tests.launches import FEATURES
from tests.local_host import LocalHost

ANSWERS = {
    "query-version": {"qemu": {"major": 9, "minor": 1, "micro": 2}, "package": ""},
    "query-machines": [
        {"name": "pc-q35-9.1", "cpu-max": 4096, "default-ram-id": "pc.ram", "deprecated": False},
        {"name": "none", "cpu-max": 1},
    ],
    "query-cpu-definitions": [
        {"name": "Nehalem-v1", "migration-safe": True, "unavailable-features": [], "deprecated": False},
        {"name": "host", "migration-safe": False, "unavailable-features": ["kvm"]},
    ],
    "query-migrate-capabilities": [
        {"capability": c, "state": False} for c in NEEDED["migration_capabilities", "migration capability"]
    ],
    "query-kvm": {"enabled": False, "present": True},
    "query-command-line-options": [{"option": "sandbox", "parameters": []}],
    "query-qmp-schema": [
        *(
            {"name": n, "meta-type": "command", "arg-type": "0"}
            for n in NEEDED["commands", "command"]
            if "set-par" not in n
        ),
        *({"name": n, "meta-type": "event", "arg-type": "0"} for n in NEEDED["events", "event"]),
        {"name": "device_add", "meta-type": "command", "arg-type": "1", "features": ["json-cli"]},
        {"name": "migrate-set-parameters", "meta-type": "command", "arg-type": "27"},
        {"name": "27", "meta-type": "object", "members": [{"name": "max-bandwidth", "type": "int"}]},
    ],
    **{f"type {name}": [] for name in TYPES},
}


class AnsweringHost(LocalHost):
    """Answers a probe with what the test gives, in place of a QEMU too old or too new to be had."""

    def __init__(self, answers: Mapping[str, object], returncode: int = 0, stderr: bytes = b"") -> None:
        super().__init__("host2")
        self.answers, self.returncode, self.stderr = answers, returncode, stderr

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout_s: float | None = None,
    ) -> Completed:
        self.ran.append(tuple(argv))
        asked = [msgspec.json.decode(line)["id"] for line in stdin.splitlines()]
        said = [{"return": self.answers[i], "id": i} for i in asked if i in self.answers]
        refused = [{"error": {"class": "CommandNotFound"}, "id": i} for i in asked if i not in self.answers]
        lines = [b"{QMP", *map(msgspec.json.encode, [{"QMP": {}}, *said, *refused, {"event": "SHUTDOWN"}])]
        return Completed(tuple(argv), self.returncode, b"\n".join(lines), self.stderr, 0.1)


async def asked(host: LocalHost, tmp_path: Path) -> Features:
    return await probe(host, "qemu", identity="/usr/bin/qemu 1 2.000 3", cache=tmp_path)


async def test_answers_become_features(tmp_path: Path) -> None:
    found = await asked(AnsweringHost(ANSWERS), tmp_path)
    assert found.version == "9.1.2"
    assert found.machine("pc-q35-9.1") == Machine("pc-q35-9.1", False, 4096, "pc.ram")
    assert found.cpu_models[1] == CpuModel("host", False, False, ("kvm",))
    assert found.migration_parameters == {"max-bandwidth"}
    assert "blockdev-add" in found.commands and "STOP" in found.events
    assert found.types == set(TYPES)


async def test_second_look_up_runs_no_process_and_is_equal(tmp_path: Path) -> None:
    first = await asked(AnsweringHost(ANSWERS), tmp_path)
    host = AnsweringHost({})
    assert await asked(host, tmp_path) == first
    assert host.ran == []


async def test_changed_binary_or_firmware_or_accelerator_is_asked_again(tmp_path: Path) -> None:
    await asked(AnsweringHost(ANSWERS), tmp_path)
    host = AnsweringHost(ANSWERS)
    await probe(host, "qemu", identity="/usr/bin/qemu 1 2.001 3", cache=tmp_path)
    await probe(host, "qemu", ("/firmware",), identity="/usr/bin/qemu 1 2.000 3", cache=tmp_path)
    assert len(host.ran) == 2
    assert host.ran[1][-4:-2] == ("-L", "/firmware")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"identity": 3}'])
async def test_damaged_cache_is_asked_again(tmp_path: Path, damage: bytes) -> None:
    first = await asked(AnsweringHost(ANSWERS), tmp_path)
    next(tmp_path.iterdir()).write_bytes(damage)
    assert await asked(AnsweringHost(ANSWERS), tmp_path) == first


async def test_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = await probe(AnsweringHost(ANSWERS), "qemu", identity="x", cache=tmp_path / "file" / "folder")
    assert found.version == "9.1.2"


@pytest.mark.parametrize("question", QUESTIONS)
async def test_qemu_that_does_not_answer_a_question_is_too_old(tmp_path: Path, question: str) -> None:
    host = AnsweringHost({k: v for k, v in ANSWERS.items() if k != question})
    with pytest.raises(MachineError, match=f"on host2 .*too old.*{question}") as caught:
        await asked(host, tmp_path)
    assert "apt install qemu-system-x86" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("question", "answer", "named"),
    [
        ("query-command-line-options", [], "option sandbox"),
        ("query-migrate-capabilities", [], "migration capability events"),
        ("query-machines", [{"name": "pc-i440fx-2.0", "cpu-max": 1}], "machine type pc-q35"),
    ],
)
async def test_what_is_missing_is_named(tmp_path: Path, question: str, answer: object, named: str) -> None:
    with pytest.raises(MachineError, match=named):
        await asked(AnsweringHost({**ANSWERS, question: answer}), tmp_path)


async def test_missing_device_and_json_are_named(tmp_path: Path) -> None:
    schema = [dict(e, features=[]) for e in ANSWERS["query-qmp-schema"]]  # type: ignore[call-overload]
    answers = {k: v for k, v in ANSWERS.items() if k != "type rng-builtin"} | {"query-qmp-schema": schema}
    with pytest.raises(MachineError, match="device or object rng-builtin, JSON in -device"):
        await asked(AnsweringHost(answers), tmp_path)


async def test_qemu_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"on host2 .*does not start: no such option"):
        await asked(AnsweringHost({}, 1, b"first line\nno such option\n"), tmp_path)


async def test_host_cpu_that_aborts_qemu_is_not_offered(tmp_path: Path) -> None:
    class Aborting(AnsweringHost):
        async def run(self, argv: Sequence[str], **how: object) -> Completed:
            if X86_64.host_cpu in argv:
                return Completed(tuple(argv), -6, b"", b"Assertion failed", 0.1)
            return await super().run(argv, **how)  # type: ignore[arg-type]

    kvm = {**ANSWERS, "query-cpu-definitions": [{"name": "host", "unavailable-features": []}]}
    found = await probe(Aborting(kvm), "qemu", identity="x", accel="kvm", cache=tmp_path)
    assert found.cpu_models == (CpuModel("host", False, False, ("start",)),)


async def test_missing_qemu(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"QEMU \(no-such-qemu\) is not installed on here") as caught:
        await probe(LocalHost(), "no-such-qemu", cache=tmp_path)
    assert "apt install qemu-system-x86" in caught.value.hint
    with pytest.raises(MachineError, match="not installed on this machine"):
        local_identity("no-such-qemu")


async def test_both_identities_agree_and_change_with_the_file(tmp_path: Path) -> None:
    program = tmp_path / "qemu"
    program.write_text("#!/bin/true\n")
    program.chmod(0o755)
    seen = local_identity(str(program))
    assert await host_identity(LocalHost(), str(program)) == seen
    os.utime(program, ns=(0, 1_234_567_000_000))
    assert "1234.567" in local_identity(str(program))
    assert local_identity(str(program)) == await host_identity(LocalHost(), str(program)) != seen


def machines(*names: str, deprecated: Sequence[str] = ()) -> Features:
    return replace(FEATURES, machines=tuple(Machine(n, n in deprecated, 8, "pc.ram") for n in names))


def test_common_machine_is_the_newest_by_number() -> None:
    one = machines("pc-q35-7.2", "pc-q35-10.0", "pc-q35-9.2", "pc-i440fx-10.0", "q35", "microvm")
    assert common_machine({"a": one}) == "pc-q35-10.0"
    assert common_machine({"a": one, "b": machines("pc-q35-9.2", "pc-q35-2.4")}) == "pc-q35-9.2"
    assert common_machine({"a": machines("pc-q35-4.0", "pc-q35-4.0.1")}) == "pc-q35-4.0.1"


def test_common_machine_is_not_deprecated_unless_wanted() -> None:
    old = machines("pc-q35-2.4", "pc-q35-3.0", deprecated=["pc-q35-3.0"])
    assert common_machine({"a": old}) == "pc-q35-2.4"
    assert common_machine({"a": old}, "pc-q35-3.0") == "pc-q35-3.0"


def test_a_machine_that_a_new_qemu_calls_deprecated_is_better_than_none() -> None:
    """A QEMU of some years ago shares no other with a new one."""
    old = machines("pc-q35-7.1", "pc-q35-7.2")
    new = machines("pc-q35-7.1", "pc-q35-7.2", "pc-q35-11.0", deprecated=["pc-q35-7.1", "pc-q35-7.2"])
    assert common_machine({"a": old, "b": new}) == "pc-q35-7.2"
    assert common_machine({"a": new}) == "pc-q35-11.0"


def test_wanted_machine_that_a_host_does_not_know() -> None:
    hosts = {"host1": machines("pc-q35-10.0"), "host2": machines("pc-q35-7.2")}
    with pytest.raises(MachineError, match=r"on host2 does not know the machine type pc-q35-10\.0"):
        common_machine(hosts, "pc-q35-10.0")
    with pytest.raises(MachineError, match="host1, host2 share no machine type"):
        common_machine(hosts)


def cpus(identity: str = "x", **missing: Sequence[str]) -> Features:
    models = tuple(CpuModel(n.replace("_", "-"), n not in ("max", "host"), False, tuple(m)) for n, m in missing.items())
    return replace(FEATURES, identity=identity, cpu_models=models)


def test_tcg_takes_a_named_model_that_all_give_in_full() -> None:
    full, poor = cpus(max=[], Nehalem_v1=[], qemu64=[]), cpus(Nehalem_v1=["sse4.2"], qemu64=[])
    assert common_cpu({"a": full}, "tcg") == "Nehalem-v1"
    assert common_cpu({"a": full, "b": poor}, "tcg") == "qemu64"
    with pytest.raises(MachineError, match="a share no CPU model"):
        common_cpu({"a": cpus(max=[])}, "tcg")


def test_kvm_takes_the_host_cpu_only_on_one_machine_with_one_binary() -> None:
    one, other = cpus("x", host=[], EPYC=[], qemu64=[]), cpus("y", host=[], EPYC=[], qemu64=[])
    assert common_cpu({"a": one, "b": one}, "kvm") == X86_64.host_cpu
    assert common_cpu({"a": one, "b": other}, "kvm") == "EPYC"
    assert common_cpu({"a": one, "b": one}, "kvm", same_machine=False) == "EPYC"
    broken = cpus("x", host=["start"], EPYC=[])
    assert common_cpu({"a": broken}, "kvm") == "EPYC"


def test_kvm_takes_no_host_cpu_of_machines_that_were_made_from_one_image() -> None:
    one = replace(cpus("x", host=[], EPYC=[], qemu64=[]), asked_on="a")
    assert common_cpu({"a": one, "b": one}, "kvm") == X86_64.host_cpu
    assert common_cpu({"a": one, "b": replace(one, asked_on="b")}, "kvm") == "EPYC"


def test_kvm_that_cuts_every_model_alike() -> None:
    cut, otherwise = cpus("x", host=["start"], qemu64=["pni"]), cpus("y", host=["start"], qemu64=["pni", "nx"])
    assert common_cpu({"a": cut, "b": replace(cut, identity="z")}, "kvm") == "qemu64"
    with pytest.raises(MachineError, match="share no CPU model"):
        common_cpu({"a": cut, "b": otherwise}, "kvm")
    with pytest.raises(MachineError, match="share no CPU model"):
        common_cpu({"a": cut}, "kvm", same_machine=False)


def test_wanted_cpu_is_kept_with_its_flags_and_has_to_be_known() -> None:
    assert common_cpu({"a": cpus(EPYC=["avx"])}, "tcg", "EPYC,-avx") == "EPYC,-avx"
    with pytest.raises(MachineError, match="on b does not know the CPU model EPYC"):
        common_cpu({"a": cpus(EPYC=[]), "b": cpus(qemu64=[])}, "tcg", "EPYC")


async def test_many_probes_at_once_leave_one_sound_file(tmp_path: Path) -> None:
    found = await asyncio.gather(*(asked(AnsweringHost(ANSWERS), tmp_path) for _ in range(5)))
    assert len({f.version for f in found}) == 1 and len(list(tmp_path.iterdir())) == 1


class Clone(AnsweringHost):
    """A machine whose QEMU is equal to another's in path, size, time of change and inode."""

    def __init__(self, machine: str, cpu: str) -> None:
        models = [{"name": cpu, "unavailable-features": [], "migration-safe": True}]
        super().__init__(ANSWERS | {"query-cpu-definitions": models})
        self.machine = machine

    async def run(self, argv: Sequence[str], **given: Any) -> Completed:
        if argv[0] == "stat":
            return Completed(tuple(argv), 0, b"/usr/bin/qemu 1 2.000 3\n", b"", 0.0)
        return await super().run(argv, **given)

    async def facts(self) -> HostFacts:
        return replace(await super().facts(), machine=self.machine)


async def test_an_answer_belongs_to_one_machine(tmp_path: Path) -> None:
    hosts = {name: Clone(name, cpu) for name, cpu in (("a", "EPYC"), ("b", "Haswell"))}
    found = {name: await probe(host, "qemu", accel="tcg", cache=tmp_path) for name, host in hosts.items()}
    assert [f.cpu_models[0].name for f in found.values()] == ["EPYC", "Haswell"]
    again = await probe(hosts["a"], "qemu", accel="tcg", cache=tmp_path)
    assert again == found["a"] and len(list(tmp_path.iterdir())) == 2


async def test_an_old_answer_is_not_kept_for_ever(tmp_path: Path) -> None:
    old, young = tmp_path / "old.json", tmp_path / "young.json"
    for file in (old, young):
        file.write_text("{}")
    os.utime(old, (1, 1))
    await asked(AnsweringHost(ANSWERS), tmp_path)
    assert young.exists() and not old.exists()
