from __future__ import annotations

import asyncio
import importlib
import subprocess
from pathlib import Path

import pytest
from agent_process import program

from limosa.errors import MachineError
from limosa.events import CommandRan, Event, Events
from limosa.guest.agent import build, source_digest


def test_the_digest_follows_the_sources_and_the_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = importlib.import_module("limosa.guest.agent.executable")
    before = source_digest()
    monkeypatch.setattr(module, "FLAGS", (*module.FLAGS, "-g"))
    with_flag = source_digest()
    monkeypatch.undo()
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    monkeypatch.setattr(module, "SOURCE", tmp_path)
    assert len({before, with_flag, source_digest()}) == 3
    assert len(before) == 64


async def test_a_missing_compiler_is_said_with_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("limosa.process.base_environment", lambda extra=None: {"PATH": str(tmp_path)})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError) as caught:
        await build(tmp_path / "limosa-agent", Events())
    assert caught.value.hint == "apt install gcc libc6-dev"
    assert list(tmp_path.iterdir()) == []


def test_the_program_is_static() -> None:
    head = program().read_bytes()[:64]
    assert head[:4] == b"\x7fELF"
    assert b"INTERP" not in subprocess.run(["readelf", "-lW", program()], capture_output=True).stdout


def test_a_build_is_announced(tmp_path: Path) -> None:
    program()
    heard: list[Event] = []
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "main.c").write_text("int main(void) { return 0; }\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("limosa.guest.agent.executable"), "SOURCE", tmp_path / "source")
        asyncio.run(build(tmp_path / "out", Events(heard.append)))
    assert [type(event) for event in heard] == [CommandRan]
    assert (tmp_path / "out").exists()
