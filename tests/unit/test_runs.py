"""``limosa runs``: what is kept, shown, opened and removed; and what ``latest`` means to each verb."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from limosa.cli.app import call
from limosa.cli.columns import print_table
from limosa.cli.printable import printable
from limosa.errors import SpecError, StateError
from limosa.results import archive, store
from limosa.results.store import EventFile, RunDirectory
from tests import run_sample

HOUR_NS = 3600 * 10**9


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs are kept; nobody has a display here."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "limosa" / "runs"


def sample(home: Path, run_id: str, kind: str = "demo", *, hours_ago: float = 0) -> Path:
    path = home / run_id
    path.parent.mkdir(parents=True, exist_ok=True)
    {"demo": run_sample.demo, "calibrate": run_sample.calibrate}[kind](path)
    run = RunDirectory(path)
    began_ns = time.time_ns() - round(hours_ago * HOUR_NS)
    run.write(store.RUN, replace(run.read(store.RUN), id=run_id, started_ns=began_ns))
    return path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert call(words) == 0
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(said(capsys, *words, "--json"))


def test_runs_are_listed_with_what_became_of_them(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no runs yet; limosa demo" in said(capsys, "runs")
    sample(home, "20260101-000001-demo-two-hosts", hours_ago=2)
    (sample(home, "20260101-000002-demo-two-hosts") / "run.json").write_text("{")
    left = RunDirectory.create(kind="watch", lab="shop", guest="web")
    EventFile(left, print).close()
    assert [run["outcome"] for run in told(capsys, "runs")] == ["interrupted", "damaged", "completed"]
    lines = said(capsys, "runs").splitlines()
    assert lines[0].split() == ["run", "what", "began", "lab", "guest", "outcome", "size"]
    assert lines[1].split()[0] == left.id and "interrupted" in lines[1]
    assert lines[3].startswith("20260101-000001-demo-two-hosts  demo   20") and "two-hosts" in lines[3]


def test_a_narrow_terminal_shows_whole_ids(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sample(home, "20260101-000001-bench-during-migration-two-hosts")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for columns, shown in (
        ("200", ["run", "what", "began", "lab", "guest", "outcome", "size"]),
        ("80", ["run", "guest", "outcome"]),
    ):
        monkeypatch.setenv("COLUMNS", columns)
        text = printable(said(capsys, "runs"))
        assert text.split("\n")[1].split() == shown
        assert path.name in text


def test_a_table_cuts_nothing_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    path = "/var/lib/limosa/images/" + "0123456789abcdef" * 4
    print_table(("what", "value"), [("directory", path)])
    lines = printable(capsys.readouterr().out).splitlines()
    assert "".join(line.split()[-1] for line in lines[3:] if line.strip()) == path


def test_a_run_is_shown_without_being_changed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sample(home, "20260101-000001-demo-two-hosts")
    (path / "summary.json").unlink(missing_ok=True)
    before = sorted(path.iterdir())
    text = said(capsys, "runs", "show", "latest")
    assert "Migrations" in text and "completed" in text and str(path) in text and "limosa runs open 20260101" in text
    data = told(capsys, "runs", "show", "2026")
    assert data["run"]["id"] == path.name and len(data["summary"]["migrations"]) == 2
    assert sorted(path.iterdir()) == before


def test_one_that_is_being_written_is_shown_as_far_as_it_goes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory.create(kind="watch", lab="shop", guest="web")
    events = EventFile(run, print)
    text = said(capsys, "runs", "show", run.id)
    assert "running" in text and f"note: the run {run.id} has no migration yet" in text
    assert told(capsys, "runs", "show", run.id)["summary"] is None
    with pytest.raises(StateError, match="has no migration yet"):
        call(["report", run.id])
    events.close()
    assert "interrupted" in said(capsys, "runs", "show", run.id)
    assert said(capsys, "report", run.id) == f"{run.path}/report.html\n", "it will not have one, so waiting is no help"


def test_a_report_is_opened_by_the_persons_browser(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sample(home, "20260101-000001-demo-two-hosts")
    text = said(capsys, "runs", "open")
    assert text.startswith(f"{path}/report.html\n  there is no display here") and (path / "report.html").is_file()
    browser = tmp_path / "my browser"
    browser.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{tmp_path}/opened"\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"nowhere:'{browser}' --page %s")
    assert told(capsys, "runs", "open")["opened"] is True
    assert (tmp_path / "opened").read_text().splitlines() == ["--page", (path / "report.html").as_uri()]
    done = subprocess.run([sys.executable, "-m", "limosa", "runs", "open"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{path}/report.html\n"), done.stderr
    assert len((tmp_path / "opened").read_text().splitlines()) == 4


def test_a_display_without_a_browser_of_ones_own(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from limosa.cli import browser

    opener = tmp_path / "xdg-open"
    opener.write_text("#!/bin/sh\n")
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert browser.command(tmp_path / "a b.html") == []
    monkeypatch.setenv("DISPLAY", ":0")
    assert browser.command(tmp_path / "a b.html") == ["xdg-open", f"file://{tmp_path}/a%20b.html"]


def test_old_runs_go_and_those_being_written_stay(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"2026010{day}-000000-demo-two-hosts" for day in range(1, 6)]
    for number, name in enumerate(names):
        sample(home, name, hours_ago=10 - number)
    written = RunDirectory.create(kind="watch", lab="shop", guest="web", base=home)
    written.path.rename(home / "20260100-000000-watch-shop")
    events = EventFile(RunDirectory(home / "20260100-000000-watch-shop"), print)
    with pytest.raises(SpecError, match="which runs"):
        call(["runs", "prune"])
    would = said(capsys, "runs", "prune", "--keep", "3", "--dry-run")
    assert [line.split()[2].rstrip(":") for line in would.splitlines()] == [names[1], names[0]]
    assert len(list(home.iterdir())) == 6
    assert said(capsys, "runs", "prune", "--keep", "1", "--older-than", "100 h") == "nothing to remove\n"
    gone = told(capsys, "runs", "prune", "--keep", "2", "--older-than", "8.5 h")
    assert [run["id"] for run in gone["removed"]] == [names[1], names[0]] and gone["size_bytes"] > 0
    assert "removed" in said(capsys, "runs", "prune", "--keep", "0")
    assert [path.name for path in home.iterdir()] == ["20260100-000000-watch-shop"]
    events.close()
    RunDirectory(home / "20260100-000000-watch-shop").finish("completed")
    assert "20260100" in said(capsys, "runs", "prune", "--older-than", "0 s")
    assert list(home.iterdir()) == []


def test_a_run_that_is_a_link_goes_without_what_it_leads_to(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = sample(home.parent, "20260101-000000-demo-two-hosts")
    home.mkdir()
    link = home / "20260101-000001-demo-two-hosts"
    link.symlink_to(elsewhere)
    assert f"removed {link.name}" in said(capsys, "runs", "prune", "--keep", "0")
    assert list(home.iterdir()) == [] and (elsewhere / "run.json").exists()


def test_what_is_taken_away_meanwhile_is_no_error(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    going = archive.of(RunDirectory(sample(home, "20260101-000000-demo-two-hosts")))
    assert archive.remove(going)
    assert not archive.remove(going)


def test_what_a_killed_prune_left_is_swept_by_the_next(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample(home, "20260101-000000-demo-two-hosts")
    program = (
        "import os, shutil, signal\nfrom limosa.cli.app import call\n"
        "shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\ncall(['runs', 'prune', '--keep', '0'])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert len(list(home.iterdir())) == 1 and "no runs yet" in said(capsys, "runs")
    sample(home, "20260101-000001-demo-two-hosts")
    said(capsys, "runs", "prune", "--keep", "0")
    assert list(home.iterdir()) == []


def test_a_run_that_is_over_and_needed_still_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the parts of a homework that goes on."""
    run = RunDirectory(sample(home, "20260101-000000-demo-two-hosts"))
    assert archive.of(run).outcome == "completed"
    with archive.held(run):
        assert archive.of(run).outcome == "running"
        assert said(capsys, "runs", "prune", "--keep", "0") == "nothing to remove\n"
    assert archive.of(run).outcome == "completed"
    (run.path / "events.jsonl").unlink()
    with archive.held(run):
        assert archive.of(run).outcome == "completed"


