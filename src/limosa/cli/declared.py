"""What a verb takes, as its function declares it: ``lab: Annotated[str, Option("--lab", kind=LAB, help="...")] = ""``.

The signature is the whole definition of a verb: what is read (``words``), told (``help_text``) and completed
(``completion``) is made from it. A parameter is a switch, or of a kind (``values``), or a list of words of one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from limosa.cli.values import Kind


class Argument:
    """A word that is known by its place."""

    def __init__(self, *, help: str, kind: Kind | None = None) -> None:
        self.help, self.kind = help, kind


class Option(Argument):
    """What is known by its name. Without a kind it is a switch; one that has no name of its own has one for no, too:
    ``--wait``, ``--no-wait``."""

    def __init__(self, *names: str, help: str, kind: Kind | None = None) -> None:
        super().__init__(help=help, kind=kind)
        self.names = names


class Parameter:
    """One parameter of a verb: ``names`` are an option's, and those that mean no; an argument has none."""

    def __init__(self, name: str, annotation: Any, default: Any) -> None:
        self.name, self.declared = name, _declared(name, annotation)
        self.kind, (self.type, self.many) = self.declared.kind, _type(annotation)
        if self.type is not (bool if self.kind is None else self.kind.type):
            raise TypeError(f"the parameter {name} is a {self.type.__name__}, and its kind is not")
        self.required, self.default = default is inspect.Parameter.empty, default
        self.names: tuple[str, ...] = ()
        self.noes: tuple[str, ...] = ()
        if isinstance(self.declared, Option):
            long = name.replace("_", "-")
            self.names = self.declared.names or (f"--{long}",)
            self.noes = () if self.declared.names or self.kind is not None else (f"--no-{long}",)

    @property
    def metavar(self) -> str:
        """What stands for its value in help; nothing for a switch."""
        return "" if self.kind is None else self.kind.metavar

    @property
    def told(self) -> str:
        """What help says of it, its default included."""
        parts = [self.declared.help]
        if self.required:
            parts.append("[required]")
        elif self.default not in ("", None, [], False):
            parts.append(f"[default: {self.names[0] if self.kind is None else self.kind.shown(self.default)}]")
        return "  ".join(parts)

    def value(self, text: str) -> Any:
        """The value that *text* stands for. Raises ValueError, which says what is wrong with it."""
        return text if self.kind is None else self.kind.read(text)


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
