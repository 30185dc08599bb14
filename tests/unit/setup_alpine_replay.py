"""A terminal that asks what an Alpine medium and its setup-alpine ask, in the words of one generation after another.

It runs as a program behind a real pseudo-terminal. It is strict: a wrong answer, an answer to a question that was
not asked yet, or none at all ends it with a line that begins with ``REPLAY:``. Nothing is installed.

Which questions each generation asks, and with which words, was seen on consoles and in the history of alpine-conf
(https://gitlab.alpinelinux.org/alpine/alpine-conf); long lists and banners are left out.
"""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import time

MAIN = "https://dl-cdn.alpinelinux.org/alpine/v3.15/main"
HOSTNAME, PASSWORD_LENGTH = "lab-alpine", 24
BLOCK = "\u2588"
PROGRESS = "".join(f"\x1b7{n:3}% {sign * (n // 10)}   \x1b8\x1b[0K" for sign in (BLOCK, "#") for n in (0, 55, 100))
SECRET = "(secret)"
KEY = "(key)"
"""Behind what is typed as one key, without Enter."""

NETWORK = (
    ("Which one do you want to initialize? (or '?' or 'done') [eth0] ", ""),
    ("Ip address for eth0? (or 'dhcp', 'none', '?') [dhcp] ", "dhcp"),
)
PASSWORDS = (("New password: ", SECRET), ("Retype password: ", SECRET))
DISK = (
    ("Which disk(s) would you like to use? (or '?' for help or 'none') [none] ", "vda"),
    ("How would you like to use it? ('sys', 'data', 'crypt', 'lvm' or '?' for help) [?] ", "sys"),
    ("\nWARNING: Erase the above disk(s) and continue? (y/n) [n] ", "y"),
)
OLD_DISK = (
    DISK[0],
    ("How would you like to use it? ('sys', 'data', 'lvm' or '?' for help) [?] ", "sys"),
    ("WARNING: Erase the above disk(s) and continue? [y/N]: ", "y"),
)
OLD_MIRROR = "Enter mirror number (1-71) or URL to add (or r/f/e/done) [%s] "
SERVER = (PROGRESS + "Allow root ssh login? ('?' for help) [prohibit-password] ", "prohibit-password")

GENERATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    # Always asks for the keymap; no user, no root login; NTP after SSH.
    "3.13": (
        ("Select keyboard layout [none]: ", "none"),
        ("Enter system hostname (short form, e.g. 'foo') [localhost] ", HOSTNAME),
        *NETWORK,
        ("Do you want to do any manual network configuration? [no] ", "no"),
        *PASSWORDS,
        ("Which timezone are you in? ('?' for list) [UTC] ", "UTC"),
        ("HTTP/FTP proxy URL? (e.g. 'http://proxy:8080', or 'none') [none] ", "none"),
        (OLD_MIRROR % "f", "done"),
        (PROGRESS + "Which SSH server? ('openssh', 'dropbear' or 'none') [openssh] ", "openssh"),
        ("Which NTP client to run? ('busybox', 'openntpd', 'chrony' or 'none') [chrony] ", "none"),
        *OLD_DISK,
    ),
    "3.15": (
        ("Select keyboard layout: [none] ", "none"),
        ("Enter system hostname (fully qualified form, e.g. 'foo.example.org') [localhost] ", HOSTNAME),
        *NETWORK,
        ("Do you want to do any manual network configuration? (y/n) [n] ", "n"),
        *PASSWORDS,
        ("Which timezone are you in? ('?' for list) [UTC] ", "UTC"),
        ("HTTP/FTP proxy URL? (e.g. 'http://proxy:8080', or 'none') [none] ", "none"),
        ("Which NTP client to run? ('busybox', 'openntpd', 'chrony' or 'none') [chrony] ", "none"),
        (OLD_MIRROR % "1", "done"),
        ("Which SSH server? ('openssh', 'dropbear' or 'none') [openssh] ", "openssh"),
        *DISK,
    ),
    # No keymap on a serial console, no NTP under the KVM clock; asks for a user and about root.
    "3.17": (
        ("Enter system hostname (fully qualified form, e.g. 'foo.example.org') [localhost] ", HOSTNAME),
        *NETWORK,
        ("Do you want to do any manual network configuration? (y/n) [n] ", "n"),
        *PASSWORDS,
        ("Which timezone are you in? ('?' for list) [UTC] ", "UTC"),
        ("HTTP/FTP proxy URL? (e.g. 'http://proxy:8080', or 'none') [none] ", "none"),
        (OLD_MIRROR % "1", "done"),
        ("Setup a user? (enter a lower-case loginname, or 'no') [no] ", "no"),
        ("Which ssh server? ('openssh', 'dropbear' or 'none') [openssh] ", "openssh"),
        SERVER,
        ("Enter ssh key or URL for root (or 'none') [none] ", "none"),
        *DISK,
    ),
    "3.19": (
        ("Enter system hostname (fully qualified form, e.g. 'foo.example.org') [localhost] ", HOSTNAME),
        *NETWORK,
        ("Do you want to do any manual network configuration? (y/n) [n] ", "n"),
        *PASSWORDS,
        ("Which timezone are you in? (or '?' or 'none') [UTC] ", "UTC"),
        ("HTTP/FTP proxy URL? (e.g. 'http://proxy:8080', or 'none') [none] ", "none"),
        ("Which NTP client to run? ('busybox', 'openntpd', 'chrony' or 'none') [busybox] ", "none"),
        ("wget: bad address\n (skip) Skip setting up apk repositories\n\nEnter mirror number or URL: [1] ", "skip"),
        ("Setup a user? (enter a lower-case loginname, or 'no') [no] ", "no"),
        ("Which ssh server? ('openssh', 'dropbear' or 'none') [openssh] ", "openssh"),
        SERVER,
        ("Enter ssh key or URL for root (or 'none') [none] ", "none"),
        *DISK,
    ),
}
# With a network the mirror is taken from the list; older scripts ask again whether that was all.
GENERATIONS["3.15-online"] = tuple(
    pair
    for prompt, answer in GENERATIONS["3.15"]
    for pair in (
        ((prompt, "1"), ("Added mirror\n" + OLD_MIRROR % "done", "done"))
        if "mirror number" in prompt
        else ((prompt, answer),)
    )
)
GENERATIONS["3.19-online"] = tuple(
    (prompt, "1" if "mirror number" in prompt else answer) for prompt, answer in GENERATIONS["3.19"]
)
# The list of mirrors is fetched as well; without it, the first of it is no answer.
MENU = (
    " (f)    Find and use fastest mirror\n (skip) Skip setting up apk repositories\n\nEnter mirror number or URL: [1] "
)
GENERATIONS["3.22-list-lost-online"] = tuple(
    pair
    for prompt, answer in GENERATIONS["3.19"]
    for pair in (
        (("wget: server returned error: HTTP/1.1 503\n" + MENU, "1"), (MENU, MAIN))
        if "mirror number" in prompt
        else ((prompt, answer),)
    )
)
GENERATIONS["3.15-list-lost-online"] = tuple(
    pair
    for prompt, answer in GENERATIONS["3.15"]
    for pair in (
        ((OLD_MIRROR % "1", "1"), (OLD_MIRROR % "1", MAIN)) if "mirror number" in prompt else ((prompt, answer),)
    )
)
# On a screen newer scripts ask for the keymap too, under a list of all.
GENERATIONS["3.21-screen"] = (
    ("\naf    al    am    ara   at    az\nus    uy    uz\n\nSelect keyboard layout: [none] ", "none"),
    *GENERATIONS["3.19"],
)
# Between those two, the list of mirrors comes through a pager, which reads a key.
GENERATIONS["3.16-online"] = tuple(
    pair
    for prompt, answer in GENERATIONS["3.17"]
    for pair in (
        (
            ("\nAvailable mirrors:\n1) dl-cdn.alpinelinux.org\n2) uk.alpinelinux.org\n--More-- ", KEY + "q"),
            (prompt, "1"),
        )
        if "mirror number" in prompt
        else ((prompt, answer),)
    )
)
BY_FILE = ("keyboard layout", "mirror number", "Setup a user", "New password", "Retype", "Erase the above")
"""What is still asked when there is an answer file, since it does not say it or an older script does not know it."""