def test_a_writer_that_was_killed_writes_no_more(home: Path) -> None:
    program = (
        "import os, signal\nfrom limosa.results.store import EventFile, RunDirectory\n"
        "run = RunDirectory.create(kind='watch', lab='l', guest='g')\nsink = EventFile(run, print)\n"
        "print(run.id, flush=True)\ninput()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    run = RunDirectory(home / child.stdout.readline().strip())
    assert archive.of(run).outcome == "running"
    assert not archive.remove(archive.of(run))
    child.kill()
    child.communicate()
    assert archive.of(run).outcome == "interrupted"
    assert archive.remove(archive.of(run)) and not run.path.exists()


def test_latest_is_the_last_that_has_what_is_asked_for(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("report", "latest"), ("explain", "--migration", "latest"), ("runs", "show"):
        with pytest.raises(StateError, match="there is no run yet"):
            call(words)
    demo = sample(home, "20260101-000000-demo-two-hosts")
    calibrated = sample(home, "20260102-000000-calibrate-two-hosts", "calibrate")
    empty = RunDirectory.create(kind="demo", lab="two-hosts", guest="guest1")
    EventFile(empty, print).close()
    assert said(capsys, "report", "latest") == f"{calibrated}/report.html\n"
    assert said(capsys, "report") == f"{calibrated}/report.html\n"
    assert told(capsys, "runs", "show")["run"]["id"] == calibrated.name
    assert "migrate-incoming" in said(capsys, "explain", "--migration", "latest")
    (demo / "events.jsonl").write_bytes(b"")
    with pytest.raises(StateError, match="there is no run with a migration in it") as caught:
        call(["explain", "--migration", "latest"])
    assert caught.value.exit_code == 4 and caught.value.hint == "limosa demo makes one"
    with pytest.raises(StateError, match="there is no run of a bench"):
        call(["explain", "--bench", "latest"])
    with pytest.raises(StateError, match="there is no run of a homework"):
        call(["homework", "--again", "latest"])
    with pytest.raises(StateError, match=f"the run {demo.name} has no migration in it"):
        call(["explain", "--migration", demo.name])


def test_a_picture_that_cannot_be_is_no_success(home: Path) -> None:
    run = RunDirectory.create(kind="demo", lab="two-hosts", guest="guest1")
    EventFile(run, print).close()
    run.finish("failed", "the guest did not start")
    with pytest.raises(StateError, match="has no data for a plot") as caught:
        call(["report", run.id, "--png"])
    assert caught.value.hint == f"limosa runs show {run.id}"


def test_verbs_behind_a_verb(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecError, match="there is no verb shwo") as caught:
        call(["runs", "shwo"])
    assert caught.value.hint == "did you mean limosa runs show?"
    page = said(capsys, "runs", "-h")
    assert page.startswith("Usage: limosa runs [OPTIONS], or limosa runs VERB ...\n")
    assert [line.split()[0] for line in page.split("Verbs:\n")[1].split("\n\n")[0].splitlines()] == [
        "show", "open", "prune",
    ]  # fmt: skip
