"""``./limosa test --on NAME [ARGS]``: the suite in a root of another distribution, as root and as an ordinary user.

The exit status is 0 when all of it passed, 1 when something failed, 2 when no such distribution is known, and 3, after
one sentence, when this machine cannot make such a root.
"""

from __future__ import annotations

import collections
import signal
import subprocess
import sys
from collections.abc import Sequence

from tests import other_root
from tests.distributions import DISTRIBUTIONS, Distribution
from tests.other_root import NEWCOMER, ROOT_USER, Impossible, Person

LAST_LINES = 40
IMPOSSIBLE = 3


def main(name: str, arguments: Sequence[str]) -> int:
    """Run it; the exit status."""
    distribution = DISTRIBUTIONS.get(name)
    if distribution is None:
        known = ", ".join(f"{row.name} ({row.title})" for row in DISTRIBUTIONS.values())
        print(f"limosa: no distribution {name!r} is known\n  hint: one of {known}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if reason := other_root.refusal(distribution):
            raise Impossible(reason)
        print(f"limosa: a root of {distribution.title}: made in some minutes, or long ago", file=sys.stderr)
        other_root.furnished(distribution)
        ended = {person.words: suite(distribution, person, arguments) for person in (ROOT_USER, NEWCOMER)}
    except Impossible as impossible:
        print(f"limosa: {impossible}", file=sys.stderr)
        return IMPOSSIBLE
    print()
    for words, (status, last) in ended.items():
        print(f"== {distribution.title}, {words}: {'passed' if status == 0 else f'failed, exit status {status}'}")
        print("\n".join(last))
    return 0 if not any(status for status, _ in ended.values()) else 1


def passed_on(arguments: Sequence[str]) -> list[str]:
    """The arguments without ``--on`` and its value."""
    words = iter(str(argument) for argument in arguments)
    return [word for word in words if not (word.startswith("--on=") or (word == "--on" and next(words, True)))]


def suite(distribution: Distribution, person: Person, arguments: Sequence[str]) -> tuple[int, list[str]]:
    """The suite as *person*, shown while it runs; its exit status, and its last lines from its first summary on."""
    with other_root.room(distribution, other_root.furnished(distribution)) as made:
        made.own_folder(person.home, person, mode=0o700)
        folder = other_root.put_clone(made, person)
        argv = made.argv([f"{folder}/limosa", "test", *arguments], person, folder, CI="true")
        print(f"== {distribution.title}, {person.words}", flush=True)
        status, last = shown(argv)
        return status, summary(last)


def shown(argv: Sequence[str]) -> tuple[int, list[str]]:
    """Run it and show what it prints; its exit status and last lines. It ends with us, whatever ends us."""
    last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                print(line, end="", flush=True)
                last.append(line.rstrip("\n"))
        except BaseException:
            child.kill()
            raise
    return child.returncode, list(last)


def summary(lines: Sequence[str]) -> list[str]:
    """What pytest said at the end: from its last heading of failures or of skips on; else its last line."""
    headings = [
        number for number, line in enumerate(lines) if "skipped, and why" in line or "short test summary" in line
    ]
    return list(lines[headings[0] :] if headings else lines[-1:])
