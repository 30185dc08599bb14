"""Debian's installation script against a terminal that says what debian-installer was seen to say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from console_program import program

from limosa.events import Events
from limosa.guest.installer import Surprise, debian, play
from limosa.guest.installer.installation import HOST_KEY

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKey limosa-debian"

SAID = r"""
import sys, time
print("Starting system log daemon: syslogd, klogd.")
print("Detecting network hardware  ... 2%... 95%... 100%")
for percent in range(0, 100, 20):
    print(f"... {percent}%", end="", flush=True); time.sleep(0.2)
"""


def test_the_preseed_says_all_that_the_installer_would_ask() -> None:
    wishes = debian.Wishes(hostname="deb", authorized_keys=(KEY,), mirror="http://mirror.example:8080/debian")
    text = debian.preseed(wishes)
    lines = text.splitlines()
    assert all(
        re.match(r"(d-i|tasksel|popularity-contest) \S+/\S+ (string|select|boolean|password|note|multiselect)", x)
        for x in lines
    )
    assert "d-i mirror/http/hostname string mirror.example:8080" in lines
    assert "d-i mirror/http/directory string /debian" in lines
    assert "d-i partman-auto/disk string /dev/vda" in lines
    assert "d-i passwd/root-password-crypted password *" in lines
    (late,) = (line for line in lines if "late_command" in line)
    assert KEY in late
    assert "limosa-hostkey" in late


async def test_progress_keeps_a_slow_installer_alive_and_a_question_ends_it(tmp_path: Path) -> None:
    source = (
        SAID
        + r"""
print("\n[!] Load installer components\nFailed to load installer component\nPrompt: '?' for help> ", end="", flush=True)
time.sleep(30)
"""
    )
    async with program(source, tmp_path) as console:
        with pytest.raises(Surprise, match="asks what no answer was prepared for") as caught:
            await play(debian.install_script(0.7), console, Events())
    assert caught.value.step.name == "load its components"
    assert "Failed to load installer component" in caught.value.message


async def test_a_download_is_tried_again_and_what_the_mirror_lacks_is_shown(tmp_path: Path) -> None:
    source = (
        SAID
        + r"""
print("[   0 start  1 installer  2 shell  3 shell  (4*log)    ][ Nov 23  5:55 ]"); time.sleep(0.5)
asked = "Downloading a file failed:\n  1: Retry [*],  2: Change mirror,      3: Cancel,\n"
asked += "Prompt: '?' for help, default=1> "
for _ in range(3):
    print("\nThe installer failed to download a file from the mirror.\n" + asked, end="", flush=True)
    answer = sys.stdin.readline()
assert answer == "\x014\n", answer
print("\x1b[2J\x1b[HNov 23 06:31:31 net-retriever: regular: pool/main/a/apt-setup/apt-mirror-setup_0.182_all.udeb")
print("Nov 23 06:31:36 anna[2084]: http://mirror.test/debian/pool/main/a/apt-setup/apt-mirror-setup_0.182_all.udeb: ")
print("Nov 23 06:31:36 anna[2084]: 2026-11-23 06:31:36 ERROR 404: Not Found.")
print("Nov 23 06:31:36 anna[2084]: WARNING **: package retrieval failed")
print("\x1b[24;1H[   1 installer  2 shell  3 shell  (4*log)    ][ Nov 23  5:55 ]", end="", flush=True)
time.sleep(30)
"""
    )
    async with program(source, tmp_path) as console:
        with pytest.raises(Surprise, match=r"not give pool/\S+/apt-mirror-setup_0\.182_all\.udeb, 3") as caught:
            await play(debian.install_script(5), console, Events())
    assert "ERROR 404" in caught.value.message


async def test_it_goes_through_to_the_host_key_and_the_end(tmp_path: Path) -> None:
    source = (
        SAID
        + r"""
for text in ("Starting up the partitioner", "Installing the base system", "Configuring apt", "Finishing",
             "limosa-hostkey ssh-ed25519 AAAAHost root@deb", "reboot: Power down"):
    print(text); time.sleep(0.1)
"""
    )
    async with program(source, tmp_path) as console:
        await play(debian.install_script(5), console, Events())
        said = HOST_KEY.search(console.text)
    assert said is not None
    assert said.group(1) == "ssh-ed25519 AAAAHost"
