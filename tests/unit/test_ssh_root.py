"""How work gets root on a machine over SSH: by sudo, by Alpine's doas, or not at all; and whose connection is ended."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from limosa.errors import MachineError
from limosa.hosts.link.far import system
from limosa.hosts.ssh import host as ssh
from limosa.hosts.ssh.way_in import Machine

SHELL = shutil.which("sh") or "/bin/sh"


def as_root(folder: Path, *asks: str) -> subprocess.CompletedProcess[str]:
    """What the far command line does where only *asks* are on the PATH."""
    for name in asks:
        program = folder / name
        program.write_text(f'#!{SHELL}\necho {name} "$@"\n')
        program.chmod(0o755)
    argv = [SHELL, "-c", ssh._AS_ROOT, "sh", "python3", "-c", "a b"]
    return subprocess.run(argv, env={"PATH": str(folder)}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (("sudo",), "sudo -n -- python3 -c a b\n"),
        (("doas",), "doas -n -- python3 -c a b\n"),
        (("doas", "sudo"), "sudo -n -- python3 -c a b\n"),
    ],
)
def test_what_makes_us_root(tmp_path: Path, there: tuple[str, ...], said: str) -> None:
    done = as_root(tmp_path, *there)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


# What each says when it may not, word for word; doas is opendoas 6.8.2.
REFUSALS = {
    "sudo: a password is required": ("sudo on host1 does not let", "NOPASSWD"),
    "doas: doas is not enabled, /etc/doas.conf: No such file or directory": ("doas on host1 does not let", "permit"),
    "doas: Operation not permitted": ("doas on host1 does not let", "permit nopass"),
    "doas: Authentication required": ("doas on host1 does not let", "permit nopass"),
}


@pytest.mark.parametrize("said", REFUSALS)
def test_who_is_not_let_says_who_does_not_let(said: str) -> None:
    error = ssh.SshOpener("host1", Machine.parse("machine1")).refused(said, as_root=True)
    sentence, hint = REFUSALS[said]
    assert isinstance(error, MachineError) and sentence in error.message and hint in error.hint


def test_where_there_is_neither_that_is_said(tmp_path: Path) -> None:
    done = as_root(tmp_path)
    assert done.returncode == 127
    error = ssh.SshOpener("host1", Machine.parse("machine1")).refused(done.stderr.strip(), as_root=True)
    assert error.message.startswith("there is neither sudo nor doas on host1") and "log in as root" in error.hint


@pytest.mark.parametrize("name", ["sshd", "sshd-session", "dropbear"])
def test_whose_connection_is_ended(tmp_path: Path, name: str) -> None:
    """A process of that name; it is asked for as a parent of the far end."""
    program = tmp_path / name
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with subprocess.Popen([str(program), "60"]) as child:
        try:
            # posix_spawn may be used, whose child has the name of its parent until it has become the program.
            end_s = time.monotonic() + 30
            while f"({name})" not in Path(f"/proc/{child.pid}/stat").read_text() and time.monotonic() < end_s:
                time.sleep(0.01)
            system.hang_up_sshd(child.pid)
            assert child.wait(30) == -15
        finally:
            child.kill()
