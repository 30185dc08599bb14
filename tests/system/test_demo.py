"""``limosa demo`` as a person runs it: what it says, what its run directory holds, and that it leaves no more."""

from __future__ import annotations

import asyncio
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report_browser import PANES, browse, panes_with_data, works

from limosa.events import Events
from limosa.guest.agent import executable
from limosa.results import store
from tests import micro_image
from tests.limosa_command import SOURCE, Command, Done, Traces

pytestmark = pytest.mark.system
__all__ = ["works"]

CHECKS = {
    "disk-writes", "memory-checksum", "memory-writes", "ssh-session", "tcp-connection", "guest-alive", "single-copy",
}  # fmt: skip
CLOCKS = ("qemu_downtime_ms", "stop_resume_ms", "tick_gap_ms", "echo_gap_ms", "service_stall_ms", "guest_lost_ms")
SAMPLES = ("ticks", "echo", "service", "cpu", "progress")
ORDINARY_USER = 12345


@pytest.fixture(scope="module")
def image() -> Path:
    """The micro image, so that no test's time holds its building."""
    return micro_image.at_hand()


def _place() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="limosa-demo-"))
    yield home
    shutil.rmtree(home)


home = pytest.fixture(scope="module")(_place)
users_home = pytest.fixture(scope="module")(_place)


@pytest.fixture(scope="module")
def demo(image: Path, home: Path) -> tuple[Command, Done, Traces]:
    """One demo, as whoever runs the tests."""
    command, traces = Command(home), Traces(home)
    return command, command.run("demo", "--json", timeout_s=240), traces


def test_demo_is_done_and_says_so_in_one_json_document(demo: tuple[Command, Done, Traces]) -> None:
    command, done, traces = demo
    assert done.returncode == 0, done
    _check_result(done.json)
    assert done.json["run"] == str(command.runs[0])
    traces.assert_gone(within_s=0)


def _check_result(said: dict[str, Any]) -> None:
    assert said["passed"] is True
    rows = said["summary"]["migrations"]
    assert [(row["source"], row["target"], row["outcome"]) for row in rows] == [
        ("host1", "host2", "completed"),
        ("host2", "host1", "completed"),
    ]
    assert {check["name"] for check in said["summary"]["checks"]} == CHECKS
    assert [check for check in said["summary"]["checks"] if not check["passed"]] == []
    assert "clock ran" not in " ".join(said["summary"]["remarks"]), "the guest's clock is right on a busy machine too"
    summary = said["summary"]
    assert summary["rest"]["length_s"] > 3 and summary["rest"]["service_stall_ms"] is not None
    assert [rate["name"] for rate in summary["rates"]] == ["memory writes", "disk writes", "ticks", "echoes"]
    assert all(rate["at_rest"] and len(rate["moving"]) == 2 for rate in summary["rates"]), summary["rates"]
    for row in rows:
        assert row["clock_behind_ms"] == pytest.approx(row["clocks"]["guest_lost_ms"], abs=5), "nobody sets its time"
        readings = {clock: row["clocks"][clock] for clock in CLOCKS}
        assert all(reading is not None and reading >= 0 for reading in readings.values()), readings
        # A pause that clients see contains the pause of the guest, but for what the clocks' resolution hides.
        assert readings["tick_gap_ms"] >= readings["stop_resume_ms"] - 5, readings


def test_run_directory_is_complete(demo: tuple[Command, Done, Traces]) -> None:
    command, _, _ = demo
    run = store.RunDirectory.open(command.runs[0])
    head = run.read(store.RUN)
    assert (head.status, head.error, head.incomplete) == ("completed", "", [])
    assert head.ended_ns is not None and head.ended_ns > head.started_ns
    for document in store.DOCUMENTS:
        if document is not store.PAUSES:
            run.read(document)
    for name in SAMPLES:
        with (run.samples / f"{name}.csv").open() as file:
            rows = sum(1 for _ in csv.reader(file)) - 1
        # Each of the two moves is looked at for as long as it takes, twice at the least.
        assert rows >= (4 if name == "progress" else 20), name
    assert (run.path / "report.html").stat().st_size > 100_000
    stages = [event.stage for event in store.read_events(run) if event.name == "stage-finished"]  # type: ignore[attr-defined]
    assert stages == [
        "set the guest to work",
        "measure the guest at rest",
        "migrate guest1 host1 → host2",
        "migrate guest1 host2 → host1",
        "check that nothing was lost",
    ]


