"""The report from made-up runs: every number equal to the summary, nothing hidden, nothing injected."""

from __future__ import annotations

import csv
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest

from limosa import report
from limosa.errors import LimosaError, MachineError, StateError
from limosa.report import commands, data, sections, series, timeline, verdict
from limosa.report.theme import PRINT
from limosa.results import format as f
from limosa.results import raw
from limosa.results.store import RunDirectory
from limosa.results.summary import summarise
from tests import run_sample


class Reader(HTMLParser):
    """Collects the texts, the elements and the ``data-value`` cells of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[tuple[str, str]] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.tags.append((tag, dict(attrs)))
        found = dict(attrs)
        if found.get("data-name"):
            self.cells.append((str(found["data-name"]), found.get("data-value") or ""))

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("runs")
    return {kind: make(base / kind) for kind, make in run_sample.KINDS.items()}


@pytest.fixture(scope="module")
def pages(runs: dict[str, Path], own_cache: None) -> dict[str, Reader]:
    return {kind: Reader(report.build(run).read_text()) for kind, run in runs.items()}


def test_every_number_in_the_table_is_that_of_the_summary(pages: dict[str, Reader], runs: dict[str, Path]) -> None:
    summary = msgspec.json.decode((runs["demo"] / "summary.json").read_bytes(), type=f.Summary)
    expected = []
    for row in summary.migrations:
        expected.append(("longest_wait_ms", str(row.longest_wait_ms)))
        for name in ("service_stall_ms", "guest_lost_ms", "qemu_downtime_ms"):
            expected.append((name, str(getattr(row.clocks, name))))
        names = ["duration_ms", "command_ms", "transferred_bytes", "throughput_bytes_per_s", "iterations"]
        for name in [*names, "cpu_during_events_per_s"]:
            expected.append((name, str(getattr(row, name))))
    assert pages["demo"].cells == expected
    assert len(expected) == 20
    first = summary.migrations[0]
    assert f"{first.clocks.service_stall_ms:.1f} ms" in pages["demo"].text
    assert f"{first.command_ms / 1000:.2f} s" in pages["demo"].text


def test_the_head_says_what_happened(pages: dict[str, Reader]) -> None:
    assert re.search(
        r"guest1 moved host1 → host2 → host1; users waited at most \d+ ms, where they wait up to 22 ms at rest\.",
        pages["demo"].text,
    )
    assert "The move of guest1 from host1 to host2 failed." in pages["failed"].text
    assert "The link to host2 went down while memory was being sent" in pages["failed"].text
    assert "1 of 2 checks failed." in pages["failed"].text
    assert "was cancelled" in pages["cancelled"].text
    assert re.search(r"[\d.]+ GiB sent in 5 passes, [\d.]+ MiB still to send", pages["cancelled"].text)
    assert re.search(r"guest1 was paused 20 times; the packet clock was off by \d\.\d ms", pages["calibrate"].text)
    assert "The run was not ended" in pages["missing"].text


def test_what_is_missing_is_said(pages: dict[str, Reader]) -> None:
    for sentence in (
        "no tick was received in this run",
        "Round trips of the UDP echo: no answer was received",
        "the guest's clock cannot be placed without its ticks",
        "summary.json is missing.",
        "samples/service.csv ends in the middle of a line",
        "whether the guest is unharmed is not known",
        "cannot be compared with any others",
    ):
        assert sentence in pages["missing"].text


def test_page_asks_for_nothing_and_permits_only_its_own_scripts(
    pages: dict[str, Reader], runs: dict[str, Path]
) -> None:
    for reader in pages.values():
        assert not [tag for tag, attributes in reader.tags if {"src", "href"} & attributes.keys()]
        policy = next(a["content"] for t, a in reader.tags if t == "meta" and "http-equiv" in a)
        assert policy is not None and policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe-eval" not in policy
    style = re.search(r"<style>(.*?)</style>", (runs["demo"] / "report.html").read_text(), re.S)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]


def test_names_and_errors_cannot_become_markup(tmp_path: Path) -> None:
    run = run_sample.failed(tmp_path / "run")
    evil = "</script><img src=x onerror=alert(1)>\"'&"
    for name, kind in (
        ("run.json", f.Run),
        ("migrations.json", list[f.Migration]),
        ("summary.json", f.Summary),
        ("checks.json", list[f.Check]),
    ):
        value = msgspec.json.decode((run / name).read_bytes(), type=kind)
        if isinstance(value, f.Run):
            value = replace(value, guest=evil, lab=evil, error=evil)
        elif isinstance(value, list):
            value = [replace(one, **_evil(one, evil)) for one in value]
        else:
            rows = [replace(row, source=evil, target=evil) for row in value.migrations]
            checks = [f.Check(name=evil, passed=False, detail=evil)]
            value = replace(value, remarks=[evil], migrations=rows, checks=checks)
        (run / name).write_bytes(msgspec.json.encode(value))
    stream = (run / "events.jsonl").read_text().replace("host1", msgspec.json.encode(evil).decode()[1:-1])
    (run / "events.jsonl").write_text(stream)
    page = report.build(run).read_text()
    reader = Reader(page)
    assert "img" not in {tag for tag, _ in reader.tags}
    assert evil in " ".join(reader.words)
    clean = Reader(report.build(run_sample.failed(tmp_path / "clean")).read_text())
    assert page.count("</script>") == sum(tag == "script" for tag, _ in clean.tags)


def _evil(one: object, text: str) -> dict[str, str]:
    if isinstance(one, f.Migration):
        return {"guest": text, "source": text, "target": text, "error": text}
    return {"name": text, "detail": text}


def test_not_a_run_directory(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="is not a run directory"):
        report.build(tmp_path)
    run = run_sample.calibrate(tmp_path / "run")
    (run / "run.json").write_bytes((run / "run.json").read_bytes().replace(b'"format": 1', b'"format": 9'))
    with pytest.raises(StateError, match="format 9"):
        report.build(run)


def test_an_older_report_survives_a_failed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_sample.calibrate(tmp_path / "run")
    (run / "report.html").write_text("older")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(MachineError, match="disk full"):
        report.build(run)
    assert (run / "report.html").read_text() == "older"
    assert not [path for path in run.iterdir() if path.name.startswith(".report")]


@pytest.mark.parametrize("kind", ["demo", "calibrate"])
def test_pictures_have_their_size_and_are_not_blank(runs: dict[str, Path], tmp_path: Path, kind: str) -> None:
    paths = report.png(runs[kind], tmp_path)
    assert [path.name for path in paths] == ["timeline.png", "clocks.png"]
    for path in paths:
        width, height, share = picture(path)
        assert 1900 <= width <= 2200
        assert height >= 600
        assert share > 0.01


def picture(path: Path) -> tuple[int, int, float]:
    """Width, height, and the share of bytes that differ from what PNG predicts: near 0 for a blank one."""
    content, at, packed, width, height = path.read_bytes(), 8, b"", 0, 0
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        body = content[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height = struct.unpack(">II", body[:8])
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    return width, height, float(np.count_nonzero(lines[1:, 5:]) / lines.size)


def test_a_blank_picture_is_seen_as_blank(tmp_path: Path) -> None:
    from limosa.report import vega

    blank = {"data": {"values": []}, "mark": "point", "width": 900, "height": 300, "background": "white"}
    (tmp_path / "blank.png").write_bytes(vega.png({**blank, "config": {"view": {"stroke": None}}}, scale=2))
    assert picture(tmp_path / "blank.png")[2] < 0.002


def test_no_picture_of_clocks_without_a_reading(runs: dict[str, Path], tmp_path: Path) -> None:
    assert [path.name for path in report.png(runs["failed"], tmp_path)] == ["timeline.png"]


def test_tables(runs: dict[str, Path], tmp_path: Path) -> None:
    paths = {path.stem: path for path in report.csv(runs["demo"], tmp_path / "new")}
    assert set(paths) == {"migrations", "clocks", "rates", "checks", "samples"}
    rows = {name: list(csv.DictReader(path.read_text().splitlines())) for name, path in paths.items()}
    summary = msgspec.json.decode((runs["demo"] / "summary.json").read_bytes(), type=f.Summary)
    assert [float(row["command_ms"]) for row in rows["migrations"]] == [row.command_ms for row in summary.migrations]
    assert len(rows["clocks"]) == 12 + 4
    assert [(row["clock"], row["reading_ms"]) for row in rows["clocks"] if row["of"] == "rest"][-1] == (
        "longest_wait",
        "21.5",
    )
    assert [(row["of"], float(row["reached"]) / run_sample.MIB) for row in rows["rates"]] == [
        ("rest", 154),
        ("1", 60),
        ("2", 60),
    ]
    assert float(rows["clocks"][0]["reading_ms"]) == summary.migrations[0].clocks.guest_lost_ms
    assert [row["passed"] for row in rows["checks"]] == ["true"] * 6
    assert all(Path(row["file"]).exists() for row in rows["samples"])
    failed = list(csv.DictReader(report.csv(runs["failed"], tmp_path / "failed")[1].read_text().splitlines()))
    assert {row["reading_ms"] for row in failed if row["of"] == "migration"} == {""}


def test_every_figure_of_a_row_is_in_the_tables(runs: dict[str, Path], tmp_path: Path) -> None:
    """The headline's above all. The clocks of a row are in a file of their own."""
    paths = {path.stem: path for path in report.csv(runs["demo"], tmp_path)}
    head = paths["migrations"].read_text().splitlines()[0].split(",")
    assert {field.name for field in fields(f.MigrationSummary)} - {"clocks"} == set(head) - {"error"}
    clocks_head = {row["clock"] for row in csv.DictReader(paths["clocks"].read_text().splitlines())}
    assert {field.name.removesuffix("_ms") for field in fields(f.Clocks)} < clocks_head


