"""Completion in the shell: what may stand at the cursor, and the script that has bash, zsh or fish ask for it.

The script calls ``limosa`` with ``_LIMOSA_COMPLETE=complete_<shell>``, the words so far in ``COMP_WORDS``, and in
``COMP_CWORD`` which of them is being typed (without it: the last, a new one behind a space). One answer is one line.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from limosa import paths
from limosa.cli.declared import Parameter, parameters
from limosa.cli.values import DIRECTORIES, FILES, FREE, KNOWN
from limosa.cli.verbs import ROOT_OPTIONS, VERBS, children, ends
from limosa.cli.words import HELP
from limosa.errors import SpecError

_BASH = """_limosa_completion() {
    local IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _LIMOSA_COMPLETE=complete_bash $1 ) )
    case $? in
        1) compopt -o default 2>/dev/null ;;
        2) compopt -o dirnames 2>/dev/null ;;
    esac
    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _limosa_completion limosa
"""
_ZSH = """#compdef limosa
_limosa_completion() {
    local -a found
    found=(${(f)"$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) _LIMOSA_COMPLETE=complete_zsh ${words[1]})"})
    case $? in
        1) _files ;;
        2) _files -/ ;;
    esac
    if [[ ${found[1]-} == *= ]]; then _describe limosa found -S ''
    elif (( $#found )); then _describe limosa found; fi
}
if [[ ${funcstack[1]-} == _limosa ]]; then _limosa_completion; else compdef _limosa_completion limosa; fi
"""
_FISH = """function _limosa_completion
    env COMP_WORDS=(commandline -cp | string collect) _LIMOSA_COMPLETE=complete_fish limosa
end
complete --command limosa --no-files --condition '_limosa_completion >/dev/null' --arguments '(_limosa_completion)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

PLACES = {
    "bash": "share/bash-completion/completions/limosa",
    "zsh": "share/zsh/site-functions/_limosa",
    "fish": "share/fish/vendor_completions.d/limosa.fish",
}
"""Where each shell looks for the script of a program, below the prefix that the program is installed to. What zsh finds
there it runs as the completion itself, when it is first asked for one."""

Found = list[tuple[str, str]]
"""What may stand at the cursor, each with what it is, where that is known."""


def answer(environment: Mapping[str, str]) -> int:
    """Print what may stand where the shell says the cursor is. 1 and 2 ask it for files and for directories, where no
    word that is known begins so."""
    shell = environment["_LIMOSA_COMPLETE"].removeprefix("complete_")
    line = environment.get("COMP_WORDS", "")
    words = _split(line)
    if "COMP_CWORD" in environment:
        position = int(environment["COMP_CWORD"])
    else:
        position = len(words) - (0 if line.endswith(" ") else 1)
    before = ""
    if shell == "bash":
        words, position, before = _rejoined(words, position)
    found, values = suggestions(words[1:position], words[position] if position < len(words) else "")
    for word, about in found:
        print(_line(shell, word.removeprefix(before), " ".join(about.split())))
    return 0 if found else {FILES: 1, DIRECTORIES: 2}.get(values, 0)


def suggestions(words: Sequence[str], beginning: str) -> tuple[Found, str]:
    """What may stand behind *words* and begins so, and which values there can be at all (``values``)."""
    path, rest = "", list(words)
    while not ends(path, rest):
        known = children(path) | ({} if path else ROOT_OPTIONS)
        if not rest:
            return [(word, about) for word, about in known.items() if word.startswith(beginning)], KNOWN
        path = f"{path} {rest.pop(0)}".lstrip()
        if path in ROOT_OPTIONS and path.endswith("-completion"):
            return [(shell, "") for shell in _SCRIPTS if shell.startswith(beginning)], KNOWN
        if path not in VERBS and not children(path):
            return [], FREE
    module, name, _ = VERBS[path]
    takes = parameters(getattr(import_module(f"limosa.cli.{module}"), name))
    found, values = _of_verb(takes, rest, beginning)
    behind = [] if rest else [(word, about) for word, about in children(path).items() if word.startswith(beginning)]
    return [*behind, *found], values


def _of_verb(takes: Sequence[Parameter], words: Sequence[str], beginning: str) -> tuple[Found, str]:
    options = {name: each for each in takes for name in (*each.names, *each.noes)}
    arguments = [each for each in takes if not each.names]
    wanted: Parameter | None = None
    for word in words:
        if wanted is not None:
            wanted = None
        elif word in options and options[word].kind is not None:
            wanted = options[word]
        elif not word.startswith("-") and arguments and not arguments[0].many:
            arguments.pop(0)
    if wanted is None and beginning.startswith("-"):
        about = {name: each.declared.help for name, each in options.items()} | dict.fromkeys(HELP, "Show the help.")
        return [(name, said) for name, said in about.items() if name.startswith(beginning)], KNOWN
    at_cursor = wanted or next(iter(arguments), None)
    if at_cursor is None or at_cursor.kind is None:
        return [], FREE
    return [(word, "") for word in at_cursor.kind.complete(beginning)], at_cursor.kind.values


def _split(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # a quotation that is still open
        words.append(lexer.token)
    return words


def _rejoined(words: list[str], position: int) -> tuple[list[str], int, str]:
    """*words* with ``NAME=VALUE`` as one of them, where the cursor is then, and what of that word stands before it.

    Bash breaks words at ``=``, and wants what comes behind the last one alone.
    """
    if "=" not in words[max(0, position - 1) : position + 1]:
        return words, position, ""
    first = position - (2 if words[position - 1] == "=" else 1)
    name = words[first] + "="
    text = words[position] if position < len(words) and words[position] != "=" else ""
    return [*words[:first], name + text], first, name


def _line(shell: str, word: str, about: str) -> str:
    if shell == "zsh":
        escaped = word.replace(":", "\\:")
        return f"{escaped}:{about}" if about else escaped
    return f"{word}\t{about}" if shell == "fish" and about else word


def script(shell: str = "") -> str:
    """What makes a shell complete limosa's words. Raises SpecError for a shell that is not known."""
    return _SCRIPTS[_known(shell)].rstrip()


def install(shell: str = "") -> str:
    """Put that where the shell reads it, in the user's home; a sentence that says what was done. Raises SpecError."""
    shell, home = _known(shell), paths.home()
    try:
        return _installed(shell, home)
    except OSError as error:
        raise paths.cannot_write(error, Path(error.filename or home)) from error


def _installed(shell: str, home: Path) -> str:
    if shell == "fish":
        file = home / ".config/fish/completions/limosa.fish"
    else:
        file = home / (".zfunc/_limosa" if shell == "zsh" else ".bash_completions/limosa.sh")
        sourced = f"source {shlex.quote(str(file))}"
        line = "fpath+=~/.zfunc; autoload -Uz compinit; compinit" if shell == "zsh" else sourced
        settings = home / f".{shell}rc"
        text = settings.read_text() if settings.is_file() else ""
        if line not in text.splitlines():
            settings.write_text(f"{text.rstrip()}\n{line}\n".lstrip())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_SCRIPTS[shell])
    return f"completion for {shell} is in {file}; it works from the next shell on"


def _known(shell: str) -> str:
    """The shell that is meant: the one named, the one that called limosa, or the user's own."""
    named = shell or _caller()
    if named not in _SCRIPTS:
        raise SpecError(f"there is no completion for the shell {named or '(unknown)'}", hint="bash, zsh or fish")
    return named


def _caller() -> str:
    try:
        name = Path(f"/proc/{os.getppid()}/comm").read_text().strip()
    except OSError:
        name = ""
    return name if name in _SCRIPTS else Path(os.environ.get("SHELL", "")).name
