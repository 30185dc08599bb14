"""The installer's engine against real programs on a real terminal."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from console_program import program

from limosa.events import Events, StageFinished
from limosa.guest.installer import Prompt, Script, Secret, Step, Surprise, play
from limosa.guest.installer.player import SwitchedOff
from limosa.guest.installer.script import Asked
from limosa.guest.installer.text_console import Console, PlainText

PASSWORD = "Tz7-correct-horse"

INSTALLER = r"""
import getpass, sys, time
def say(text, pause=0.0):
    for piece in (text[i:i + 3] for i in range(0, len(text), 3)):
        sys.stdout.write(piece); sys.stdout.flush(); time.sleep(pause)
say("\x1bc\x1b[?7l\x1b[2J\x1b[36m TOY INSTALL\x1b[0m\r\r\n", 0.001)
say("Enter system hostname (e.g. 'foo') [\x1b[1mlocalhost\x1b[0m] ", 0.002)
host = input()
while True:
    first = getpass.getpass("New password: ")
    second = getpass.getpass("Retype password: ")
    if first == second and sys.argv[1:] != ["stubborn"]:
        break
    print("Passwords do not match.")
say("\x1b7  0%     \x1b8\x1b[0K\x1b7100% #####\x1b8\x1b[0KWhich disk? [none] ")
disk = input()
print(f"RESULT host={host} disk={disk} password={len(first)}")
print("leak:", first)
print("Installation is complete.")
time.sleep(30)
"""

DIALOGUE = (
    Prompt("done", "Installation is complete", ends=True, anywhere=True),
    Prompt("hostname", r"Enter system hostname.*", "lab"),
    Prompt("password", r"New password:", Secret(PASSWORD)),
    Prompt("again", r"Retype password:", Secret(PASSWORD)),
    Prompt("disk", r"Which disk\? \[none\]", "vda"),
)


def script(*prompts: Prompt, within_s: float = 10.0, **more: object) -> Script:
    return Script("toy", (Step("install", prompts, within_s, **more),))  # type: ignore[arg-type]


async def test_whichever_prompt_comes_is_answered_through_pieces_and_escapes(tmp_path: Path) -> None:
    stages: list[str] = []
    events = Events(lambda event: stages.append(event.stage) if isinstance(event, StageFinished) else None)
    async with program(INSTALLER, tmp_path) as console:
        await play(script(*DIALOGUE), console, events)
        transcript = console.transcript
    text = transcript.plain.read_text()
    assert "RESULT host=lab disk=vda password=17" in text
    assert "\x1b" not in text
    assert stages == ["toy: install"]


async def test_the_transcript_plays_and_holds_no_secret(tmp_path: Path) -> None:
    async with program(INSTALLER, tmp_path) as console:
        await play(script(*DIALOGUE), console, Events())
        assert PASSWORD not in console.screen
        transcript = console.transcript
    header, *events = [json.loads(line) for line in transcript.cast.read_text().splitlines()]
    assert header["version"] == 2
    assert (header["width"], header["height"]) == (80, 25)
    times = [moment for moment, _, _ in events]
    assert times == sorted(times)
    assert {kind for _, kind, _ in events} == {"o", "i"}
    typed = [text for _, kind, text in events if kind == "i"]
    assert typed == ["lab\r", "********\r", "********\r", "vda\r"]
    assert "leak: ********" in transcript.plain.read_text()
    for path in (transcript.cast, transcript.plain):
        assert PASSWORD not in path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600


async def test_a_password_that_is_refused_again_and_again_is_a_surprise(tmp_path: Path) -> None:
    async with program(INSTALLER, tmp_path, ["stubborn"]) as console:
        with pytest.raises(Surprise, match="“password” came again after 3 answers") as caught:
            await play(script(*DIALOGUE), console, Events())
    assert "Passwords do not match" in caught.value.screen
    assert PASSWORD not in str(caught.value)


async def test_a_step_that_never_comes_ends_with_the_screen(tmp_path: Path) -> None:
    source = "import time; print('Booting \\x1b[31mslowly\\x1b[0m'); time.sleep(30)"
    async with program(source, tmp_path) as console:
        started = time.monotonic()
        with pytest.raises(Surprise) as caught:
            await play(script(Prompt("login", "login:", "root"), within_s=1.2), console, Events())
    assert 1.0 < time.monotonic() - started < 6
    assert "stopped at “install”: nothing that was expected came within 1.2 s" in caught.value.message
    assert "  | Booting slowly" in caught.value.message
    assert str(tmp_path / "transcript/console.txt") in caught.value.hint
    assert "--attach" in caught.value.hint


async def test_a_progress_bar_is_no_question(tmp_path: Path) -> None:
    """apk draws it of # on a plain terminal; it may stand for long, as while an initramfs is packed."""
    source = r"""
import time
print("\x1b7 98% " + "#" * 40 + "  \x1b8\x1b[0K", end="", flush=True); time.sleep(1.5)
print("done: ", end="", flush=True); input()
"""
    async with program(source, tmp_path) as console:
        await play(script(Prompt("done", "done: ?", ends=True), within_s=60, unknown_s=0.5), console, Events())


