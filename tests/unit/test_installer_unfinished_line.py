"""What is a question and what is progress, by the lines that installers and their programs leave unfinished."""

from __future__ import annotations

import re

import pytest
import setup_alpine_replay

from limosa.guest.installer.unfinished_line import question

ASKED = (
    "Do you accept the licence? (y/n) [n] ",
    "Continue? [Y/n]",
    "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
    "Proceed with the installation [y/N]: ",
    "Overwrite it (yes/no) ",
    "Enter passphrase for /dev/vda2: ",
    "Password: ",
    "Retype password: ",
    "root@10.0.2.2's password: ",
    "installer login: ",
    "Timezone [UTC]: ",
    "Select an item <default=1>",
    "Prompt: '?' for help, default=1> ",
    "Use 50% of the disk? [y/N] ",
    "Choose the mirror [1-71]: ",
    "Your choice: ",
    "Press any key to continue",
    "Press Enter to reboot: ",
    "[Press enter to continue]",
    "--More-- (12% of 400 bytes)"[:8],
    "(END)",
    "~ # ",
    "/ # ",
    "localhost:~# ",
    "root@lab:/mnt/etc# ",
    "user@lab:~$ ",
    "grub> ",
    "grub rescue> ",
    "(initramfs) ",
    "boot: ",
    "sh-5.2# ",
)

PROGRESS = (
    "(12/43) Installing linux-virt (5.15.32-r0) [fetch http://dl-cdn.alpinelinux.org/alpine/v3.15/main]",
    "[fetch http://dl-cdn.alpinelinux.org/alpine/v3.15/main/x86_64/APKINDEX.tar.gz]",
    "[syncing disks...]",
    "[copying files…]",
    "[waiting for the network]",
    "[downloading]",
    "  98% ################################          ",
    "\u2588\u2588\u2588\u2588\u2588\u2588\u2588\u2588 ",
    "#############",
    "[=====>        ]",
    "[####------]",
    "Creating file systems...",
    " * Starting busybox crond ...",
    "Writing superblocks and filesystem accounting information: ",
    "Writing inode tables:  5/16",
    "Allocating group tables: ",
    "Creating journal (16384 blocks): ",
    "Copying the system (base)",
    "Installing the base system:",
    "Unpacking linux-image (6.1)",
    "Extracting >>>>>>>>",
    "linux.tar.gz  45 MiB/s",
    "12 of 40 files (30%)",
    "[    3.512345] virtio_blk virtio1: [vda] 4194304 512-byte logical blocks (2.15 GB/2.00 GiB)",
    "Installing for i386-pc platform.",
    "  0: 512-byte sectors [vda]",
    "Setting up swapspace version 1, size = 512 MiB (536866816 bytes)",
    "/boot is device /dev/vda1",
    ".......",
    "mkinitfs: [5.15.32-0-virt]",
    "",
)


@pytest.mark.parametrize("line", ASKED)
def test_what_asks_is_a_question(line: str) -> None:
    assert question(line) == line.rstrip()


@pytest.mark.parametrize("line", PROGRESS)
def test_what_shows_how_far_a_program_has_come_is_none(line: str) -> None:
    assert question(line) == ""


def test_every_question_of_every_generation_is_one() -> None:
    """Should limosa not know it: they are what it was made from."""
    for name, questions in setup_alpine_replay.GENERATIONS.items():
        for text, _ in questions:
            line = re.sub(r"\x1b[78]|\x1b\[0K", "", text.removeprefix(setup_alpine_replay.PROGRESS)).rpartition("\n")[2]
            assert question(line), (name, line)
