"""What is kept of a lab on disk: written whole, read back as it was, and told when it is damaged, gone or held."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from limosa import paths, spec
from limosa.errors import BusyError, MachineError, StateError
from limosa.hosts.kind import Part, part_of
from limosa.hosts.namespaces.traces import Processes
from limosa.lab import record
from limosa.lab.record import GuestRecord, LabDirectory, Launched, Record
from limosa.qemu.launches import Running
from tests import namespaces

TEXT = "name: shop\nhosts: {alpha: {}, beta: {}}\nguests: {web: {host: alpha}, db: {host: beta}}\n"
GUEST = GuestRecord(host="alpha", accel="tcg", accel_reason="no KVM here", machine="pc-q35-7.2", cpu="qemu64",
                    copies=(Launched("alpha", "5eed", 7),))  # fmt: skip


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabDirectory:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    directory = LabDirectory.named("shop")
    directory.create(spec.loads(TEXT))
    return directory


def test_a_lab_is_read_back_as_it_was(made: LabDirectory) -> None:
    assert made.path == paths.labs() / "shop"
    assert made.spec() == spec.loads(TEXT)
    assert made.record() is None, "it is not up yet"
    kept = Record(kinds=namespaces.kinds(client_pid=11, hosts={"alpha": 12}), cut=["alpha"], off=["beta"])
    made.save(kept)
    assert made.record() == kept
    assert made.readable_spec()


def test_what_is_made_is_for_its_owner_alone(made: LabDirectory) -> None:
    for folder in (made.path, made.log, made.keys, made.guest("web"), made.guest("db")):
        assert folder.stat().st_mode & 0o777 == 0o700, folder


def test_making_it_again_keeps_what_is_there(made: LabDirectory) -> None:
    made.save_guest("web", GUEST)
    made.create(spec.loads(TEXT))
    assert made.guest_record("web") == GUEST


def test_each_guest_has_a_record_of_its_own(made: LabDirectory) -> None:
    made.save_guest("web", GUEST)
    assert (made.guest_record("web"), made.guest_record("db")) == (GUEST, None)
    made.forget_guest("web")
    made.forget_guest("web")
    assert made.guest_record("web") is None


def test_a_record_of_before_copies_were_recorded_names_the_one_where_it_ran(made: LabDirectory) -> None:
    made.save_guest("web", msgspec.structs.replace(GUEST, copies=()))
    found = made.guest_record("web")
    assert found is not None and found.copies == (Launched("alpha", ""),)
    assert found.copies[0].is_it(Running("", 5, 9)) and found.copies[0].is_it(Running("abc", 5, 9))


def test_a_copy_is_known_by_its_id_and_its_start_time() -> None:
    copy = Launched("alpha", "5eed", 7)
    assert copy.is_it(Running("5eed", 1, 7))
    assert not copy.is_it(Running("5eed", 1, 8)) and not copy.is_it(Running("", 1, 7))
    assert Launched("alpha", "5eed").is_it(Running("5eed", 1, 8)), "launched, and its start time not recorded yet"


def test_a_process_is_ended_for_a_copy_only_by_the_id_of_its_launch() -> None:
    copy = Launched("alpha", "5eed", 7)
    assert copy.is_surely("alpha", Running("5eed", 1, 7))
    assert not copy.is_surely("beta", Running("5eed", 1, 7)) and not copy.is_surely("alpha", Running("5eed", 1, 8))
    assert not Launched("alpha", "").is_surely("alpha", Running("", 1, 7)), "what may be it is not therefore ended"


def test_an_interrupted_write_changes_nothing(made: LabDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    made.save(Record(claimed=["alpha"]))

    write = os.write

    def full(descriptor: int, data: memoryview) -> int:
        write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(MachineError, match="no space left") as caught:
        made.save(Record(claimed=["beta"]))
    assert "XDG_STATE_HOME" in caught.value.hint
    kept = made.record()
    assert kept is not None and kept.claimed == ["alpha"]
    assert [path.name for path in made.path.iterdir() if path.name.endswith(".new")] == []


OLD = b'{"format": 1, "rootless": true, "outer_pid": 10, "client_pid": 11, "hosts": {"alpha": 12}, "claimed": ["beta"]}'


def test_a_record_without_parts_is_understood_and_written_anew_with_them(made: LabDirectory) -> None:
    (made.path / "record.json").write_bytes(OLD)
    record = made.record()
    assert record is not None and record.claimed == ["beta"] and not record.is_empty
    found = Processes(rootless=True, outer_pid=10, client_pid=11, hosts={"alpha": 12})
    assert namespaces.processes(record) == found
    part = Part(namespaces.NAME, record)
    part.write(found)
    made.save(record)
    assert made.record() == record and list(record.kinds) == [namespaces.NAME]
    part.clear()
    assert record.kinds == {} and part.read(Processes) == Processes()


def test_an_old_record_of_a_lab_that_is_down_is_empty(made: LabDirectory) -> None:
    (made.path / "record.json").write_bytes(b'{"format": 1, "rootless": true, "claimed": []}')
    record = made.record()
    assert record is not None and record.is_empty


def test_what_a_kind_does_not_understand_of_its_part_is_nothing() -> None:
    for part in (b"7", b'{"client_pid": "one"}', b"[]"):
        assert part_of({namespaces.NAME: msgspec.Raw(part)}, namespaces.NAME, Processes) == Processes()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"ephemeral": "yes"}', b"[]", b"\xff\xfe", b"null"])
def test_damage_is_told_and_how_to_be_rid_of_it(made: LabDirectory, damage: bytes) -> None:
    (made.path / "record.json").write_bytes(damage)
    with pytest.raises(StateError, match=r"record\.json is damaged") as caught:
        made.record()
    assert caught.value.hint == "limosa down --lab shop ends and deletes the lab"
    (made.guest("web") / "record.json").write_bytes(damage)
    with pytest.raises(StateError, match=r"record\.json is damaged"):
        made.guest_record("web")


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00\x01", b'{"name": 1}'])
def test_a_damaged_spec_is_told(made: LabDirectory, damage: bytes) -> None:
    (made.path / "spec.json").write_bytes(damage)
    with pytest.raises(StateError, match=r"spec\.json is damaged"):
        made.spec()
    assert not made.readable_spec()


def test_a_lab_that_never_was_names_those_that_are(made: LabDirectory) -> None:
    absent = LabDirectory.named("shpo")
    with pytest.raises(StateError, match="no lab called shpo") as caught:
        absent.spec()
    assert caught.value.hint == "labs here: shop"
    made.remove()
    with pytest.raises(StateError) as caught:
        absent.spec()
    assert "limosa up" in caught.value.hint


def test_a_lock_has_one_holder_and_names_it(made: LabDirectory) -> None:
    other = LabDirectory.named("shop")
    with made.locked("limosa migrate", guest="web"):
        assert other.busy("web") and not other.busy("db")
        with pytest.raises(BusyError, match=rf"guest web is busy: limosa migrate \(pid {os.getpid()}\)"):
            other.locked("limosa stop", guest="web").__enter__()
        with other.locked("limosa start", guest="db"), other.locked("limosa up"):
            pass
    with other.locked("limosa stop", guest="web"):
        pass
    assert not other.busy("web")


def test_a_lock_of_a_lab_that_was_taken_down_locks_nothing(made: LabDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = record.fcntl.flock

    def taken_down_meanwhile(descriptor: int, kind: int) -> None:
        locked(descriptor, kind)
        made.remove()

    monkeypatch.setattr(record.fcntl, "flock", taken_down_meanwhile)
    with pytest.raises(BusyError, match="just taken down"):
        made.locked("limosa up").__enter__()


def test_removal_is_at_once_and_its_remains_go_later(made: LabDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)  # killed before the first file went
        made.remove()
    assert not made.path.exists()
    assert record.existing() == []
    (remains,) = paths.labs().iterdir()
    assert (remains / "spec.json").exists()
    record.remove_remains()
    assert list(paths.labs().iterdir()) == []


def test_a_disk_is_in_its_storage_or_where_the_storage_is(made: LabDirectory, tmp_path: Path) -> None:
    lab = spec.loads(TEXT + f"storage: {{ours: {{}}, theirs: {{path: {tmp_path}}}}}\n")
    assert made.storage(lab.storage["ours"]) == made.path / "storage" / "ours"
    assert made.storage(lab.storage["theirs"]) == tmp_path
