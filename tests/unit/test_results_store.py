"""Run directories: made whole, typed, found again, honest about what is missing."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from limosa.errors import LimosaError, MachineError, SpecError, StateError
from limosa.events import Event, MigrationProgressed, Note
from limosa.probes.looks import ProgressRecorder
from limosa.results import meant, store
from limosa.results.format import Run
from limosa.results.samples import LOST, read_exchanges, read_progress, read_ticks
from limosa.results.store import DOCUMENTS, Document, EventFile, RunDirectory


def filled(kind: Any) -> Any:
    """A value of the type *kind* in which nothing is a default, so that a forgotten field is seen."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: filled(hints[field.name]) for field in dataclasses.fields(kind)})  # type: ignore[operator]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: filled(hints[field.name]) for field in msgspec.structs.fields(kind)})
    if origin in (typing.Union, types.UnionType):
        return filled(next(a for a in arguments if a is not type(None)))
    if origin is typing.Literal:
        return arguments[-1]
    if origin is tuple:
        return tuple(filled(a) for a in arguments if a is not Ellipsis)
    if origin is list:
        return [filled(arguments[0]), filled(arguments[0])]
    if origin is dict:
        return {"key": filled(arguments[1])}
    samples = {int: 1_795_000_000_123_456_789, float: 0.1, str: "é → 'x'", bool: True, Any: {"deep": [1, None]}}
    return samples[kind]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(kind="demo", lab="two-hosts", guest="g1", base=tmp_path)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.file)
def test_every_file_comes_back_as_it_was_written(run: RunDirectory, document: Document[Any]) -> None:
    content = filled(document.type)
    if document is store.RUN:
        content = dataclasses.replace(content, format=1)
    run.write(document, content)
    assert run.read(document) == content
    assert not list(run.path.rglob(".*")), "no temporary file stays"


def test_a_new_run_is_whole_and_named_after_its_moment(run: RunDirectory) -> None:
    description = run.read(store.RUN)
    assert run.id == description.id and run.id.endswith("-demo-two-hosts") and len(run.id.split("-")[0]) == 8
    assert (description.status, description.ended_ns, description.guest) == ("running", None, "g1")
    assert run.samples.is_dir()


def test_runs_of_the_same_second_get_different_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limosa.results.store.time.time_ns", lambda: 1_795_000_000_000_000_000)
    names = [RunDirectory.create(kind="k", lab="l", guest="g", base=tmp_path).id for _ in range(3)]
    assert names[1:] == [f"{names[0]}-2", f"{names[0]}-3"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names, "nothing half-made is left"


def test_finish_tells_the_outcome_and_what_is_missing(run: RunDirectory) -> None:
    run.mark_incomplete("the disk was full")
    run.mark_incomplete("the disk was full")
    run.finish("failed", "the target went away")
    description = RunDirectory.open(run.path).read(store.RUN)
    assert (description.status, description.error) == ("failed", "the target went away")
    assert description.incomplete == ["the disk was full"] and description.ended_ns is not None


def test_a_newer_format_is_refused(run: RunDirectory) -> None:
    path = run.path / "run.json"
    # A newer format may have other fields: the version has to be looked at first.
    path.write_text(json.dumps({"format": 2, "identity": "x"}))
    with pytest.raises(StateError, match=r"newer Limosa: it has format 2, this one reads up to 1"):
        RunDirectory.open(run.path)


@pytest.mark.parametrize("damage", [b"", b'{"id": ', b"[]", b'{"format": 1}', b"\xff\xfe", b'{"format": "x"}'])
def test_a_damaged_file_is_named(run: RunDirectory, damage: bytes) -> None:
    (run.path / "run.json").write_bytes(damage)
    with pytest.raises(LimosaError, match=r"run\.json is damaged"):
        RunDirectory.open(run.path)


def test_an_absent_file_is_named(run: RunDirectory) -> None:
    with pytest.raises(StateError, match=r"migrations\.json is not there"):
        run.read(store.MIGRATIONS)
    assert run.read_or(store.MIGRATIONS, []) == []


def test_find_takes_ids_beginnings_paths_and_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for number, kind in enumerate(("demo", "migrate")):
        monkeypatch.setattr("limosa.results.store.time.time_ns", lambda n=number: 1_795_000_000_000_000_000 + n * 10**9)
        ids.append(RunDirectory.create(kind=kind, lab="l", guest="g", base=tmp_path).id)
    (tmp_path / ".new-x").mkdir()
    (tmp_path / "20990101-000000-other").mkdir()
    with pytest.raises(StateError, match="there is no run with anything measured in it"):
        meant.find("latest", tmp_path)
    (tmp_path / ids[0] / "samples" / "ticks.csv").write_text("a,b\n1,2\n")
    assert meant.latest(tmp_path).id == ids[0], "the last one is empty"
    (tmp_path / ids[1] / "pauses.json").write_text("[]")
    assert meant.latest(tmp_path).id == ids[0], "so it still is"
    (tmp_path / ids[1] / "pauses.json").write_text("[{}]")
    assert meant.latest(tmp_path).id == ids[1] == meant.find("latest", tmp_path).id
    assert meant.find(ids[0], tmp_path).id == ids[0] == meant.find(ids[0][:-3], tmp_path).id
    assert meant.find(str(tmp_path / ids[0])).id == ids[0]
    with pytest.raises(SpecError) as caught:
        meant.find(ids[0].replace("demo", "dmo"), tmp_path)
    assert ids[0] in caught.value.hint
    with pytest.raises(SpecError, match=r"there is no run lastest") as caught:
        meant.find("lastest", tmp_path)
    assert "latest" in caught.value.hint
    with pytest.raises(SpecError, match="2 runs begin with"):
        meant.find(ids[0][:4], tmp_path)
    with pytest.raises(SpecError, match="no directory"):
        meant.find("./nowhere", tmp_path)
    with pytest.raises(StateError, match="not a run"):
        meant.find(str(tmp_path), tmp_path)


def test_find_without_any_run(tmp_path: Path) -> None:
    for wanted in ("latest", "x"):
        with pytest.raises(StateError):
            meant.find(wanted, tmp_path / "absent")


def test_where_nothing_can_be_made_the_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="file"):
        RunDirectory.create(kind="k", lab="l", guest="g", base=tmp_path / "file")


