"""The manual page limosa(1), in the language of man(7), made from what help is made from: the tables of verbs and what
each verb declares. The build of a wheel writes it, and has no more than ``build-system`` in pyproject.toml names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import import_module

from limosa import __version__
from limosa.cli.app import ABOUT, EXIT_CODES
from limosa.cli.declared import Parameter, parameters
from limosa.cli.help_text import written
from limosa.cli.verbs import PARTS, ROOT_OPTIONS, VERBS
from limosa.cli.words import usage

ENVIRONMENT = {
    "LIMOSA_LAB": "The lab that is meant where none is named: its file or its name.",
    "XDG_STATE_HOME": "Labs and runs are kept in the folder limosa in it, without it in ~/.local/state/limosa.",
    "XDG_CACHE_HOME": "Images and what else can be made again are in the folder limosa in it, without it in "
    "~/.cache/limosa.",
    "NO_COLOR": "If it is set, nothing is coloured or bold.",
}  # fmt: skip

FILES = {
    "limosa.yaml": "The lab that is meant in the current directory.",
    "~/.local/state/limosa/labs": "A folder for each lab: its record, its disks, its logs.",
    "~/.local/state/limosa/runs": "A folder for each run that was measured: raw samples, figures, the report.",
    "~/.cache/limosa": "Images, and programs built for guests.",
}

_EXAMPLES = (
    ("limosa demo", "Build a lab of two hosts, move a guest there and back, report what that cost."),
    ("limosa doctor", "Say what this machine lacks, and how to mend it."),
    ("limosa explain --migration latest", "Say what each command of the last migration was for."),
)


def man_page() -> str:
    """The whole page; lines are broken at words alone, as its many options and paths must not be."""
    lines = [f'.TH LIMOSA 1 "" "limosa {__version__}" "User commands"', ".nh", ".ad l"]
    lines += [".SH NAME", "limosa \\- live\\-migration laboratory for QEMU/KVM"]
    lines += [".SH SYNOPSIS", ".B limosa", _roff("VERB [OPTIONS] ..."), ".SH DESCRIPTION", *_paragraphs([ABOUT])]
    lines += _paragraphs(["`limosa -h` lists the verbs, `limosa VERB -h` explains one."])
    for part, verbs in PARTS.items():
        lines.append(f'.SH "{_roff(part.upper())}"')
        for verb in verbs:
            lines += _verb(verb)
    lines += [".SH OPTIONS", *_rows(ROOT_OPTIONS.items()), *_rows([("-h, --help", "Show what may follow.")])]
    lines += [".SH EXAMPLES", *_rows(_EXAMPLES)]
    lines += [".SH ENVIRONMENT", *_rows(ENVIRONMENT.items()), ".SH FILES", *_rows(FILES.items())]
    lines += [".SH EXIT STATUS", *_paragraphs([EXIT_CODES.removeprefix("Exit codes: ")])]
    return "\n".join(lines) + "\n"


def _verb(verb: str) -> Iterator[str]:
    module, name, _ = VERBS[verb]
    function = getattr(import_module(f"limosa.cli.{module}"), name)
    takes = parameters(function)
    yield f'.SS "{_roff(usage(f"limosa {verb}", takes))}"'
    yield from _paragraphs((function.__doc__ or "").split("\n\n"))
    yield from _rows((_name(each), each.told) for each in takes)


def _name(parameter: Parameter) -> str:
    return written(parameter) if parameter.names else parameter.metavar


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield ".PP"
        yield _roff(" ".join(text.split()))


def _rows(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, said in rows:
        yield ".TP"
        yield f"\\fB{_roff(name)}\\fR"
        yield _roff(" ".join(said.split()))


def _roff(text: str) -> str:
    """*text* so that none of it is taken for a command of the page's language; words in back quotes are bold."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    plain = re.sub(r"`+([^`]+)`+", r"\\fB\1\\fR", plain)
    plain = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in plain)
    return f"\\&{plain}" if plain.startswith(".") else plain