def test_no_gap_is_lost_in_thinning() -> None:
    received = run_sample.START_NS + np.arange(60_000) * 1_000_000
    received[30_500:] += 3_000_000  # 3 ms far from anything that is shaded
    ticks = {"received_ns": received}
    limits = series.edges([], 0.0, 60.0)
    rows = series.silence(ticks["received_ns"], run_sample.START_NS, limits)
    assert len(rows) < 600
    assert max(row["high"] for row in rows) == pytest.approx(4.0)
    place = next(row["t"] for row in rows if row["high"] > 3)
    assert 30.2 < place < 30.6


def test_no_spike_is_lost_in_thinning() -> None:
    random = np.random.default_rng(1)
    time, value = np.arange(50_000) / 1000, random.uniform(1, 2, 50_000)
    value[31_337], value[41_001] = 99.0, 0.5
    rows = series.envelope(time, value, series.edges([], 0.0, 50.0))
    assert len(rows) < 600
    assert max(row["high"] for row in rows) == 99.0
    assert min(row["low"] for row in rows) == 0.5
    assert all(row["low"] <= row["middle"] <= row["high"] for row in rows)


def test_lines_end_where_nothing_was_measured() -> None:
    time = np.concatenate([np.arange(0, 1, 0.02), np.arange(1.2, 2, 0.02)])
    rows = series.envelope(time, np.ones_like(time), np.array([0.0, 3.0]))
    assert {row["segment"] for row in rows if row["t"] < 1.1} == {0}
    assert {row["segment"] for row in rows if row["t"] > 1.1} == {1}


