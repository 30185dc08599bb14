"""The counter of leftovers counts: each kind of thing is left on purpose and has to be seen."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leftovers

ROOT = Path(__file__).parents[2]


@pytest.fixture
def mark() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lmark") as folder:  # short: socket paths end at 108 bytes
        yield Path(folder)


def test_nothing_left_is_no_difference(mark: Path) -> None:
    before = leftovers.snapshot([mark])
    subprocess.run(["true"], check=True)
    assert leftovers.wait_settled(before, 1) == []


def test_a_child_is_seen_until_it_is_collected(mark: Path) -> None:
    before = leftovers.snapshot([mark])
    child = subprocess.Popen(["sleep", "60"])
    try:
        (line,) = leftovers.difference(before, leftovers.snapshot([mark]))
        assert line.startswith(f"process {child.pid}: sleep 60")
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        (line,) = leftovers.difference(before, leftovers.snapshot([mark]))
        assert line == f"process {child.pid}: sleep (has ended, but nobody collected it)"
    finally:
        child.kill()
        child.wait()
    assert leftovers.difference(before, leftovers.snapshot([mark])) == []


def orphan(argv: list[str], env: dict[str, str]) -> int:
    """Start a process whose parent ends at once; its pid."""
    script = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], start_new_session=True, stdout=2).pid)"
    done = subprocess.run([sys.executable, "-c", script, *argv], env=env, check=True, stdout=subprocess.PIPE)
    return int(done.stdout)


@pytest.mark.parametrize("where", ["environment", "command line"])
def test_an_orphan_is_seen_by_its_mark(mark: Path, where: str) -> None:
    before = leftovers.snapshot([mark])
    env = dict(os.environ) | ({"XDG_STATE_HOME": str(mark)} if where == "environment" else {})
    words = [str(mark)] if where == "command line" else []
    pid = orphan(["sh", "-c", "sleep 60; true", "sh", *words], env)
    try:
        assert [line for line in leftovers.difference(before, leftovers.snapshot([mark])) if str(pid) in line]
    finally:
        os.killpg(pid, signal.SIGKILL)
    assert leftovers.wait_settled(before) == []


def test_a_stranger_is_not_counted(mark: Path) -> None:
    before = leftovers.snapshot([mark])
    pid = orphan(["sleep", "60"], dict(os.environ))
    try:
        assert leftovers.difference(before, leftovers.snapshot([mark])) == []
    finally:
        os.kill(pid, signal.SIGKILL)


def test_sockets_fifos_and_folders_are_seen(mark: Path) -> None:
    before = leftovers.snapshot([mark])
    with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as abstract:
        bound.bind(str(mark / "a.sock"))
        abstract.bind(f"\0limosa-test-{os.getpid()}")
        os.mkfifo(mark / "a.fifo")
        (mark / "limosa/labs/forgotten").mkdir(parents=True)
        seen = "\n".join(leftovers.difference(before, leftovers.snapshot([mark])))
    for text in (f"{mark}/a.sock (bound", f"{mark}/a.sock (file)", "@limosa-test", "a.fifo", "labs/forgotten"):
        assert text in seen
    left = leftovers.difference(before, leftovers.snapshot([mark]))
    assert any("a.sock (file)" in line for line in left), "the file stays when the socket is closed"


IN_A_NAMESPACE = """
import subprocess, sys
from tests import leftovers
before = leftovers.snapshot([sys.argv[1]])
subprocess.run(["ip", "link", "add", "name", "left0", "type", "bridge"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "left", "/mnt"], check=True)
argv = ["unshare", "--net", "--uts", "sh", "-c", "echo ready; sleep 60; true"]
child = subprocess.Popen(argv, stdout=subprocess.PIPE)
child.stdout.readline()
print("\\n".join(leftovers.difference(before, leftovers.snapshot([sys.argv[1]]))))
child.kill()
child.wait()
pinned = sys.argv[1] + "/pinned"
open(pinned, "w").close()
subprocess.run(["unshare", "--net=" + pinned, "true"], check=True)
print("\\n".join(leftovers.difference(before, leftovers.snapshot([sys.argv[1]]))))
"""


def test_mounts_interfaces_and_namespaces_are_seen(mark: Path) -> None:
    """Left inside namespaces made for this test, so that the machine is not touched."""
    outer = [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    if os.geteuid() == 0:
        outer = [word for word in outer if word not in ("--user", "--map-root-user")]
    if subprocess.run([*outer, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let us make namespaces")
    script = textwrap.dedent(IN_A_NAMESPACE)
    done = subprocess.run(
        [*outer, sys.executable, "-c", script, str(mark)],
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for text in ("interface left0", "mount /mnt (tmpfs left)", "namespace net:[", "namespace uts:[", "process "):
        assert text in done.stdout
    assert "namespace pipe:" not in done.stdout and "namespace socket:" not in done.stdout
    assert f"namespace pinned by the mount {mark}/pinned" in done.stdout


def test_limosas_name_counts_where_nobody_else_uses_it(mark: Path) -> None:
    before = leftovers.snapshot([mark], alone=True)
    with tempfile.TemporaryDirectory(prefix="limosa-left") as folder:
        assert f"folder {folder}" in leftovers.difference(before, leftovers.snapshot([mark], alone=True))
        assert leftovers.difference(before, leftovers.snapshot([mark])) == []


def test_others_are_known_by_name() -> None:
    for name in ("docker0", "veth1a2b3c4", "br-0123456789ab", "virbr0", "vnet3"):
        assert leftovers.OTHERS_INTERFACES.fullmatch(name)
    for name in ("br0", "host1.0", "guests", "tap0", "eth1", "veth0"):
        assert not leftovers.OTHERS_INTERFACES.fullmatch(name)


def test_a_mark_has_to_be_a_path() -> None:
    with pytest.raises(ValueError, match="nobody else uses"):
        leftovers.snapshot(["/"])
