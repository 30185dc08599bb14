"""The person's own browser, to show them a page: what ``$BROWSER`` names, else what the desktop opens pages with."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

WITHOUT = "there is no display here, or no browser: open it in one, or set $BROWSER"

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME")
_OPENERS = ("xdg-open", "wslview", "sensible-browser")


def command(page: Path) -> list[str]:
    """The words that show *page*; none without a browser that could. ``$BROWSER`` may name several, with a colon
    between them, each with ``%s`` where the page belongs, and is obeyed without a display too: it may be one for
    terminals."""
    named = [shlex.split(each) for each in os.environ.get("BROWSER", "").split(":") if each.strip()]
    desktop = [[opener] for opener in _OPENERS] if any(os.environ.get(name) for name in _DISPLAYS) else []
    for words in [*named, *desktop]:
        if shutil.which(words[0]) is not None:
            there = any("%s" in word for word in words)
            return [word.replace("%s", page.as_uri()) for word in words] + ([] if there else [page.as_uri()])
    return []


def become(words: Sequence[str]) -> NoReturn:
    """Have this process become the browser, which may want the terminal for itself."""
    os.execvpe(words[0], list(words), os.environ)


def opened(words: Sequence[str]) -> bool:
    """Run the browser to its end; whether it went well."""
    from limosa import process
    from limosa.cli.face import run

    return run(lambda: process.run(words, env=dict(os.environ), check=False)).returncode == 0