def end(message: str) -> None:
    print(f"\r\nREPLAY: {message}", flush=True)
    time.sleep(0.2)
    sys.exit(1)


def show(text: str) -> None:
    """In pieces, as over a serial line."""
    text = text.replace("\n", "\r\n")
    for start in range(0, len(text), 11):
        os.write(1, text[start : start + 11].encode())
        time.sleep(0.0005)


def hear(*, hidden: bool = False) -> str:
    """A typed line; it must not have been typed before it was asked for."""
    attributes = termios.tcgetattr(0)
    attributes[3] = attributes[3] & ~termios.ECHO if hidden else attributes[3] | termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, attributes)
    line = sys.stdin.readline()
    if hidden:
        show("\n")
    return line.rstrip("\n")


def hear_key() -> str:
    """One key, read as a pager does."""
    before = termios.tcgetattr(0)
    attributes = termios.tcgetattr(0)
    attributes[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(0, termios.TCSADRAIN, attributes)
    typed = os.read(0, 100).decode()
    termios.tcsetattr(0, termios.TCSADRAIN, before)
    return typed


def ask(prompt: str, expected: str) -> str:
    if select.select([0], [], [], 0.02)[0]:
        end(f"something was typed before {prompt!r} was asked")
    show(prompt)
    if expected.startswith(KEY):
        typed = KEY + hear_key()
        show("\r         \r")
    else:
        typed = hear(hidden=expected == SECRET)
    if expected == SECRET:
        if len(typed) != PASSWORD_LENGTH:
            end(f"{prompt!r} was answered with {len(typed)} characters")
    elif typed != expected:
        end(f"{prompt!r} was answered with {typed!r} instead of {expected!r}")
    return typed


def setup(questions: tuple[tuple[str, str], ...], by_file: bool) -> None:
    show("\n\x1b[36m ALPINE LINUX INSTALL\x1b[0m\n")
    passwords = []
    for prompt, expected in questions:
        if by_file and not any(word in prompt for word in BY_FILE):
            continue
        typed = ask(prompt, expected)
        if expected == SECRET:
            passwords.append(typed)
    if len(set(passwords)) != 1:
        end("the passwords differ")
    show("Creating file systems...\n" + PROGRESS + "\n\nInstallation is complete. Please reboot.\n")


def shell(questions: tuple[tuple[str, str], ...]) -> None:
    done = []
    while True:
        if select.select([0], [], [], 0.02)[0]:
            end("something was typed before the shell's prompt")
        show("localhost:~# \x1b[6n")
        line = re.sub(r"\x1b\[\d+;\d+R", "", hear())
        if line == "poweroff":
            show(f" * Stopping sshd ... [ ok ]\nREPLAY: {len(done)} commands, all well\nreboot: Power down\n")
            return
        if line.startswith("setup-alpine"):
            setup(questions, "-f" in line)
            continue
        if not line.endswith('; echo "limosa-""exit=$?"'):
            end(f"an unexpected command: {line!r}")
        if "limosa-hostkey" in line:
            show("limosa-hostkey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIReplay root@localhost\n")
        done.append(line)
        show("limosa-exit=0\n")


def main(generation: str) -> None:
    show("\x1bc\x1b[?7l\x1b[2JSeaBIOS\n\nBooting from DVD/CD...\n\nISOLINUX 6.04\nboot: \n")
    if not generation.startswith("3.2"):
        # Later nothing is said there between boot loader and login.
        show("   OpenRC is starting up Linux\n * Setting hostname ... [ ok ]\n")
    show("\nWelcome to Alpine Linux\n\n")
    ask("\rlocalhost login: ", "root")
    show("Welcome to Alpine!\n\nlogin[667]: root login on 'ttyS0'\n")
    shell(GENERATIONS[generation])


if __name__ == "__main__":
    main(sys.argv[1])
