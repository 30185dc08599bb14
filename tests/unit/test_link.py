"""The link's far end as it is sent, and what both ends do without a machine elsewhere."""

from __future__ import annotations

import ast
import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from limosa import bundle
from limosa.errors import UnreachableError
from limosa.hosts.link import near, wire
from limosa.hosts.link.far import claims, frames, system
from limosa.hosts.link.local_file import pieces


@pytest.mark.parametrize("path", sorted(wire.FAR.glob("*.py")), ids=lambda path: path.stem)
def test_the_far_end_is_python_3_8_of_the_standard_library(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split(".")[0] in sys.stdlib_module_names or name.startswith("limosa.hosts.link.far"), name


def test_every_module_of_the_far_end_is_sent() -> None:
    assert {path.stem for path in wire.FAR.glob("*.py")} - {"__init__"} == set(wire._MODULES)


def test_the_far_end_says_that_it_has_begun_and_ends_with_its_input() -> None:
    done = subprocess.run(bundle.command(sys.executable), input=wire.program(), capture_output=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == frames.MAGIC


def test_what_is_cut_off_on_the_way_is_no_program() -> None:
    done = subprocess.run(bundle.command(sys.executable), input=wire.program()[:-9], capture_output=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, b"")


class FakeWire:
    """A wire that says what it is given, then falls silent or ends."""

    def __init__(self, *said: bytes, ends: bool) -> None:
        self.said, self.ends, self.closed = list(said), ends, False

    async def read(self) -> bytes:
        if self.said:
            return self.said.pop(0)
        if not self.ends:
            await asyncio.sleep(3600)
        return b""

    def write(self, data: bytes) -> None: ...

    async def close(self) -> None:
        self.closed = True

    async def last_words(self) -> str:
        return "python3: not found"


async def test_a_far_end_that_ends_is_quoted() -> None:
    fake = FakeWire(b"welcome\n", ends=True)
    with pytest.raises(near.BeginError, match=r"(?s)welcome.*python3: not found"):
        await near.Link.open(fake, "host1")
    assert fake.closed


async def test_a_far_end_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "BEGIN_S", 0.01)
    fake = FakeWire(ends=False)
    with pytest.raises(UnreachableError, match="did not begin"):
        await near.Link.open(fake, "host1")
    assert fake.closed


async def test_silence_counts_as_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "PING_S", 0.005)
    answer = frames.HEADER.pack(frames.ANSWER, 0, 1, 2) + b"{}"
    link = await near.Link.open(FakeWire(frames.MAGIC, answer, ends=False), "host1")
    with pytest.raises(UnreachableError, match="the connection to host1 was lost"):
        await link.ask(do="facts")
    await link.close()


@pytest.mark.parametrize(
    ("systemd", "root", "lingers", "wanted"),
    [
        (False, True, False, []),
        (True, True, False, ["systemd-run", "--scope"]),
        (True, False, True, ["systemd-run", "--user"]),
        (True, False, False, []),
    ],
)
def test_what_is_kept_gets_a_scope_where_systemd_would_end_it(
    systemd: bool, root: bool, lingers: bool, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda path: systemd)
    monkeypatch.setattr(system, "lingers", lambda: lingers)
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1234)
    monkeypatch.setattr(system.shutil, "which", lambda name: f"/usr/bin/{name}")
    words = system.kept_words(["sleep", "1"])
    assert words[-2:] == ["sleep", "1"]
    assert words[: len(wanted)] == wanted and (wanted or len(words) == 2)


@pytest.mark.parametrize(("variable", "lingers", "wanted"), [
    ("login", False, "/tmp/limosa-{uid}-lab"),
    ("login", True, "{login}/limosa-lab"),
    ("own", False, "{own}/limosa-lab"),
    ("absent", False, "/tmp/limosa-{uid}-lab"),
])  # fmt: skip
def test_a_lab_is_not_kept_where_the_last_logout_removes_it(
    variable: str, lingers: bool, wanted: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uid, login, own = os.getuid(), tmp_path / "login", tmp_path / "own"
    login.mkdir()
    own.mkdir()
    monkeypatch.setattr(claims, "login_directory", lambda: str(login))
    monkeypatch.setattr(claims, "lingers", lambda: lingers)
    monkeypatch.setattr(os, "geteuid", lambda: uid or 12345)
    monkeypatch.setattr(os, "stat", lambda path: SimpleNamespace(st_uid=uid or 12345))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str({"login": login, "own": own, "absent": login}[variable]))
    if variable == "absent":
        monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert claims.directory("lab") == wanted.format(uid=uid or 12345, login=login, own=own)


def test_a_lab_stays_where_it_is_when_its_user_lingers_no_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uid = os.getuid()
    monkeypatch.setattr(claims, "login_directory", lambda: str(tmp_path))
    monkeypatch.setattr(claims, "lingers", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: uid or 12345)
    monkeypatch.setattr(os, "stat", lambda path: SimpleNamespace(st_uid=uid or 12345))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert f"{tmp_path}/limosa-lab" not in claims._places("lab")
    (tmp_path / "limosa-lab").mkdir()
    assert f"{tmp_path}/limosa-lab" in claims._places("lab")


def test_a_lab_stays_where_it_is_when_its_user_begins_to_linger(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there, better = tmp_path / "there", tmp_path / "better"
    monkeypatch.setattr(claims, "_places", lambda lab: iter([str(better), str(there)]))
    assert claims.directory("lab") == str(better)
    there.mkdir()
    assert claims.directory("lab") == str(there)


def test_holes_are_left_out(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        file.seek(8 << 20)
        file.write(b"x" * 100)
        file.truncate(64 << 20)
        file.flush()
        found = list(pieces(file.fileno()))
        assert sum(len(data) for _, data in found) < 1 << 20
        assert any(place <= 8 << 20 < place + len(data) for place, data in found)


def test_a_claim_is_known_again_and_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "directory", lambda lab: str(tmp_path / lab))
    assert claims.claim("lab", "me", "host1")["ours"]
    assert (tmp_path / "lab").stat().st_mode & 0o777 == 0o700
    assert claims.claim("lab", "me", "host1")["ours"]
    assert claims.claim("lab", "me", "host2")["whose"] == "host host1 of the same lab"
    assert not claims.claim("lab", "you", "host1")["ours"]
    assert not claims.release("lab", "you")["ours"]
    assert (tmp_path / "lab").exists()
    claims.release("lab", "me")
    assert not (tmp_path / "lab").exists()


def test_a_directory_without_a_mark_belongs_to_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "directory", lambda lab: str(tmp_path / lab))
    (tmp_path / "lab").mkdir()
    assert not claims.claim("lab", "me", "host1")["ours"]
    (tmp_path / "link").symlink_to(tmp_path / "lab")
    with pytest.raises(PermissionError):
        claims.look("link", "me")
