"""What a verb takes, as its function declares it: ``lab: Annotated[str, Option("--lab", help="...")] = ""``.

The signature is the whole definition of a verb: what is read (``words``), told (``help_text``) and completed
(``completion``) is made from it. A parameter is a word, a whole number, a path, a switch, or a list of words.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

Complete = Callable[[str], list[str]]
"""The words that may stand where somebody has typed the beginning of one."""


class Argument:
    """A word that is known by its place."""

    def __init__(
        self, *, help: str, metavar: str = "", complete: Complete | None = None, show_default: bool = True
    ) -> None:
        self.help, self.metavar, self.complete, self.show_default = help, metavar, complete, show_default


class Option(Argument):
    """What is known by its name; a switch without a name of its own has one for no, too: ``--wait``, ``--no-wait``."""

    def __init__(
        self,
        *names: str,
        help: str,
        metavar: str = "",
        least: int | None = None,
        most: int | None = None,
        complete: Complete | None = None,
        show_default: bool = True,
    ) -> None:
        super().__init__(help=help, metavar=metavar, complete=complete, show_default=show_default)
        self.names, self.least, self.most = names, least, most


class Parameter:
    """One parameter of a verb: ``names`` are an option's, and those that mean no; an argument has none."""

    def __init__(self, name: str, annotation: Any, default: Any) -> None:
        self.name, self.declared = name, _declared(name, annotation)
        self.type, self.many = _type(annotation)
        self.required, self.default = default is inspect.Parameter.empty, default
        long = name.replace("_", "-")
        self.names: tuple[str, ...] = ()
        self.noes: tuple[str, ...] = ()
        if isinstance(self.declared, Option):
            self.names = self.declared.names or (f"--{long}",)
            self.noes = () if self.declared.names or self.type is not bool else (f"--no-{long}",)
        self.metavar = self.declared.metavar or (self._kind if self.names else long.upper())

    @property
    def _kind(self) -> str:
        """What stands for the value of an option; nothing for a switch."""
        return {bool: "", int: "NUMBER", Path: "FILE"}.get(self.type, "TEXT")

    @property
    def told(self) -> str:
        """What help says of it, its default included."""
        parts = [self.declared.help]
        if self.required:
            parts.append("[required]")
        elif self.declared.show_default and self.default not in ("", None, [], False):
            parts.append(f"[default: {self.names[0] if self.default is True else self.default}]")
        return "  ".join(parts)

    def value(self, text: str) -> Any:
        """The value that *text* stands for. Raises ValueError, which says what is wrong with it."""
        if self.type is not int:
            return self.type(text)
        try:
            number = int(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is not a whole number") from error
        if isinstance(self.declared, Option):
            least, most = self.declared.least, self.declared.most
            if least is not None and number < least:
                raise ValueError(f"{number} is less than {least}")
            if most is not None and number > most:
                raise ValueError(f"{number} is more than {most}")
        return number


def parameters(function: Callable[..., None]) -> list[Parameter]:
    """What the function of a verb takes, in the order of its signature."""
    found = inspect.signature(function, eval_str=True).parameters.values()
    return [Parameter(each.name, each.annotation, each.default) for each in found]


def _declared(name: str, annotation: Any) -> Argument:
    declared = get_args(annotation)[1] if get_origin(annotation) is Annotated else None
    if not isinstance(declared, Argument):
        raise TypeError(f"the parameter {name} says neither Argument nor Option")
    return declared


def _type(annotation: Any) -> tuple[type, bool]:
    """The type of one word, and whether there may be many."""
    inner = get_args(annotation)[0]
    inner = next((each for each in get_args(inner) if each is not NoneType and NoneType in get_args(inner)), inner)
    return (get_args(inner)[0], True) if get_origin(inner) is list else (inner, False)