@pytest.mark.parametrize(
    "shown", ["(3/9) Installing e2fsprogs [fetch http://mirror/main]", "[syncing disks...]", "Writing: "]
)
async def test_progress_that_stands_for_long_is_waited_for(tmp_path: Path, shown: str) -> None:
    """However long nothing comes behind it: a question would have been named after a moment."""
    source = f"import time; print({shown!r}, end='', flush=True); time.sleep(1.5); print('\\ndone'); input()"
    async with program(source, tmp_path) as console:
        prompts = (Prompt("done", r"\ndone", ends=True, anywhere=True),)
        await play(script(*prompts, within_s=60, unknown_s=0.3), console, Events())


async def test_what_a_program_failed_of_is_told_though_it_has_scrolled_away(tmp_path: Path) -> None:
    source = r"""
print("ERROR: unable to select packages:\n  syslinux (no such package)")
print("\n".join(f"cleaning up {n}" for n in range(40)))
input("lab:~# ")
"""
    failed = Prompt("ended", r"lab:~# ?", fails="setup ended without a system")
    async with program(source, tmp_path) as console:
        with pytest.raises(Surprise) as caught:
            await play(script(failed), console, Events())
    why = "setup ended without a system, after “ERROR: unable to select packages: syslinux (no such package)”"
    assert why in caught.value.message


async def test_an_unknown_question_is_named_before_the_deadline(tmp_path: Path) -> None:
    source = "input('Do you accept the licence? (y/n) [n] ')"
    async with program(source, tmp_path) as console:
        with pytest.raises(Surprise, match=r"does not know: Do you accept the licence\? \(y/n\) \[n\]"):
            await play(script(Prompt("login", "login:", "root"), within_s=60, unknown_s=0.5), console, Events())


async def test_an_optional_step_may_stay_away_and_a_failure_is_said_at_once(tmp_path: Path) -> None:
    source = "import time; print('Kernel panic - not syncing'); time.sleep(30)"
    steps = (
        Step("banner", (Prompt("banner", "Welcome"),), 0.3, optional=True),
        Step("login", (Prompt("panic", r"Kernel panic.*", fails="the kernel gave up: {0}", anywhere=True),), 20),
    )
    async with program(source, tmp_path) as console:
        with pytest.raises(Surprise, match="the kernel gave up: Kernel panic - not syncing"):
            await play(Script("toy", steps), console, Events())


async def test_nothing_is_typed_at_what_only_looks_like_a_prompt(tmp_path: Path) -> None:
    # The text of the prompt goes by twice in the middle of other output before it is really asked.
    source = r"""
import select, sys, time
for text in ("Which disk? will be asked soon\n", "Which disk? ... wait\n", "checking"):
    print(text, end="", flush=True); time.sleep(0.25)
early = bool(select.select([sys.stdin], [], [], 0)[0])
print("\nWhich disk? ", end="", flush=True)
print(f"RESULT {input()} early={early}")
time.sleep(30)
"""
    prompts = (
        Prompt("result", r"RESULT .*\n", ends=True, anywhere=True),
        Prompt("disk", r"Which disk\?", "vda"),
    )
    async with program(source, tmp_path) as console:
        await play(script(*prompts), console, Events())
        assert "RESULT vda early=False" in console.transcript.plain.read_text()


async def test_a_reboot_in_the_middle_is_just_more_of_the_script(tmp_path: Path) -> None:
    source = r"""
import time
input("installer login: "); input("installer# ")
print("reboot: Restarting system"); time.sleep(0.3)
print("\x1bc\x1b[2JSeaBIOS\r\n")
print("RESULT", input("installed login: "))
time.sleep(30)
"""
    steps = (
        Step("log in", (Prompt("login", "installer login:", "root"), Prompt("shell", "# ?", ends=True)), 10),
        Step("reboot", (Prompt("shell", "# ?", "reboot", ends=True),), 10),
        Step("boot", (Prompt("login", "installed login:", "me", ends=True),), 10),
        Step("see", (Prompt("result", "RESULT me", ends=True, anywhere=True),), 10),
    )
    async with program(source, tmp_path) as console:
        await play(Script("toy", steps), console, Events())