def test_guest_clock_is_placed_across_a_blackout(runs: dict[str, Path]) -> None:
    found = data.load(runs["demo"])
    rows = timeline.datasets(found)["cpu"]
    stop, resume = (found.seconds(t) for t in (found.migrations[0].stop_ns, found.migrations[0].resume_ns) if t)
    assert not [row for row in rows if stop + 0.001 < row["t"] < resume]
    slow = [row["middle"] for row in rows if 4.5 < row["t"] < 5.5]
    fast = [row["middle"] for row in rows if 7 < row["t"] < 8.5]
    assert np.median(slow) / np.median(fast) == pytest.approx(0.62, abs=0.02)


def test_panes_of_the_timeline(runs: dict[str, Path]) -> None:
    names = {}
    for kind, run in runs.items():
        spec, _ = timeline.spec(data.load(run), PRINT)
        assert spec is not None
        names[kind] = [pane["name"] for pane in spec["vconcat"]]
    assert names["demo"] == ["phases", "remaining", "rates", "ticks", "trips", "cpu"]
    assert names["calibrate"] == ["ticks", "trips", "cpu"]
    assert names["missing"] == ["phases", "remaining", "rates", "trips"]


def test_commands_are_grouped_and_polls_are_counted(runs: dict[str, Path]) -> None:
    found = data.load(runs["demo"])
    stages = commands.stages(found.events)
    titles = ["hosts", "guest guest1", "migrate guest1 to host2", "migrate guest1 to host1"]
    assert [stage.title for stage in stages] == titles
    section = Reader(commands.section(found)).text
    assert "query-migrate × 60" in section
    assert "qemu-system-x86_64 -name 'guest=guest1,process=limosa guest1'" in section
    assert '"downtime-limit": 300' in section
    assert "event STOP" in section


