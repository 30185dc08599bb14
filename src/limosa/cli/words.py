"""The words of a command read as what its verb takes; a wrong one is an error of ours, with the nearest right one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from limosa.cli.declared import Parameter
from limosa.errors import SpecError

HELP = ("-h", "--help")


class HelpAskedError(Exception):
    """Help was asked for instead of an answer."""


def read(path: str, takes: Sequence[Parameter], words: Sequence[str]) -> dict[str, Any]:
    """The values for the function of the verb *path*, by parameter. Options may stand before, between and behind
    arguments; what follows ``--`` is arguments alone.

    Raises SpecError, and HelpAskedError.
    """
    reading = _Reading(path, takes)
    rest = iter(words)
    for word in rest:
        if word == "--":
            reading.loose += rest
        elif word in HELP:
            raise HelpAskedError
        elif word.startswith("-") and word != "-":
            reading.option(word, rest)
        else:
            reading.loose.append(word)
    reading.arguments()
    return {each.name: reading.values.get(each.name, each.default) for each in takes}


class _Reading:
    """The words of one command on their way to values; ``loose`` are those without an option before them."""

    def __init__(self, path: str, takes: Sequence[Parameter]) -> None:
        self.path, self.takes = path, takes
        self.values: dict[str, Any] = {}
        self.loose: list[str] = []
        self._named = {name: each for each in takes for name in (*each.names, *each.noes)}

    def option(self, word: str, rest: Iterator[str]) -> None:
        """Read an option and, from *rest*, its value."""
        name, assigned, text = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
        option = self._named.get(name)
        if option is None:
            self._refuse_words_of_a_command(word)
            raise unknown_option(self.path, name, self._named)
        if option.kind is None:
            if assigned:
                raise self._wrong(f"{name} takes no value")
            self.values[option.name] = name in option.names
            return
        if not assigned:
            following = next(rest, None)
            if following is None:
                raise self._wrong(f"{name} needs a value")
            text = following
        value = self._value(option, name, text)
        if option.many:
            self.values.setdefault(option.name, []).append(value)
        else:
            self.values[option.name] = value

    def _refuse_words_of_a_command(self, word: str) -> None:
        """Of ``limosa exec host1 ls -l`` say where the command has to begin. Raises SpecError."""
        arguments = [each for each in self.takes if not each.names]
        before = len(arguments) - 1
        if arguments and arguments[-1].metavar == "COMMAND" and len(self.loose) > before:
            words = " ".join([*self.loose[:before], "--", *self.loose[before:], word])
            raise SpecError(f"{word} belongs to the command", hint=f"put -- before it: {self.path} {words} …")

    def arguments(self) -> None:
        """Give the loose words to the arguments, in their order; the last may take many."""
        for argument in self.takes:
            if argument.names:
                continue
            taken, self.loose = (self.loose, []) if argument.many else (self.loose[:1], self.loose[1:])
            values = [self._value(argument, argument.name, word) for word in taken]
            if values:
                self.values[argument.name] = values if argument.many else values[0]
            elif argument.required:
                raise self._wrong(f"missing argument {argument.metavar}")
        if self.loose:
            raise self._wrong(f"got unexpected extra argument: {' '.join(self.loose)}")

    def _value(self, parameter: Parameter, shown: str, text: str) -> Any:
        try:
            return parameter.value(text)
        except ValueError as error:
            example = parameter.kind.example if parameter.kind else ""
            raise self._wrong(f"{shown}: {error}", f"as in {shown} '{example}'" if example else "") from error

    def _wrong(self, what: str, hint: str = "") -> SpecError:
        return SpecError(what, hint=hint or f"usage: {usage(self.path, self.takes)}; {self.path} -h explains it")


def usage(path: str, takes: Sequence[Parameter]) -> str:
    """``limosa migrate [OPTIONS] GUEST HOST``."""
    words = [path, "[OPTIONS]"]
    for each in takes:
        if not each.names:
            word = f"{each.metavar}..." if each.many else each.metavar
            words.append(word if each.required else f"[{word}]")
    return " ".join(words)


def unknown_option(path: str, name: str, known: Mapping[str, object] | Sequence[str]) -> SpecError:
    """What to say of an option that *path* does not have."""
    near = _nearest(name, [each for each in (*known, *HELP) if each.startswith("--")])
    hint = f"did you mean {near}?" if near else f"{path} -h lists the options"
    return SpecError(f"{path} has no option {name}", hint=hint)


def unknown_verb(path: str, name: str, known: Sequence[str]) -> SpecError:
    """What to say of a verb that there is not."""
    near = _nearest(name, known)
    hint = f"did you mean {path} {near}?" if near else f"{path} -h lists the verbs"
    return SpecError(f"there is no verb {name}", hint=hint)


def _nearest(name: str, known: Sequence[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(name, known, 1)), "")
