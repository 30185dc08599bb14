"""Plays a script on a console: awaits, answers, at a surprise stops with the last screen, or lets a person mend it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from limosa.deadline import Deadline
from limosa.errors import LimosaError
from limosa.events import Events
from limosa.guest.installer.cause import cause
from limosa.guest.installer.script import Asked, Prompt, Script, Secret, Step
from limosa.guest.installer.text_console import SETTLED_S, Console
from limosa.guest.installer.unfinished_line import question

LATE_S = 4.0
"""After so much silence a prompt counts although something was printed behind it, as a kernel's message may be."""

_LATE_LINES = 4
_SCREEN_LINES = 12
"""As much of the screen as an error shows, without empty lines; all of it is in the transcript."""


class Surprise(LimosaError):
    """The console did not do what the script says: ``step`` was waited for, ``screen`` is what was seen."""

    def __init__(self, why: str, step: Step, console: Console, screen: str = "") -> None:
        self.why, self.step, self.screen = why, step, screen or console.screen
        shown = [line for line in self.screen.splitlines() if line][-_SCREEN_LINES:]
        picture = "\n".join(f"  | {line}" for line in shown) or "  | (nothing)"
        super().__init__(
            f"the installation stopped at “{step.name}”: {why}. The console showed:\n{picture}",
            hint=f"all of it: {console.transcript.plain}, or asciinema play {console.transcript.cast}; "
            "with --attach you can take over",
        )


class SwitchedOff(LimosaError):
    """The machine went off in a person's hands, who wants to go on with what is on its disk; ``said``: all it said."""

    def __init__(self, surprise: Surprise, console: Console) -> None:
        self.surprise, self.said = surprise, console.text
        super().__init__(surprise.message, hint=surprise.hint)


TakeOver = Callable[[Console, Surprise], Awaitable[bool]]
"""Gives the console to a person; whether to go on: with the script, or with the disk when the machine is off."""


async def play(
    script: Script, console: Console, events: Events, take_over: TakeOver | None = None, *, steps: int | None = None
) -> Script:
    """Play *script* to its end, or its first *steps* steps, and return what is left: a person may have done more.

    Raises Surprise when it cannot be played, and *take_over* did not mend it; SwitchedOff as that says.
    """
    at = 0
    while at < (len(script.steps) if steps is None else steps):
        with events.stage(f"{script.name}: {script.steps[at].name}"):
            at = await _played(script.steps, at, console, take_over)
    return replace(script, steps=script.steps[at:])


async def _played(steps: Sequence[Step], at: int, console: Console, take_over: TakeOver | None) -> int:
    """Play the step *at*, with a person's help where it is wanted; the number of the step to go on with."""
    now = at
    while now == at:
        try:
            await _step(steps[at], console)
            return at + 1
        except Surprise as surprise:
            if take_over is None or console.ended:
                raise
            begun = console.heard
            if not await take_over(console, surprise):
                raise
            if console.ended:
                if all(step.ends_with_machine for step in steps[at:]):
                    return len(steps)
                raise SwitchedOff(surprise, console) from surprise
        now = await _given_back(steps, at, console, begun)
    return now


async def _given_back(steps: Sequence[Step], at: int, console: Console, begun: int) -> int:
    """The step to go on with after a person had the console, who may have done more than the one at which it stopped.

    What was said meanwhile tells, as “Installation is complete”, and what stands at the cursor now.
    """
    said, now = console.since(begun), at
    for number in range(at, len(steps)):
        if match := _said(steps[number], said):
            said, now = said[match.end() :], number + 1
    console.look_again()
    while console.quiet_s < SETTLED_S and not console.ended:
        await console.wait_news(SETTLED_S - console.quiet_s + 0.01)
    return next((number for number in range(now, len(steps)) if _find(steps[number], console)), now)


def _said(step: Step, text: str) -> re.Match[str] | None:
    found = (re.search(prompt.pattern, text) for prompt in step.prompts if prompt.anywhere and prompt.ends)
    return next((match for match in found if match), None)


async def _step(step: Step, console: Console) -> None:
    deadline, answered = Deadline.after(step.within_s), Counter[str]()
    while True:
        found = _find(step, console)
        if found is not None:
            prompt, match = found
            if prompt.fails:
                raise Surprise(_with_cause(prompt.fails.format(match.group(0).strip()), console.recent), step, console)
            if answered[prompt.name] >= prompt.times:
                raise Surprise(f"“{prompt.name}” came again after {prompt.times} answers", step, console)
            await _answer(prompt, Asked(match, answered[prompt.name]), console)
            if prompt.ends:
                return
            answered[prompt.name] += 1
            deadline = Deadline.after(step.within_s)
            continue
        if console.ended:
            if step.ends_with_machine:
                return
            said = console.last_words()
            raise Surprise(f"the machine ended ({said})" if said else "the machine ended", step, console)
        if deadline.passed:
            if step.optional:
                return
            raise Surprise(f"nothing that was expected came within {step.within_s:g} s", step, console)
        if console.quiet_s > step.unknown_s and (asked := question(console.recent.rpartition("\n")[2])):
            raise Surprise(f"it asks what the script does not know: {asked}", step, console)
        await console.wait_news(min(_look_again_s(console, step), deadline.left_s + 0.01))


def _with_cause(why: str, said: str) -> str:
    """*why*, and the line of what was said that tells of what it came, unless it is that line."""
    told = cause(said)
    return why if not told or told in why or why in told else f"{why}, after “{told}”"


def _look_again_s(console: Console, step: Step) -> float:
    """When the silence will have changed what counts."""
    moments = (SETTLED_S, LATE_S, step.unknown_s)
    return min((m - console.quiet_s + 0.01 for m in moments if m >= console.quiet_s), default=5.0)


def _find(step: Step, console: Console) -> tuple[Prompt, re.Match[str]] | None:
    """The first of the step's prompts that is there to be answered."""
    recent, quiet_s = console.recent, console.quiet_s
    settled = console.ended or quiet_s >= SETTLED_S
    for prompt in step.prompts:
        if prompt.anywhere:
            if match := re.search(prompt.pattern, recent):
                return prompt, match
        elif settled and (match := re.search(rf"(?:{prompt.pattern})[ \t]*\Z", recent)):
            return prompt, match
    if quiet_s >= LATE_S:
        begin = len(recent) - len("".join(recent.splitlines(keepends=True)[-_LATE_LINES:]))
        for prompt in step.prompts:
            if not prompt.anywhere and (match := re.compile(prompt.pattern).search(recent, begin)):
                return prompt, match
    return None


async def _answer(prompt: Prompt, asked: Asked, console: Console) -> None:
    answer = prompt.answer(asked) if callable(prompt.answer) else prompt.answer
    if answer is None:
        # What is said is dealt with; a prompt that was only awaited stays for the step that answers it.
        if prompt.anywhere or not prompt.ends:
            console.pass_over(asked.match.end())
        return
    end = "\r" if prompt.enter else ""
    if isinstance(answer, Secret):
        await console.type(answer.value + end, secret=True)
    else:
        await console.type(answer + end)