def test_routes() -> None:
    def row(source: str, target: str) -> f.MigrationSummary:
        return f.MigrationSummary(
            index=1, source=source, target=target, outcome="completed", duration_ms=1, command_ms=1,
            transferred_bytes=1, throughput_bytes_per_s=1, iterations=1, clocks=f.Clocks(),
        )  # fmt: skip

    assert verdict.route([row("a", "b"), row("b", "c")]) == "a → b → c"
    assert verdict.route([row("a", "b"), row("a", "c")]) == "a → b; a → c"
    assert verdict.route([row("a", "b"), row("b", "a")] * 4) == "8 times between a and b"


def test_a_measure_that_was_not_taken_is_not_called_zero(tmp_path: Path) -> None:
    run = run_sample.demo(tmp_path / "run")
    summary = msgspec.json.decode((run / "summary.json").read_bytes(), type=f.Summary)
    bare = [replace(row, clocks=f.Clocks(qemu_downtime_ms=0.0), longest_wait_ms=None) for row in summary.migrations]
    (run / "summary.json").write_bytes(msgspec.json.encode(replace(summary, migrations=bare)))
    found = data.load(run)
    assert verdict.of(found).sentence.endswith("; what users noticed was not measured.")
    assert ("0.0 ms", "downtime that QEMU reports") in verdict.of(found).facts


