"""What a machine lacks: room, permission, programs, devices; each really taken away in a mount namespace of its own."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.limosa_command import Command, Done, Traces, as_user

pytestmark = pytest.mark.system

BARE = "hosts: {host1: {}, host2: {}}\nguests: {guest1: {image: bare, host: host1}}\n"


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="limosa-lack-"))
    path.chmod(0o755)
    (path / "bare.yaml").write_text(BARE)
    traces = Traces(path)
    yield path
    Command(path).run("down", "bare.yaml")
    traces.assert_gone(within_s=0)
    shutil.rmtree(path)


def private(home: Path, *lines: str) -> Command:
    """The command line in a mount namespace where *lines* of shell were run first; skips where they cannot be."""
    script = "\n".join(["set -e", *lines, 'exec "$@"'])
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh")
    tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"mounts of one's own cannot be made: {tried.stderr.strip()}")
    return Command(home, prefix)


def mounted(folder: Path, options: str) -> str:
    folder.mkdir()
    return f"mount -t tmpfs -o {options} none {shlex.quote(str(folder))}"


def hiding(home: Path, *programs: str) -> list[str]:
    """Lines that take *programs* out of /usr/bin and /usr/sbin, where every folder on PATH leads to."""
    lines = []
    for folder in ("/usr/bin", "/usr/sbin"):
        upper, work = home / f"upper{folder.replace('/', '-')}", home / f"work{folder.replace('/', '-')}"
        options = f"lowerdir={folder},upperdir={upper},workdir={work}"
        whiteouts = [f"test -e {upper}/{name} || mknod {upper}/{name} c 0 0" for name in programs]
        lines += [f"mkdir -p {upper} {work}", *whiteouts, f"mount -t overlay overlay -o {options} {folder}"]
    return lines


@pytest.mark.parametrize("verb", [("up", "bare.yaml"), ("demo",)], ids=" ".join)
def test_state_directory_is_read_only(home: Path, verb: tuple[str, ...]) -> None:
    command = private(home, mounted(home / "state", "ro"))
    done = command.run(*verb, XDG_STATE_HOME=str(home / "state"))
    done.refused(3, "cannot be written: Read-only file system", hint="set XDG_STATE_HOME to a directory that can be")


@pytest.mark.parametrize(("verb", "size"), [(("up", "bare.yaml"), "16k"), (("demo",), "64m")])
def test_state_directory_is_full(home: Path, verb: tuple[str, ...], size: str) -> None:
    state = home / "state"
    mounting = mounted(state, f"size={size}")
    # A lab that could not be made wholly is taken down; a demo has to do that itself.
    down = " ".join(Command(home).argv("down", "bare.yaml")) if verb != ("demo",) else ":"
    whole = " ".join([*Command(home).argv(*verb), f"; code=$?; {down} 2>&1; find {state} -mindepth 3; exit $code"])
    command = private(home, mounting)
    done = subprocess.run(
        [*command.prefix, "sh", "-c", whole], env=command.env(XDG_STATE_HOME=str(state)), cwd=home, capture_output=True
    )
    ended = Done(verb, done.returncode, done.stdout, done.stderr)
    ended.refused(3, f"no space left in {state}", hint="make room, or set XDG_STATE_HOME to another disk")
    assert [
        line for line in ended.text.splitlines() if not line.startswith(("take lab", "made", "nothing to do"))
    ] == []


@pytest.mark.parametrize(("options", "word"), [("size=64m", "needs 700 MiB"), ("ro", "Read-only file system")])
def test_cache_takes_no_image(home: Path, options: str, word: str) -> None:
    command = private(home, mounted(home / "cache", options))
    done = command.run("demo", XDG_CACHE_HOME=str(home / "cache"))
    done.refused(3, word, hint="XDG_CACHE_HOME")


def test_program_is_missing(home: Path) -> None:
    command = private(home, *hiding(home, "ip", "ssh"))
    line = "apt-get install -y --no-install-recommends iproute2 openssh-client"
    done = command.run("demo", "--no-install")
    done.refused(
        3, "this machine lacks ip, which makes bridges, TAPs and links; ssh, which logs in to guests", hint=line
    )
    assert command.run("demo", "--no-install", "--json").json["hint"] == f"run: {line}"


@pytest.mark.parametrize(("program", "word"), [
    ("ip", "the program ip is not installed on client"),
    ("unshare", "the program unshare is not installed"),
    ("qemu-system-x86_64", "QEMU (qemu-system-x86_64) is not installed on this machine"),
])  # fmt: skip
def test_up_without_a_program(home: Path, program: str, word: str) -> None:
    command = private(home, *hiding(home, program))
    command.run("up", "bare.yaml").refused(
        3, word, hint="limosa doctor" if "qemu" not in program else "qemu-system-x86"
    )
    found = {finding["name"]: finding for finding in command.run("doctor", "--json").json["findings"]}
    assert not found[program]["ok"]
    assert "apt-get install" in found[program]["fix"]


@pytest.mark.parametrize(("said", "word"), [
    ("/nonexistent/qemu", "QEMU (/nonexistent/qemu) is not installed"),
    ("./old", "QEMU on host2 (OLD) is too old: it does not answer query-machines"),
    ("./mute", "QEMU on host2 (MUTE) does not start: Illegal instruction"),
])  # fmt: skip
def test_qemu_of_one_host(home: Path, said: str, word: str) -> None:
    old, mute = home / "old", home / "mute"
    old.write_text(OLD_QEMU)
    mute.write_text('#!/bin/sh\n[ "$1" = --version ] && exec echo QEMU\necho "Illegal instruction" >&2\nexit 132\n')
    for path in (old, mute):
        path.chmod(0o755)
    (home / "bare.yaml").write_text(BARE.replace("host2: {}", f"host2: {{qemu: {said}}}"))
    done = Command(home).run("up", "bare.yaml", XDG_CACHE_HOME=str(home / "cache"))
    done.refused(3, word.replace("OLD", str(old)).replace("MUTE", str(mute)))


OLD_QEMU = """#!/usr/bin/python3
import json, sys
print(json.dumps({"QMP": {"version": {}, "capabilities": []}}), flush=True)
KNOWN = {"qmp_capabilities": {}, "query-version": {"qemu": {"major": 1, "minor": 0, "micro": 0}, "package": ""}}
for line in sys.stdin:
    asked = json.loads(line)
    if asked["execute"] == "quit":
        break
    name = asked["execute"]
    answer = {"return": KNOWN[name]} if name in KNOWN else {"error": {"class": "CommandNotFound", "desc": name}}
    print(json.dumps({**answer, "id": asked.get("id")}), flush=True)
