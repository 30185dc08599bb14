"""What an installation script is made of: steps, the prompts that may come in each, and what is answered.

Only data. A prompt is answered when it stands at the end of what the console shows and the console is quiet, so
nothing is ever typed at a program that has not asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """An answer that no transcript, screen or error shows."""

    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt that has come: the text that matched, and how often it was answered before in this step."""

    match: re.Match[str]
    before: int


Answer = str | Secret | Callable[[Asked], str | Secret | None] | None
"""What is typed, with Enter behind it; None: nothing, the prompt is only awaited."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One thing that the console may show in a step."""

    name: str
    pattern: str
    """A regular expression on the text since the last answer; with ``anywhere`` off, it has to end that text."""
    answer: Answer = None
    ends: bool = False
    """Whether the step is done with it."""
    fails: str = ""
    """A sentence: what has gone wrong when this shows. ``{0}`` is what matched."""
    anywhere: bool = False
    """Whether it counts wherever it stands and at once: for what is said, not asked."""
    times: int = 3
    """How often it may come in the step; more is a surprise, such as a password that is refused again and again."""
    enter: bool = True
    """Whether Enter is typed behind the answer."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is awaited together: whichever prompt comes is answered, until one that ends the step."""

    name: str
    prompts: tuple[Prompt, ...]
    """Tried in this order."""
    within_s: float
    """How long the next of them may take: from the beginning of the step, then from each answer."""
    optional: bool = False
    """Whether the script goes on when none of them came in time."""
    ends_with_machine: bool = False
    """Whether the machine may end in this step, which is then done: it was told to power off."""
    unknown_s: float = 60.0
    """How long a question that no prompt matches may stand before it is a surprise."""


@dataclass(frozen=True, slots=True)
class Script:
    """An installation from beginning to end."""

    name: str
    steps: tuple[Step, ...]
    resumed: tuple[Step, ...] = ()
    """What is played on the machine started anew after a person switched it off with a system on its disk."""


def command(name: str, line: str, prompt: Prompt, within_s: float, *, may_fail: bool = False) -> Step:
    """A step that types a shell command at *prompt* and waits for its end, which has to be a success.

    The mark that is looked for cannot be read out of the echo of the command itself.
    """
    return Step(
        name,
        (
            Prompt(
                f"{name}: done", r"limosa-exit=0\b" if not may_fail else r"limosa-exit=\d+", ends=True, anywhere=True
            ),
            Prompt(f"{name}: failed", r"limosa-exit=[1-9]\d*", fails=f"the step “{name}” failed", anywhere=True),
            Prompt(prompt.name, prompt.pattern, f'{line}; echo "limosa-""exit=$?"', times=1),
        ),
        within_s,
    )