def test_users_notice_what_happens_before_the_blackout_too(tmp_path: Path) -> None:
    run = run_sample.demo(tmp_path / "run")
    summary = msgspec.json.decode((run / "summary.json").read_bytes(), type=f.Summary)
    slow = [replace(summary.migrations[0], longest_wait_ms=1798.0), *summary.migrations[1:]]
    (run / "summary.json").write_bytes(msgspec.json.encode(replace(summary, migrations=slow)))
    found = verdict.of(data.load(run))
    assert found.sentence.endswith("users waited at most 1,798 ms, where they wait up to 22 ms at rest.")
    assert found.facts[:2] == [
        ("1,798 ms", "longest wait of a client while it moved"),
        ("21.5 ms", "longest wait at rest, in 7 s"),
    ]


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (
            f.Rest(length_s=9.0, longest_wait_ms=180.0),
            "users waited at most 247 ms, where they wait up to 180 ms at rest.",
        ),
        (
            f.Rest(length_s=9.0, longest_wait_ms=260.0),
            "users noticed no more than at rest: at most 247 ms, and 260 ms at rest.",
        ),
        (f.Rest(length_s=9.0), "users waited at most 247 ms, and how long they wait at rest was not measured."),
        (None, "users waited at most 247 ms, and how long they wait at rest was not measured."),
    ],
)
def test_what_users_notice_stands_beside_what_they_notice_at_rest(
    tmp_path: Path, rest: f.Rest | None, said: str
) -> None:
    run = run_sample.demo(tmp_path / "run")
    summary = msgspec.json.decode((run / "summary.json").read_bytes(), type=f.Summary)
    rows = [replace(row, clocks=f.Clocks(), longest_wait_ms=247.0) for row in summary.migrations]
    (run / "summary.json").write_bytes(msgspec.json.encode(replace(summary, migrations=rows, rest=rest)))
    assert verdict.of(data.load(run)).sentence.endswith(f"; {said}")


def test_a_share_of_speed_that_cannot_be_read_is_no_headline(tmp_path: Path) -> None:
    """The loop at rest begins each turn on a processor that has just slept: 88 % in one move and 108 % in the next."""
    run = run_sample.demo(tmp_path / "run")
    summary = msgspec.json.decode((run / "summary.json").read_bytes(), type=f.Summary)
    speeds = zip(summary.migrations, (88.0, 108.0), strict=True)
    rows = [replace(r, cpu_before_events_per_s=100.0, cpu_during_events_per_s=during) for r, during in speeds]
    (run / "summary.json").write_bytes(msgspec.json.encode(replace(summary, migrations=rows)))
    assert not [label for _, label in verdict.of(data.load(run)).facts if "CPU" in label]
    shown = Reader(str(sections.migrations(data.load(run)))).text
    assert "88 %" in shown and "108 %" not in shown and "no slower" in shown


def test_settings_in_force_are_shown(pages: dict[str, Reader], tmp_path: Path) -> None:
    assert "Migration 1; Migration 2" in pages["demo"].text and "capabilities: events" in pages["demo"].text
    assert "multifd-channels: 2" in pages["demo"].text
    run = run_sample.demo(tmp_path / "run")
    migrations = msgspec.json.decode((run / "migrations.json").read_bytes(), type=list[f.Migration])
    unknown = [replace(m, capabilities_in_force=None, parameters_in_force=None) for m in migrations]
    assert "QEMU was not asked, or did not say." in Reader(str(sections.in_force([("1", unknown[0])]))).text
    assert sections.in_force([]) is None


def test_requested_and_reached_are_shown(pages: dict[str, Reader]) -> None:
    assert "Memory writes 200 MiB/s 154 MiB/s 60 MiB/s 60 MiB/s" in pages["demo"].text


def test_a_failed_migration_is_told_by_the_last_look_that_had_figures(tmp_path: Path) -> None:
    """A QEMU whose migration has failed tells none any more."""
    run = run_sample.cancelled(tmp_path / "run")
    migrations = msgspec.json.decode((run / "migrations.json").read_bytes(), type=list[f.Migration])
    last = migrations[-1]
    (run / "migrations.json").write_bytes(msgspec.json.encode([replace(last, qemu={"status": "failed"})]))
    found = data.load(run)
    assert re.search(
        r"[\d.]+ GiB sent in 5 passes, [\d.]+ MiB still to send", verdict.progress_sentence(found, found.migrations[-1])
    )
    silent = replace(last, qemu={"ram": {"transferred": 3 << 20, "remaining": 5 << 20}})
    assert ": 3 MiB sent, 5 MiB still to send." in verdict.progress_sentence(found, silent), "no pass was counted"
    without = replace(found, samples={})
    assert "no progress was reported" in verdict.progress_sentence(without, found.migrations[-1])


