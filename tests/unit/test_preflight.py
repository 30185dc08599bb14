"""Each check of the preflight by itself: of facts that are right it says nothing, of wrong ones what is wrong.

That the facts themselves are right is tested where they are gathered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from msgspec.structs import replace

from limosa.errors import LimosaError, MachineError, SpecError, StateError, UnreachableError
from limosa.migration import certificates
from limosa.migration.own_keys import Shown
from limosa.migration.plan import MigrationPlan, Side
from limosa.migration.preflight import check, check_table
from limosa.migration.preflight.check import When
from limosa.migration.preflight.facts import Backend, Clocks, Facts, File, Keys, Sight, Started
from limosa.migration.preflight.finding import Finding, first_error
from limosa.migration.settings import Settings
from limosa.migration.transfer import Outcome
from limosa.network.attachment import Interface
from limosa.network.obstacles import PathSize
from limosa.qemu.dirty_log import Verdict
from limosa.qemu.features import CpuModel
from limosa.qemu.monitor import MigrateInfo
from tests.documents import ROOT
from tests.launches import FEATURES

EVEN, ODD = 512 << 20, (512 << 20) + 8192
CPU = "Nehalem-v1"
SOUND = Verdict(sound=True, reason="it came through", tried_at_s=1e12)
UNSOUND = Verdict(sound=False, reason="it was damaged", tried_at_s=1e12)
UNCLEAR = Verdict(sound=False, reason="it hardly wrote", clear=False, tried_at_s=1e12)
DISK, BASE = "/srv/web.qcow2", "/srv/debian.qcow2"


def models(*missing: str, safe: bool = True) -> tuple[CpuModel, ...]:
    """The models of a QEMU that cannot give these features of ours, and never AVX-512."""
    return CpuModel(CPU, safe, False, missing), CpuModel("Skylake-Server", True, False, ("avx512f",))


QEMU = replace(FEATURES, cpu_models=models())
LESS = replace(FEATURES, cpu_models=models("sse4.2"))
HERE = File(readable=True, writable=True, device=1, inode=7, size_bytes=9, head="aa")
THERE = replace(HERE, locked=True)
STARTED = Started(
    machine="pc-q35-7.2",
    cpu=CPU,
    accel="tcg",
    ram_bytes=ODD,
    memory_bytes=EVEN,
    network="lan",
    shared_network=True,
    files=(("disk", DISK), ("base", BASE)),
)


def side(host: str, *capabilities: str) -> Side:
    return Side(host=host, capabilities=("events", *capabilities))


PLAN = MigrationPlan(
    guest="web", method="pre-copy", source=side("m1"), target=side("m2"), address="10.0.0.2", stall_s=1, hand_over_s=1,
    poll_s=1,
)  # fmt: skip
POST_COPY = replace(PLAN, method="post-copy", source=side("m1", "postcopy-ram"), target=side("m2", "postcopy-ram"))
RIGHT = Facts(
    guest="web",
    source="m1",
    target="m2",
    hosts=("m1", "m2", "m3"),
    settings=Settings(),
    status="running",
    started=STARTED,
    source_qemu=QEMU,
    target_qemu=QEMU,
    keys=Keys(encrypted=True),
    plan=PLAN,
    room_bytes=EVEN,
    source_sight=Sight(files={DISK: HERE, BASE: HERE}),
    target_sight=Sight(files={DISK: THERE, BASE: HERE}),
    bridge=Interface("br0", mtu=1500),
    packets=PathSize(hosts=("m1", "m2"), size_bytes=1500, passes_bytes=1500),
    clocks=Clocks(ahead_ns=2_000_000, uncertainty_ns=1_000_000),
    blockers=(),
    taken={},
)
"""Of a guest that may move."""


def started(**other: Any) -> dict[str, Any]:
    return {"started": replace(STARTED, **other)}


def there(path: str, **other: Any) -> dict[str, Any]:
    """The target sees *path* otherwise."""
    seen = dict(RIGHT.target_sight.files)  # type: ignore[union-attr]
    return {"target_sight": Sight(files={**seen, path: replace(seen[path], **other)})}


def faults(by_call: str, by_device: str, *capabilities: str) -> dict[str, Any]:
    sight = replace(RIGHT.target_sight, faults_by_call=by_call, faults_by_device=by_device)  # type: ignore[type-var]
    qemu = replace(QEMU, migration_capabilities=frozenset(capabilities))
    return {"plan": POST_COPY, "target_sight": sight, "target_qemu": qemu, "backends": ()}


def backend(file_system: str) -> dict[str, Any]:
    found = (Backend(name="pc.ram", path="/var/ram", file_system=file_system),)
    return faults("", "") | {"backends": found}


def shown(host: str, side: Literal["source", "target"]) -> Shown:
    """Right on the source; the target does not let its own be read."""
    now = datetime(2030, 6, 1, tzinfo=UTC)
    authority = certificates.new_authority("lab", now)
    made = certificates.new_host_key(authority, host, [], now).certificate
    unread = {"server-key.pem": "Permission denied"} if side == "target" else {}
    return Shown(host=host, folder="/k", side=side, clock=now, authorities=authority.certificate, certificate=made,
                 unread=unread)  # fmt: skip


QUEUES: dict[str, Any] = {"queue_entries": 1024, "target_qemu": replace(QEMU, version="11.1")}


WRONG: dict[str, tuple[str, Mapping[str, Any], type[LimosaError], str]] = {
    "there already": ("place", {"source": "m2"}, StateError, "guest web is on m2 already"),
    "target off": ("place", {"absent": UnreachableError("m2 is silent")}, UnreachableError, "m2 is silent"),
    "paused": ("place", {"status": "paused"}, StateError, "guest web is paused on m1"),
    "target cut": ("place", {"cut": ("m2",)}, StateError, "host m2 is cut off from the network"),
    "source cut": ("place", {"cut": ("m1",)}, StateError, "host m1 is cut off from the network"),
    "no record": ("record", {"started": None}, StateError, "was started with is not recorded"),
    "machine type": ("machine type", started(machine="pc-q35-9.0"), MachineError, "not know web's machine type"),
    "no QEMU": ("machine type", {"unknown": {"target_qemu": MachineError("too old")}}, MachineError, "too old"),
    "no plan": ("options", {"unknown": {"plan": SpecError("a needs b", hint="ask b")}}, SpecError, "a needs b"),
    "keys on one host": (
        "TLS names", {"keys": Keys(encrypted=True, alone=("m1", "m2"))}, SpecError, "m1 has keys .* and m2 has none"
    ),
    "keys unread": (
        "TLS names",
        {"keys": Keys(encrypted=True, shown=(shown("m1", "source"), shown("m2", "target")), names=("m2",))},
        MachineError,
        "the keys of m2 .* cannot be read: server-key.pem: Permission denied",
    ),
    "unsound": ("memory size", started(ram_bytes=EVEN) | {"trial": UNSOUND}, MachineError, "not sound: it was damaged"),
    "untried": ("memory size", started(ram_bytes=EVEN), MachineError, "leaves m2 again: .* was not tried"),
    "unclear": ("memory size", started(ram_bytes=EVEN) | {"trial": UNCLEAR}, MachineError, "was not tried"),
    "no room": ("memory", {"room_bytes": EVEN - 1}, MachineError, "m2 has no room for web: it needs 512 MiB"),
    "blocked": ("blockers", {"blockers": ("non-migratable device: nvme",)}, StateError, "leave m1: non-migratable"),
    "CPU unknown": ("CPU", {"target_qemu": replace(QEMU, cpu_models=())}, MachineError, "not know web's CPU model"),
    "CPU less": (
        "CPU", {"target_qemu": LESS}, MachineError, "cannot give sse4.2 under tcg"
    ),
    "CPU feature less": (
        "CPU",
        started(cpu=f"{CPU},+avx512f") | {"source_qemu": replace(QEMU, cpu_models=models()[:1])},
        MachineError,
        "cannot give avx512f",
    ),
    "file missing": ("files", there(BASE, there=False), MachineError, f"the base of web, {BASE}, is not there on m2"),
    "file unreadable": ("files", there(BASE, readable=False), MachineError, "cannot be read on m2"),
    "disk not writable": ("files", there(DISK, writable=False), MachineError, "cannot be written on m2"),
    "another disk": ("files", there(DISK, locked=False, inode=8), MachineError, "is another file on m2 than on m1"),
    "another base": ("files", there(BASE, head="bb"), MachineError, "is another file on m2 than on m1"),
    "longer base": ("files", there(BASE, size_bytes=10), MachineError, "is another file on m2 than on m1"),
    "another inode": (
        "files", there(BASE, inode=8) | {"same_machine": True}, MachineError, "is another file on m2 than on m1"
    ),
    "locks unseen": ("files", there(DISK, locked=False), MachineError, f"does not see the locks of m1 on {DISK}"),
    "packets lost": (
        "packet size",
        {"packets": PathSize(hosts=("m1", "m2"), size_bytes=1500, passes_bytes=1400, links=("a", "b"))},
        MachineError,
        "packets of 1500 bytes are lost between m1 and m2, those of 1400 are not",
    ),
    "no userfaultfd": ("userfaultfd", faults("EPERM", "EACCES", "switchover-ack"), MachineError, "QEMU 7.2.0 .* EPERM"),
    "QEMU without its device": ("userfaultfd", faults("EPERM", ""), MachineError, "post-copy is not to be had"),
    "memory on a disk": ("memory backend", backend("ext2/ext3"), StateError, "post-copy would lose web: .*/var/ram"),
    "queues in post-copy": (
        "virtio queues", faults("", "") | QUEUES, MachineError, "1024 entries, and QEMU 11.1 may not take such"
    ),
    "emulated by 10.2": (
        "emulated switch",
        faults("", "") | {"source_qemu": replace(QEMU, migration_statuses=frozenset({"postcopy-device"}))},
        MachineError,
        "post-copy may damage web",
    ),
    "memory nowhere known": ("memory backend", backend(""), StateError, "a file system that is not known"),
}  # fmt: skip

TOLD: dict[str, tuple[str, Mapping[str, Any], str, str]] = {
    "unfinished": ("place", {"unfinished": True}, "warning", "is finished or undone first"),
    "leftover": ("place", {"leftover": True}, "note", "left on m2 is ended first"),
    "CPU of the machine": (
        "CPU",
        {
            "source_qemu": replace(QEMU, cpu_models=models(safe=False)),
            "target_qemu": replace(QEMU, cpu_models=models(safe=False), identity="other"),
        },
        "warning",
        "whatever its machine and its QEMU give",
    ),
    "no echo": (
        "packet size",
        {"packets": PathSize(hosts=("m1", "m2"), size_bytes=1500, passes_bytes=0, address="10.0.0.2")},
        "note",
        "10.0.0.2 answers no ICMP echo",
    ),
    "queues": ("virtio queues", QUEUES, "warning", "on m1 gave web's virtio devices queues of 1024 entries"),
    "remark of the plan": ("options", {"plan": replace(PLAN, remarks=("it is slow",))}, "note", "it is slow"),
    "CPU of a source that is not known": (
        "CPU", {"source_qemu": None, "target_qemu": LESS}, "warning", "gives web the CPU Nehalem-v1 that it has is not"
    ),
    "STP": ("spanning tree", {"bridge": Interface("br0", silence_s=30.0)}, "warning", "m2: bridge br0 uses STP.* 30 s"),
    "clock": ("clocks", {"clocks": Clocks(ahead_ns=-3_000_000_000, uncertainty_ns=1)}, "warning", "-3.000 s from that"),
    "address": ("addresses", {"taken": {"10.0.0.9": "52:54:00:00:00:01"}}, "warning", "answers for 10.0.0.9 too"),
    "question without answer": (
        "clocks", {"unknown": {"clocks": LimosaError("it is silent")}}, "warning", "clocks: not known: it is silent"
    ),
}  # fmt: skip


def found(facts: Facts) -> list[Finding]:
    """As a plan does: what is wrong already in the first turn is all that can be said."""
    first = check.examine(check_table.in_turn(When.FIRST), facts)
    return first if first_error(first) else check.examine(check_table.CHECKS, facts)


@pytest.mark.parametrize("change", [{"queue_entries": 8}, {"queue_entries": None}, {"target_qemu": QEMU}])
def test_queues_are_as_they_should_be_or_those_of_one_qemu(change: dict[str, Any]) -> None:
    """A guest without such a device has none."""
    assert [f for f in found(replace(RIGHT, **QUEUES | change)) if f.check == "virtio queues"] == []


@pytest.mark.parametrize("plan", [PLAN, POST_COPY], ids=["pre-copy", "post-copy"])
def test_of_a_guest_that_may_move_nothing_is_said_but_how_the_clocks_are(plan: MigrationPlan) -> None:
    sight = replace(RIGHT.target_sight, faults_by_call="")  # type: ignore[type-var]
    (clocks,) = found(replace(RIGHT, plan=plan, target_sight=sight, backends=()))
    assert clocks.sentence == "the clock of m2 is +0.002 s from that of m1, give or take 0.001 s"
    assert (clocks.severity, clocks.exit_code) == ("note", 0)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_refuses_the_move_with_its_own_error(name: str) -> None:
    whose, change, kind, words = WRONG[name]
    facts = replace(RIGHT, **change)
    (finding,) = [each for each in found(facts) if each.severity == "error"]
    assert finding.check == whose and finding.exit_code == kind.exit_code
    with pytest.raises(kind, match=words) as raised:
        raise finding.error()
    assert type(raised.value) is kind
    assert raised.value.hint or whose in {"options", "place", "machine type"}, "something has to help"


@pytest.mark.parametrize("name", TOLD)
def test_what_makes_a_move_worse_is_told_and_refuses_nothing(name: str) -> None:
    whose, change, severity, words = TOLD[name]
    (finding,) = [each for each in found(replace(RIGHT, **change)) if each.check == whose]
    assert finding.severity == severity and finding.exit_code == 0
    with pytest.raises(LimosaError, match=words):
        raise LimosaError(finding.sentence)


def test_each_check_is_shown_to_find_something() -> None:
    shown = {whose for whose, *_ in WRONG.values()} | {whose for whose, *_ in TOLD.values()}
    assert shown == {each.name for each in check_table.CHECKS}


def test_checks_stand_in_the_order_of_their_turns() -> None:
    """So that the first error of a plan is the one that the move itself would be refused with."""
    turns = [each.when for each in check_table.CHECKS]
    assert turns == sorted(turns)
    assert [each for when in When for each in check_table.in_turn(when)] == list(check_table.CHECKS)


def test_the_document_tells_of_each_check_in_its_turn() -> None:
    rows = re.findall(r"^\| ([^|]*?) *\|", (ROOT / "docs/preflight.md").read_text(), re.MULTILINE)
    assert [name for name in rows if name and name != "check"] == [each.name for each in check_table.CHECKS]


def test_a_question_without_an_answer_is_told_of_once() -> None:
    unknown = {"source_sight": LimosaError("it is silent"), "target_qemu": MachineError("too old")}
    said = found(replace(RIGHT, plan=POST_COPY, backends=(), unknown=unknown))
    assert [each.check for each in said if each.severity != "note"] == ["machine type", "files"]


def test_each_check_needs_facts_that_there_are() -> None:
    for each in check_table.CHECKS:
        assert set(each.needs) <= set(Facts.__struct_fields__), each.name


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (started(ram_bytes=EVEN, accel="kvm"), "KVM loses nothing"),
        (started(ram_bytes=EVEN) | {"trial": SOUND}, "its QEMU was tried"),
        (started(ram_bytes=None), "a record of before, when there were 8 KiB more"),
        ({"target_qemu": LESS, "source_qemu": LESS}, "both give as little"),
        (there(DISK, inode=8), "each client of a file server has numbers of its own; the lock is seen"),
        (there(DISK, head="bb", size_bytes=99), "what a guest writes to changes from one look to the next"),
        (there(DISK, locked=None), "nobody looked for locks, which one kernel has once"),
        (faults("EPERM", "", "switchover-ack"), "a newer QEMU opens the device"),
        (backend("tmpfs"), "userfaultfd fills files of tmpfs"),
        ({"bridge": None}, "no bridge is known"),
        (started(network="") | {"unknown": {"bridge": LimosaError("?")}}, "a guest without a NIC has no bridge"),
    ],
)  # fmt: skip
def test_what_is_well_is_not_complained_of(change: Mapping[str, Any], why: str) -> None:
    assert [each for each in found(replace(RIGHT, **change)) if each.severity != "note"] == [], why


def test_what_post_copy_alone_needs_is_looked_at_only_then() -> None:
    facts = replace(RIGHT, target_sight=replace(RIGHT.target_sight, faults_by_call="EPERM"))  # type: ignore[type-var]
    assert first_error(found(facts)) is None
    assert first_error(found(replace(facts, plan=POST_COPY, backends=()))) is not None


def test_one_machine_has_one_clock() -> None:
    facts = replace(RIGHT, same_machine=True, clocks=None, unknown={"clocks": LimosaError("?")})
    assert "clocks" not in {each.check for each in found(facts)}


@pytest.mark.parametrize(("ahead_ns", "pause_ms"), [(0, 40.0), (25_000_000, 15.0), (-60_000_000, 100.0), (None, None)])
def test_a_pause_between_two_machines_is_told_by_one_clock(ahead_ns: int | None, pause_ms: float | None) -> None:
    stop, resume = 1_000_000_000, 1_040_000_000
    moved = Outcome(
        source="m1", target="m2", failure=None, started_ns=0, ended_ns=0, stop_ns=stop, resume_ns=resume,
        info=MigrateInfo(), phases=[], plan=PLAN, target_ahead_ns=ahead_ns,
    )  # fmt: skip
    assert moved.pause_ms == pause_ms
    assert replace(moved, resume_ns=None).pause_ms is None