"""
"""A QMP server that answers as one of 2011 would, where the commands of today are unknown."""


def test_machine_type_that_one_host_does_not_know(home: Path) -> None:
    (home / "bare.yaml").write_text(BARE.replace("image: bare,", "image: bare, machine: pc-q35-99.9,"))
    done = Command(home).run("up", "bare.yaml")
    done.refused(3, "does not know the machine type pc-q35-99.9", hint="leave `machine` out of the lab file")


def test_no_tun_device(home: Path) -> None:
    command = private(home, "mount -t tmpfs none /dev/net")
    done = command.run("demo")
    done.refused(3, "/dev/net/tun cannot be opened, so guests can have no network", hint="sudo modprobe tun")
    found = {finding["name"]: finding for finding in command.run("doctor", "--json").json["findings"]}
    assert found["TAP by /dev/net/tun"]["fix"].startswith("sudo modprobe tun")


def test_tun_device_that_a_user_may_not_open(home: Path) -> None:
    script = "mount -t tmpfs none /dev/net && mknod -m 600 /dev/net/tun c 10 200"
    private(home, script)
    command = as_user(home, "unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh")
    (home / "bare.yaml").write_text("hosts: {host1: {}}\nguests: {guest1: {host: host1}}\n")
    done = command.run("up", "bare.yaml")
    done.refused(3, "/dev/net/tun cannot be opened, so guests can have no network", hint="sudo chmod 0666 /dev/net/tun")


def test_no_user_namespaces(home: Path) -> None:
    """Inside a user namespace that may have no further ones, as a container without the permission is."""
    waiting = 'read _ && echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    command = as_user(home, "unshare", "--user", "--keep-caps", "sh", "-c", waiting, "sh")
    for verb in (("up", "bare.yaml"), ("doctor", "--json")):
        child = command.begin(*verb, stdin=subprocess.PIPE)
        own, end = Path("/proc/self/ns/user").readlink(), time.monotonic() + 10
        while Path(f"/proc/{child.pid}/ns/user").readlink() == own and time.monotonic() < end:
            time.sleep(0.01)
        for kind in ("uid", "gid"):
            Path(f"/proc/{child.pid}/{kind}_map").write_text("0 0 65536\n")
        out, err = child.communicate(b"\n")
        done = Done(verb, child.returncode, out, err)
        if verb[0] == "up":
            done.refused(3, "does not let an ordinary user make namespaces", hint="user.max_user_namespaces")
        else:
            found = {finding["name"]: finding for finding in done.json["findings"]}
            assert not found["user namespaces without root"]["ok"]
            assert "user.max_user_namespaces" in found["user namespaces without root"]["fix"]
            assert done.returncode == 3