def test_nothing_is_drawn_where_nothing_was_read(tmp_path: Path) -> None:
    run = run_sample.demo(tmp_path / "run")
    path = run / "samples" / "progress.csv"
    head, first, *rest = path.read_text().splitlines()
    cells = first.split(",")
    path.write_text("\n".join([head, ",".join([*cells[:2], "setup", *[""] * 6]), *rest]) + "\n")
    found = data.load(run)
    assert found.samples["progress"]["status"][0] == "setup"
    row = timeline.datasets(found)["progress"][0]
    assert row["remaining"] is row["dirty"] is row["throughput"] is row["iteration"] is None


def test_a_rate_that_qemu_did_not_measure_is_neither_drawn_nor_in_the_key(tmp_path: Path) -> None:
    run = run_sample.demo(tmp_path / "run")
    path = run / "samples" / "progress.csv"
    head, *rest = path.read_text().splitlines()
    cells = [line.split(",") for line in rest]
    path.write_text("\n".join([head, *(",".join([*row[:6], "", *row[7:]]) for row in cells)]) + "\n")
    spec, missing = timeline.spec(data.load(run), PRINT)
    assert spec is not None and "dirtied" not in msgspec.json.encode(spec["vconcat"]).decode()
    assert "QEMU measures that from pass to pass" in " ".join(missing)
    whole, missing = timeline.spec(data.load(run_sample.demo(tmp_path / "whole")), PRINT)
    assert whole is not None and "dirtied" in msgspec.json.encode(whole["vconcat"]).decode() and missing == []


def test_long_lists_of_the_environment_are_folded_away() -> None:
    shown = sections.described({"name": "micro", "packages": ["a=1", "b=<2>"], "sha256": {"disk": "00ff"}})
    assert shown[0] == "<span>name: micro</span>"
    assert shown[1] == "<details><summary>packages: 2</summary><p>a=1, b=&lt;2&gt;</p></details>"
    assert shown[2] == "<details><summary>sha256: 1</summary><p>disk: 00ff</p></details>"
    assert sections.described({}) == ["<span>none</span>"]
    sizes = {"region_bytes": 32 << 20, "write_rate_bytes_per_s": 8 << 20}
    assert sections.described(sizes) == ["<span>region: 32 MiB, write rate: 8 MiB/s</span>"]


def test_a_damaged_line_is_left_out_and_said_by_the_one_reader_of_runs(tmp_path: Path) -> None:
    """The summary refuses what the report forgives; both read the other lines alike, wherever a column stands."""
    run = RunDirectory.open(run_sample.demo(tmp_path / "run"))
    path = run.samples / "cpu.csv"
    whole = raw.Reader(run).raw().samples.cpu
    path.write_text(path.read_text().replace("\n", "\nx,2,3\n", 1))
    with pytest.raises(LimosaError, match=r"cpu\.csv cannot be read: x,2,3"):
        summarise(run)
    found = data.load(run.path)
    assert found.complaints == ["samples/cpu.csv has a line that cannot be read."]
    assert found.samples["cpu"]["duration_ns"].tolist() == whole.duration_ns.tolist()
    turned = [[*line.split(",")[::-1], "more"] for line in path.read_text().replace("\nx,2,3\n", "\n").splitlines()]
    path.write_text("".join(f"{','.join(cells)}\n" for cells in turned))
    assert raw.Reader(run).raw().samples.cpu.duration_ns.tolist() == whole.duration_ns.tolist()


def test_without_a_summary_its_figures_are_derived_anew(tmp_path: Path) -> None:
    run = RunDirectory.open(run_sample.demo(tmp_path / "run"))
    expected = summarise(run)
    (run.path / "summary.json").unlink()
    found = data.load(run.path)
    assert found.summary == expected
    assert "The figures are derived anew, because there is no summary." in found.complaints
