"""The reference of the Python library in docs/library.md, as the docstrings have it.

``python -m tests.library_docs`` writes it between its marks; a test says when that was forgotten, and another runs the
examples, in the order of the page, as the cells of one notebook. What the page tells is the table PARTS; every public
name and every verb has to be in it.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import limosa
from limosa import errors
from limosa.experiment.measurement import Measurement
from limosa.lab.guest_verbs import GuestVerbs
from limosa.lab.host_verbs import HostVerbs
from limosa.lab.prospect import Prospect
from limosa.lab.status import GuestStatus, HostStatus, LabStatus, MoveStatus
from limosa.migration.preflight.finding import Finding
from limosa.migration.transfer import Outcome
from limosa.prediction.working_set import Point, WorkingSet
from limosa.probes.cpu_loop import CpuSamples
from limosa.probes.exchange import Exchanges
from limosa.probes.looks import ProgressRow
from limosa.probes.ticks import Ticks

PAGE = Path(__file__).parent.parent / "docs/library.md"
BEGIN, END = "<!-- library: written by tests/library_docs.py -->\n", "<!-- end of library -->"
WIDTH = 120


@dataclass(frozen=True, slots=True)
class Part:
    """One heading: what is under it, and how it is called in the examples. *members* in the order of the page."""

    heading: str
    of: Any
    called: str = ""
    members: tuple[str, ...] = ()
    slow: bool = False


PARTS = (
    Part(
        "A lab", limosa.Lab, "lab",
        ("up", "open", "status", "name", "spec", "directory", "record", "events", "host", "guest", "stop", "start",
         "migrate", "attempt", "switch", "recover", "hosts", "guests"),
    ),
    Part("Its guests", GuestVerbs, "lab.guests",
         ("__getitem__", "first", "where", "answers", "ssh", "agent", "qemu", "plan", "plans", "working_set",
          "predict", "follow", "explain", "console_sockets", "said", "screens")),
    Part("Its hosts", HostVerbs, "lab.hosts",
         ("__getitem__", "meet", "address", "features", "interactive", "logs", "examine", "cut", "power_off",
          "restore")),
    Part("Measuring", limosa.watch, "watch"),
    Part("What `watch` gives", Measurement, "watched",
         ("migrate", "set_to_work", "finish_workload", "check_alive", "pause")),
    Part("Results", limosa.reported, "reported"),
    Part("", limosa.read_ticks, "read_ticks"),
    Part("", limosa.read_exchanges, "read_exchanges"),
    Part("", limosa.read_progress, "read_progress"),
    Part("", limosa.read_cpu, "read_cpu"),
    Part("Whole experiments", limosa.calibrate, "calibrate"),
    Part("", limosa.demo, "demo", slow=True),
    Part("The end", limosa.Lab, "lab", ("down",)),
    Part("What one chooses", limosa.Settings),
    Part("", limosa.Workload),
    Part("", limosa.Probing),
    Part("What comes back", Outcome),
    Part("", Prospect),
    Part("", Finding),
    Part("", WorkingSet),
    Part("", Point),
    Part("", LabStatus),
    Part("", HostStatus),
    Part("", GuestStatus),
    Part("", MoveStatus),
    Part("", limosa.Result),
    Part("", Ticks),
    Part("", Exchanges),
    Part("", CpuSamples),
    Part("", ProgressRow),
    Part("Events and errors", limosa.Events, "events", ("add", "remove", "note", "stage", "about", "emit")),
    Part("", errors.LimosaError),
)  # fmt: skip


def reference() -> str:
    """All of it."""
    text = "\n".join(line for part in PARTS for line in _part(part)) + "\n"
    return re.sub(r"\n{3,}", "\n\n", text)


def _part(part: Part) -> Iterator[str]:
    if part.heading:
        yield f"\n## {part.heading}\n"
    if inspect.isfunction(part.of):
        yield from _verb(part.called, part.of, slow=part.slow)
        return
    if part.called not in ("lab",) or "open" in part.members:
        yield f"`{part.of.__name__}`: {_prose(part.of)}\n"
    for name in part.members:
        yield from _member(part, name)
    if not part.members and part.of is not errors.LimosaError:
        yield from _fields(part.of)


def _member(part: Part, name: str) -> Iterator[str]:
    found = inspect.getattr_static(part.of, name)
    if isinstance(found, property):
        yield f"### `{part.called}.{name}`\n"
        yield from _described(found.fget)
    elif name == "__getitem__":
        yield from _verb(f"{part.called}[…]", found)
    elif isinstance(found, classmethod):
        yield from _verb(f"{part.of.__name__}.{name}", found.__func__)
    else:
        yield from _verb(f"{part.called}.{name}", found)


def _verb(called: str, function: Any, *, slow: bool = False) -> Iterator[str]:
    signature = inspect.signature(inspect.unwrap(function))
    arguments = [value for name, value in signature.parameters.items() if name not in ("self", "cls")]
    told = _returned(signature.return_annotation)
    how = "await " if inspect.iscoroutinefunction(function) else ""
    if hasattr(function, "__wrapped__"):  # a context manager
        how = "async with " if told.startswith("AsyncIterator") else "with "
        told = told.removeprefix("Async").removeprefix("Iterator[").removesuffix("]")
    listed = "" if called.endswith("[…]") else f"({_arguments(arguments)})"
    name = called.replace("[…]", f"[{arguments[0].name}]") if arguments else called
    yield f"### `{how}{name}{listed}`" + (f" → `{told}`\n" if told not in ("None", "") else "\n")
    yield from _described(function, slow=slow)


def _returned(annotation: Any) -> str:
    return "" if annotation is inspect.Signature.empty else str(annotation)


def _arguments(arguments: list[inspect.Parameter]) -> str:
    words, only_named = list[str](), False
    for each in arguments:
        if each.kind is each.KEYWORD_ONLY and not only_named:
            words.append("*")
            only_named = True
        star = "*" if each.kind is each.VAR_POSITIONAL else ""
        words.append(f"{star}{each.name}" + ("" if each.default is each.empty else f"={each.default!r}"))
    return ", ".join(words)


# -- docstrings -------------------------------------------------------------------------------------------------------


def split(function: Any) -> tuple[str, str]:
    """A docstring's prose, and its example."""
    text = inspect.getdoc(function) or ""
    prose, _, example = text.partition("Example::\n")
    return prose.strip(), textwrap.dedent(example).strip("\n")