def test_events_are_on_disk_at_once(run: RunDirectory) -> None:
    warnings: list[str] = []
    sink = EventFile(run, warnings.append)
    sink(Note(text="one"))
    sink(Note(text="two", level="warning"))
    lines = (run.path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["one", "two"]
    sink.close()
    sink(Note(text="after the end"))
    assert warnings == []


def test_a_full_disk_becomes_one_warning_and_marks_the_run(run: RunDirectory) -> None:
    (run.path / "events.jsonl").symlink_to("/dev/full")
    warnings: list[str] = []

    def warn(sentence: str) -> None:
        warnings.append(sentence)
        # As the engine does it: the warning is an event, and comes back to the sink.
        sink(Note(text=sentence, level="warning"))

    sink = EventFile(run, warn)
    for _ in range(3):
        sink(Note(text="lost"))
    assert warnings == ["events.jsonl is incomplete: No space left on device"]
    sink.close()
    assert run.finish("completed").incomplete == warnings


def progressed(remaining: int, guest: str = "g") -> Event:
    return MigrationProgressed(
        guest=guest,
        status="active",
        elapsed_ms=1.0,
        total_bytes=9,
        remaining_bytes=remaining,
        transferred_bytes=4,
        dirty_rate_bytes_per_s=1.4,
        throughput_bytes_per_s=2.6,
        iteration=3,
        expected_end_s=None,
    )


def test_progress_rows_carry_their_migration(tmp_path: Path) -> None:
    recorder = ProgressRecorder(tmp_path / "progress.csv", "g")
    recorder(progressed(5))
    recorder(Note(text="something else"))
    recorder.migration = 2
    recorder(progressed(0))
    recorder(progressed(7, "another"))
    rows = read_progress(tmp_path / "progress.csv")
    assert [(row.migration, row.remaining_bytes, row.throughput_bytes_per_s) for row in rows] == [(1, 5, 3), (2, 0, 3)]
    recorder.close()
    recorder(progressed(0))
    assert recorder.problem == ""


def test_progress_on_a_full_disk_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").symlink_to("/dev/full")
    warnings: list[str] = []
    recorder = ProgressRecorder(tmp_path / "progress.csv", "g", warnings.append)
    recorder(progressed(5))
    assert warnings == ["progress.csv is incomplete: No space left on device"] == [recorder.problem]


def test_samples_of_a_killed_client_are_read_to_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "echo.csv"
    path.write_text("sequence,sent_ns,received_ns\n0,1795000000123456789,1795000000123456790\n1,17,\n2,1795")
    read = read_exchanges(path)
    assert list(read.sent_ns) == [1_795_000_000_123_456_789, 17]
    assert list(read.received_ns) == [1_795_000_000_123_456_790, LOST]


def test_absent_samples_are_none(tmp_path: Path) -> None:
    assert len(read_ticks(tmp_path / "ticks.csv")) == 0
    assert read_progress(tmp_path / "progress.csv") == []


@pytest.mark.parametrize(
    "text", ["", "a,b\n", "sequence,sent_ns,received_ns\nx,1,2\n", "sequence,sent_ns,received_ns\n1,2\n"]
)
def test_damaged_samples_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "echo.csv"
    path.write_text(text)
    with pytest.raises(LimosaError, match=r"echo\.csv cannot be read"):
        read_exchanges(path)


def test_run_takes_no_unknown_status() -> None:
    with pytest.raises(Exception, match="status"):
        msgspec.convert(
            {"id": "x", "kind": "", "lab": "", "guest": "", "started_ns": 1, "limosa": "", "status": "odd"}, Run
        )
