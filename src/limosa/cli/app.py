"""The command line: the way from a command's words to the function of its verb, whose file is imported then."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from limosa.cli.verbs import GROUPS, PARTS, ROOT_OPTIONS, VERBS, children, ends

_HELP = {"-h, --help": "Show this page."}
ABOUT = "Builds a live-migration laboratory, moves running virtual machines, says exactly what the move cost."
EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong lab file or argument, 3 the machine lacks something, "
    "4 not possible as things stand, 5 another command is at work, 6 the migration did not complete and the "
    "guest is safe, 7 a person must decide, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP."
)


def call(words: Sequence[str]) -> int:
    """Carry out the command *words*; its exit code, or SystemExit with it.

    Raises SpecError for a wrong usage, and whatever the verb raises.
    """
    if "_LIMOSA_COMPLETE" in os.environ:
        from limosa.cli.completion import answer

        return answer(os.environ)
    path, rest = "", list(words)
    while not ends(path, rest):
        if not rest:
            sys.stderr.write(_page(path))
            return 2
        word = rest.pop(0)
        if word in ("-h", "--help"):
            sys.stdout.write(_page(path))
            return 0
        if word.startswith("-"):
            return _root_option(path, word, rest)
        if word not in children(path):
            from limosa.cli.words import unknown_verb

            raise unknown_verb(f"limosa {path}".rstrip(), word, [*children(path)])
        path = f"{path} {word}".lstrip()
    return _run(path, rest)


def _run(path: str, rest: list[str]) -> int:
    from importlib import import_module

    from limosa.cli.declared import parameters
    from limosa.cli.printable import guard
    from limosa.cli.words import HelpAskedError, read

    module, name, _ = VERBS[path]
    function = getattr(import_module(f"limosa.cli.{module}"), name)
    takes = parameters(function)
    try:
        values = read(f"limosa {path}", takes, rest)
    except HelpAskedError:
        from limosa.cli.help_text import verb_page

        sys.stdout.write(verb_page(f"limosa {path}", function.__doc__ or "", takes, children(path)))
        return 0
    guard()
    _load_msgspec()
    function(**values)
    return 0


def _load_msgspec() -> None:
    """Import msgspec, which takes typing_extensions where it finds it: 3 ms of each command for what typing has since
    Python 3.11."""
    name = "typing_extensions"
    if name in sys.modules:
        return
    sys.modules[name] = None  # type: ignore[assignment]  # so an import of it fails, as if it were not installed
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules[name]


def _root_option(path: str, word: str, rest: list[str]) -> int:
    if path or word not in ROOT_OPTIONS:
        from limosa.cli.words import unknown_option

        raise unknown_option(f"limosa {path}".rstrip(), word, () if path else [*ROOT_OPTIONS])
    if word == "--version":
        from limosa import __version__

        print(f"limosa {__version__}")
    else:
        from limosa.cli import completion

        print(completion.install(*rest[:1]) if word == "--install-completion" else completion.script(*rest[:1]))
    return 0


def _page(path: str) -> str:
    from limosa.cli.help_text import page

    known = children(path)
    usage = f"limosa {path}".rstrip() + " VERB ..."
    if path:
        return page(usage, [GROUPS[path]], [("Verbs", [*known.items()]), ("Options", [*_HELP.items()])])
    parts = []
    for part, verbs in PARTS.items():
        words = dict.fromkeys(verb.split(" ")[0] for verb in verbs)
        parts.append((part, [(word, known[word]) for word in words]))
    options = [*ROOT_OPTIONS.items(), *_HELP.items()]
    return page(usage, [ABOUT], [*parts, ("Options", options)], EXIT_CODES)