def test_report_shows_data_in_a_browser(demo: tuple[Command, Done, Traces], works: None, tmp_path: Path) -> None:
    command, _, _ = demo
    page, picture = command.runs[0] / "report.html", tmp_path / "page.png"
    arguments = ["--window-size=1400,3600", f"--screenshot={picture}", "--dump-dom"]
    seen = browse(tmp_path / "profile", page.as_uri(), *arguments)
    assert [line for line in seen.stderr.splitlines() if "CONSOLE" in line] == []
    assert 'data-status="drawn"' in seen.stdout
    assert PANES["demo"] <= panes_with_data(seen.stdout)
    assert picture.stat().st_size > 120_000


def test_report_can_be_made_again_from_the_run(demo: tuple[Command, Done, Traces]) -> None:
    command, _, _ = demo
    page = command.runs[0] / "report.html"
    page.unlink()
    assert command.ok("report", "--csv").text.splitlines()[0] == str(page)
    assert page.stat().st_size > 100_000


def test_explain_migration_tells_what_was_said_to_qemu(demo: tuple[Command, Done, Traces]) -> None:
    command, _, _ = demo
    said = command.ok("explain", "--migration", "latest", "--json").json
    given = [row["what"] for row in said]
    for name in ("migrate-set-capabilities", "migrate-incoming", "migrate-set-parameters", "migrate"):
        assert any(f'"{name}"' in what for what in given), (name, given)
    assert all(row["purpose"] for row in said)


def test_ordinary_user_needs_no_root(image: Path, users_home: Path) -> None:
    command, traces = _ordinary(users_home, image), Traces(users_home)
    done = command.run("demo", timeout_s=240)
    assert done.returncode == 0, done
    lines = done.text.splitlines()
    rows = {line.split()[0]: line.split()[1] for line in lines if line.startswith(tuple(CHECKS))}
    assert rows == dict.fromkeys(CHECKS, "ok")
    assert lines[-1] == f"report: {command.runs[0] / 'report.html'}"
    assert command.runs[0].stat().st_uid == ORDINARY_USER
    traces.assert_gone(within_s=0)


def _ordinary(home: Path, image: Path) -> Command:
    """The command line as an ordinary user, with a copy of the cached image and a /dev/net/tun as it is elsewhere."""
    if os.geteuid() != 0:
        pytest.skip("not root, so the other tests ran as an ordinary user already")
    cache = home / "cache" / "limosa"
    (cache / "images").mkdir(parents=True)
    (cache / "agent").mkdir()
    subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", str(image), str(cache / "images")], check=True)
    shutil.copy(asyncio.run(executable.ensure(Events())), cache / "agent")
    for path in (home, *home.rglob("*")):
        os.chown(path, ORDINARY_USER, ORDINARY_USER)
    # ssh-keygen wants its user to have a name.
    passwd = home / "passwd"
    passwd.write_text(Path("/etc/passwd").read_text() + f"limosa:x:{ORDINARY_USER}:{ORDINARY_USER}::{home}:/bin/sh\n")
    script = f"mount --bind {passwd} /etc/passwd && mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200"
    user = ["--reuid", str(ORDINARY_USER), "--regid", str(ORDINARY_USER), "--clear-groups", "--"]
    # What setpriv itself starts is still found with root's right to search; what that starts is not.
    through = ["sh", "-c", 'exec "$@"', "sh"]
    prefix = ("unshare", "--mount", "sh", "-c", f'{script} && exec setpriv "$@"', "sh", *user, *through)
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    environment = {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(cache.parent),
        "PYTHONPATH": ":".join([str(SOURCE), *libraries]),
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    }
    for python in (sys.executable, "/usr/bin/python3"):
        command = Command(home, prefix, environment, (python,))
        tried = command.run("--version")
        if tried.returncode == 0:
            return command
    pytest.skip(f"no ordinary user can be had here: {tried.errors.strip()[-200:]}")