async def test_a_machine_that_ends_is_a_surprise_unless_it_was_told_to(tmp_path: Path) -> None:
    source = "print('Power down')"
    prompts = (Prompt("login", "login:", "root"),)
    async with program(source, tmp_path) as console:
        with pytest.raises(Surprise, match="the machine ended") as caught:
            await play(script(*prompts), console, Events())
        assert "Power down" in caught.value.message
        await play(script(*prompts, ends_with_machine=True), console, Events())


async def test_a_prompt_counts_although_the_kernel_printed_behind_it(tmp_path: Path) -> None:
    source = "print('localhost login: [   12.3] random: crng init done'); print('RESULT', input()); input()"
    prompts = (Prompt("result", "RESULT root", ends=True, anywhere=True), Prompt("login", "login:", "root"))
    async with program(source, tmp_path) as console:
        started = time.monotonic()
        await play(script(*prompts), console, Events())
    assert time.monotonic() - started > 3, "it was answered before the console was quiet"


async def test_the_terminal_answers_where_its_cursor_is_but_never_into_an_answer(tmp_path: Path) -> None:
    source = r"""
import os, select, sys, termios, time, tty
def reply():
    tty.setcbreak(0); print("prompt# \x1b[6n", end="", flush=True)
    ready = select.select([0], [], [], 1.5)[0]
    return os.read(0, 100) if ready else b""
first = reply()
time.sleep(0.5)
print("\nanswer> ", end="", flush=True)
line = os.read(0, 100)
second = reply()
print("\nRESULT", first, line, second, flush=True)
time.sleep(30)
"""
    prompts = (
        Prompt("result", r"RESULT .*\n", ends=True, anywhere=True),
        Prompt("answer", "answer>", "vda"),
    )
    async with program(source, tmp_path) as console:
        # Nothing was typed for a while before the first question.
        console._typed_s -= 10
        await play(script(*prompts), console, Events())
        assert r"RESULT b'\x1b[1;9R' b'vda\n' b''" in console.transcript.plain.read_text()


async def test_a_person_takes_over_and_the_script_goes_on(tmp_path: Path) -> None:
    source = "input('Strange question? '); print('RESULT', input('login: ')); input()"
    surprises: list[str] = []

    async def person(console: Console, surprise: Surprise) -> bool:
        surprises.append(surprise.why)
        await console.pass_on(b"my own answer\r")
        return True

    prompts = (Prompt("result", "RESULT root", ends=True, anywhere=True), Prompt("login", "login:", "root"))
    async with program(source, tmp_path) as console:
        await play(script(*prompts, unknown_s=0.5), console, Events(), person)
    assert len(surprises) == 1
    assert "Strange question?" in surprises[0]


BOOT = (
    Step(
        "boot",
        (Prompt("gave up", "recovery", fails="gave up", anywhere=True), Prompt("login", r"\w+ login: ?", ends=True)),
        30,
    ),
    Step("log in", (Prompt("shell", r"lab:~# ?", ends=True), Prompt("login", r"\w+ login: ?", "root")), 30),
    Step("start", (Prompt("shell", r"lab:~# ?", "setup", ends=True),), 30),
    Step(
        "setup",
        (
            Prompt("complete", "Installation is complete", ends=True, anywhere=True),
            Prompt("ended", r"lab:~# ?", fails="setup ended"),
            Prompt("disk", "Which disk[^\n]*", "vda"),
        ),
        30,
    ),
    Step("finish", (Prompt("shell", r"lab:~# ?", "finish", ends=True),), 30),
    Step("power off", (Prompt("shell", r"lab:~# ?", "poweroff", ends=True),), 30, ends_with_machine=True),
    Step("wait for the end", (), 30, ends_with_machine=True),
)  # fmt: skip
MACHINE = r"""
def shell(prompt):
    while (line := input(prompt)) != "poweroff":
        if line == "setup":
            input("Which disk? "); ran.append("setup")
            print("disk full: failed" if "broken" in sys.argv and len(ran) < 2 else "Installation is complete.")
        elif line:
            ran.append(line)
    print("RAN", *ran); print("Power down")
import sys
ran = []
input("recovery shell\n~ # ")
input("lab login: ")
shell("lab:~# ")
"""


class Person:
    """Types a few lines, each at what it waits for, whenever the console is theirs; then gives it back."""

    def __init__(self, *lines: tuple[str, str]) -> None:
        self.lines, self.stopped = list(lines), list[str]()

    async def __call__(self, console: Console, surprise: Surprise) -> bool:
        self.stopped.append(surprise.step.name)
        while self.lines and not console.ended:
            awaited, line = self.lines[0]
            if awaited == "give back":
                del self.lines[0]
                return True
            if console.text.rstrip().endswith(awaited):
                del self.lines[0]
                await console.pass_on(f"{line}\r".encode())
            await console.wait_news(1)
        while not console.ended and not console.text.rstrip().endswith(("#", "login:", "?")):
            await console.wait_news(1)
        return True