def _prose(function: Any) -> str:
    """As Markdown: code in single backquotes, lines as long as the documents' own."""
    prose = re.sub(r"``([^`]+)``", r"`\1`", split(function)[0])
    return "\n\n".join(
        textwrap.fill(" ".join(each.split()), WIDTH, break_long_words=False, break_on_hyphens=False)
        for each in prose.split("\n\n")
    )


def _described(function: Any, *, slow: bool = False) -> Iterator[str]:
    yield _prose(function) + "\n"
    if example := split(function)[1]:
        yield ("<!-- slow -->\n" if slow else "") + f"```python\n{example}\n```\n"


def _fields(of: type) -> Iterator[str]:
    """A table of what the class has: its annotated names, with the texts below them."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(tree, ast.ClassDef)
    yield "| field | type | default | |\n|---|---|---|---|"
    for node, following in zip(tree.body, [*tree.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            told = _text(following)
            default = f"`{ast.unparse(node.value)}`" if node.value else ""
            kind = ast.unparse(node.annotation).replace("|", r"\|")
            yield "|" + "".join(f" {cell} |" if cell else " |" for cell in (f"`{node.target.id}`", kind, default, told))
    for name, value in vars(of).items():
        if isinstance(value, property):
            yield f"| `{name}` | {value.fget.__annotations__['return']} | | {_prose(value.fget)} |"
    yield ""


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return re.sub(r"``([^`]+)``", r"`\1`", " ".join(node.value.value.split()))
    return ""


# -- what has to be on the page ---------------------------------------------------------------------------------------


def public(of: type) -> set[str]:
    """The verbs and properties of a class."""
    return {name for name in vars(of) if not name.startswith("_") and not isinstance(vars(of)[name], staticmethod)}


def is_property(name: str) -> bool:
    """Whether *name*, one of ``verbs()``, is looked up and not called."""
    return any(
        isinstance(vars(part.of).get(member), property)
        for part in PARTS
        for member in part.members
        if name == f"{part.of.__name__}.{member}"
    )


def verbs() -> Iterator[tuple[str, Any]]:
    """All that the page tells of, by name: verbs and properties."""
    for part in PARTS:
        if inspect.isfunction(part.of):
            yield part.called, part.of
        for name in part.members:
            found = inspect.getattr_static(part.of, name)
            function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
            yield f"{part.of.__name__}.{name}", function


def written(text: str) -> str:
    """*text* with the reference between the marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{reference()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
