"""Which line of a program's words is kept: the words are those that such programs print."""

from __future__ import annotations

import asyncssh
import pytest

from limosa.errors import LimosaError
from limosa.guest.installer import login
from limosa.guest.installer.cause import cause, cause_or_last

APK = """\
fetch https://dl-cdn.alpinelinux.org/alpine/v3.15/main/x86_64/APKINDEX.tar.gz
WARNING: Ignoring https://dl-cdn.alpinelinux.org/alpine/v3.15/main: temporary error (try again later)
ERROR: unable to select packages:
  sysbench (no such package):
    required by: world[sysbench]
"""


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (APK.partition("\n")[2].partition("\n")[2], "ERROR: unable to select packages: sysbench (no such package): "
         "required by: world[sysbench]"),
        ("mount: mounting /dev/vda3 on /mnt failed: No such device\nsync\ndone\n",
         "mount: mounting /dev/vda3 on /mnt failed: No such device"),
        ("tar: No space left on device\n3 files\nexiting now\n", "tar: No space left on device"),
        ("checked: 0 errors, 3 files\ndone\n", ""),
        ("Creating file systems...\nRebooting\n", ""),
    ],
)  # fmt: skip
def test_the_line_that_tells_why_is_kept(said: str, kept: str) -> None:
    assert cause(said) == kept


def test_where_none_tells_why_the_last_line_is_kept() -> None:
    assert cause_or_last("one\ntwo\n") == "two"
    assert cause_or_last(" \n") == "it said nothing"
    assert len(cause_or_last("error " + "x" * 5000)) == 300


class _Connection:
    """A connection whose command fails with *said*: it is an answer to read, no system is needed for it."""

    def __init__(self, said: str) -> None:
        self.said = said

    async def run(self, *_: object, **__: object) -> asyncssh.SSHCompletedProcess:
        return asyncssh.SSHCompletedProcess(exit_status=1, stdout=b"OK: 5 packages\n", stderr=self.said.encode())


async def test_what_a_command_over_ssh_failed_of_is_in_its_error() -> None:
    with pytest.raises(LimosaError, match=r"temporary error \(try again later\)$"):
        await login.run(_Connection(APK), "apk add sysbench", 1)  # type: ignore[arg-type]
