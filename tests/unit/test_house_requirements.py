"""What is missing, and how it would be installed: nothing is installed here."""

from __future__ import annotations

from pathlib import Path

import pytest

from limosa import requirements
from limosa.errors import MachineError
from limosa.events import Event, Events, Note
from limosa.requirements import DEBIAN, DEMO, OPTIONAL, REQUIREMENTS, install, install_argv, missing, packages


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, and holds apt's lists."""
    monkeypatch.setattr(requirements, "LISTS", tmp_path)
    (tmp_path / "mirror_main_Packages.lz4").touch()
    monkeypatch.setattr(requirements.process, "base_environment", lambda *_: {"PATH": str(tmp_path)})
    return tmp_path


def test_table_covers_what_is_named() -> None:
    assert set(DEMO) | set(OPTIONAL) | set(DEBIAN) == set(REQUIREMENTS)


async def test_missing_programs_in_order(machine: Path) -> None:
    program(machine, "ip", "exit 0")
    assert [r.program for r in await missing(["tc", "ip", "ssh", "tc"])] == ["tc", "ssh"]


@pytest.mark.parametrize(("status", "absent"), [(0, []), (1, ["gcc"])])
async def test_compiler_that_cannot_link_statically_is_missing(machine: Path, status: int, absent: list[str]) -> None:
    program(machine, "gcc", f"exit {status}")
    assert [r.program for r in await missing(["gcc"])] == absent


async def test_unknown_name_is_a_fault_of_the_caller() -> None:
    with pytest.raises(KeyError):
        await missing(["qemu"])


def test_packages_once_and_sorted() -> None:
    chosen = [REQUIREMENTS[name] for name in ("tc", "gcc", "ip")]
    assert packages(chosen) == ("gcc", "iproute2", "libc6-dev")
    assert install_argv(packages(chosen), root=False)[:3] == ["sudo", "apt-get", "install"]


async def test_nothing_missing_does_nothing(machine: Path) -> None:
    await install([], Events())


async def test_no_install_gives_the_line(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(machine, "apt-get", "exit 1")
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 1000)
    with pytest.raises(MachineError, match="lacks tc, which shapes links") as caught:
        await install([REQUIREMENTS["tc"]], Events(), no_install=True)
    assert caught.value.hint == "run: sudo apt-get install -y --no-install-recommends iproute2"


async def test_without_apt_the_programs_are_named(machine: Path) -> None:
    with pytest.raises(MachineError) as caught:
        await install([REQUIREMENTS["tc"], REQUIREMENTS["ssh"]], Events())
    assert caught.value.hint.endswith("tc, ssh")


async def test_without_sudo_and_terminal_nothing_is_tried(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(machine, "apt-get", "exit 1")
    program(machine, "sudo", "exit 1")
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 1000)
    with pytest.raises(MachineError, match="sudo cannot be used") as caught:
        await install([REQUIREMENTS["tc"]], Events(), may_ask=False)
    assert caught.value.hint == "run as root: apt-get install -y --no-install-recommends iproute2"


@pytest.mark.parametrize("uid", [0, 1000])
async def test_lists_are_brought_up_to_date_when_the_first_try_fails(
    machine: Path, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    script = f"""echo "$@" >> {machine}/ran
        [ "$1" = update ] && > {machine}/updated && exit 0
        [ -e {machine}/updated ] || {{ echo 'E: Unable to locate package iproute2' >&2; exit 100; }}
        echo '#!/bin/sh' > {machine}/tc; /bin/chmod 755 {machine}/tc"""
    program(machine, "apt-get", script)
    program(machine, "sudo", '[ "$1" = -n ] && shift; [ "$1" = true ] || exec "$@"')
    monkeypatch.setattr(requirements.os, "geteuid", lambda: uid)
    heard: list[Event] = []
    await install([REQUIREMENTS["tc"]], Events(heard.append), may_ask=False)
    line = "install -y --no-install-recommends iproute2"
    assert (machine / "ran").read_text().splitlines() == [line, "update", line]
    notes = [event.text for event in heard if isinstance(event, Note)]
    assert notes == [f"this machine lacks tc, which shapes links. Installing: {'sudo ' * (uid > 0)}apt-get {line}"]


@pytest.mark.parametrize("uid", [0, 1000])
async def test_a_machine_without_lists_fetches_them_first(
    machine: Path, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    """As the image of a container has none: nothing is tried that must fail, and the line works as it is printed."""
    (machine / "mirror_main_Packages.lz4").unlink()
    program(
        machine,
        "apt-get",
        f"""echo "$@" >> {machine}/ran
        [ "$1" = update ] || {{ echo '#!/bin/sh' > {machine}/tc; /bin/chmod 755 {machine}/tc; }}""",
    )
    program(machine, "sudo", '[ "$1" = -n ] && shift; [ "$1" = true ] || exec "$@"')
    monkeypatch.setattr(requirements.os, "geteuid", lambda: uid)
    sudo, line = "sudo " * (uid > 0), "install -y --no-install-recommends iproute2"
    with pytest.raises(MachineError) as caught:
        await install([REQUIREMENTS["tc"]], Events(), no_install=True)
    assert caught.value.hint == f"run: {sudo}apt-get update && {sudo}apt-get {line}"
    await install([REQUIREMENTS["tc"]], Events(), may_ask=False)
    assert (machine / "ran").read_text().splitlines() == ["update", line]


async def test_lists_that_cannot_be_fetched_are_what_is_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "mirror_main_Packages.lz4").unlink()
    script = "[ $1 = update ] && echo 'E: no network' >&2 || echo 'E: Unable to locate package iproute2' >&2; exit 100"
    program(machine, "apt-get", script)
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 0)
    with pytest.raises(MachineError, match="could not fetch its lists of packages: E: no network"):
        await install([REQUIREMENTS["tc"]], Events())


async def test_failure_carries_the_last_line(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(machine, "apt-get", "echo first >&2; echo 'E: no network' >&2; exit 100")
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 0)
    with pytest.raises(MachineError, match="E: no network"):
        await install([REQUIREMENTS["tc"]], Events())


async def test_success_that_brings_nothing_is_a_failure(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(machine, "apt-get", "exit 0")
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 0)
    with pytest.raises(MachineError, match="tc is still missing"):
        await install([REQUIREMENTS["tc"]], Events())