@pytest.mark.parametrize(
    "typed",
    [
        [("~ #", "exit")],
        [("~ #", "exit"), ("login:", "root"), ("lab:~#", "true")],
        [("~ #", "exit"), ("login:", "root"), ("lab:~#", "setup"), ("Which disk?", "vda"), ("lab:~#", "true")],
        [("~ #", "exit"), ("login:", "root"), ("lab:~#", "setup")],
    ],
    ids=["as far as the login", "logged in", "installed", "at a question of setup"],
)
async def test_whatever_a_person_has_done_the_script_goes_on_behind_it(
    tmp_path: Path, typed: list[tuple[str, str]]
) -> None:
    person = Person(*typed)
    async with program(MACHINE, tmp_path) as console:
        await play(Script("toy", BOOT), console, Events(), person)
        ran = console.text.partition("RAN ")[2].split()
    assert person.stopped == ["boot"]
    assert [word for word in ran if word in ("setup", "finish")] == ["setup", "finish"]


async def test_a_line_that_was_typed_and_taken_back_is_no_reason_to_wait(tmp_path: Path) -> None:
    """What stands in the terminal's line counts, not what was typed last."""
    async with program(MACHINE, tmp_path) as console:

        async def person(console: Console, surprise: Surprise) -> bool:
            await console.pass_on(b"exit\rroot\r")
            while not console.text.endswith("lab:~# "):
                await console.wait_news(1)
            await console.pass_on(b"wrong")
            while not console.text.endswith("wrong"):
                await console.wait_news(1)
            await console.pass_on(b"\x15")
            while "wrong" in console.screen.splitlines()[-1]:
                await console.wait_news(1)
            return True

        await play(Script("toy", BOOT), console, Events(), person)
        assert "RAN setup finish" in console.text


async def test_a_person_who_mends_what_a_step_failed_of_is_followed_by_the_next(tmp_path: Path) -> None:
    person = Person(("~ #", "exit"), ("give back", ""), ("lab:~#", "setup"), ("Which disk?", "vda"), ("lab:~#", "true"))
    async with program(MACHINE, tmp_path, ["broken"]) as console:
        await play(Script("toy", BOOT), console, Events(), person)
        assert "RAN setup setup true finish" in console.text
    assert person.stopped == ["boot", "setup"]


async def test_a_machine_that_goes_off_in_a_persons_hands_is_told_apart(tmp_path: Path) -> None:
    """The script cannot go on with it, and what it left can."""
    person = Person(
        ("~ #", "exit"), ("login:", "root"), ("lab:~#", "setup"), ("Which disk?", "vda"), ("lab:~#", "poweroff")
    )
    async with program(MACHINE, tmp_path) as console:
        with pytest.raises(SwitchedOff) as caught:
            await play(Script("toy", BOOT), console, Events(), person)
    assert "Installation is complete" in caught.value.said
    assert caught.value.surprise.step.name == "boot"


async def test_a_machine_that_goes_off_where_it_was_to_is_done(tmp_path: Path) -> None:
    source = "print('strange', end='', flush=True); input('? '); print('Power down')"
    off = Step("power off", (Prompt("shell", "# ?", "poweroff", ends=True),), 30, ends_with_machine=True, unknown_s=0.3)
    async with program(source, tmp_path) as console:
        left = await play(Script("toy", (off, BOOT[-1])), console, Events(), Person(("?", "now"), ("never", "")))
        assert left.steps == ()


async def test_an_answer_can_depend_on_what_was_asked(tmp_path: Path) -> None:
    source = "a = input('Mirror [1] '); b = input('Mirror [done] '); print('RESULT', a, b); input()"

    def mirror(asked: Asked) -> str:
        return "done" if asked.match.group(1) == "done" else f"url{asked.before}"

    prompts = (
        Prompt("result", "RESULT url0 done", ends=True, anywhere=True),
        Prompt("mirror", r"Mirror \[(\w+)\]", mirror),
    )
    async with program(source, tmp_path) as console:
        await play(script(*prompts), console, Events())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_plain_text_is_the_same_in_any_pieces(size: int) -> None:
    sent = "\x1b[36mA\x1b[0m\r\r\nB\rC \x1b]0;title\x07\x1b7 5%\x1b8\x1b[0K\x1b(Blogin: \x1b[6n"
    plain = PlainText()
    assert "".join(plain.feed(sent[i : i + size]) for i in range(0, len(sent), size)) == "A\nB\nC  5%login: "
