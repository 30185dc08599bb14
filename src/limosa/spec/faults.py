"""Pydantic's validation errors in the words of a lab file: each with its line and its way out."""

from __future__ import annotations

from types import NoneType
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from limosa.spec import written
from limosa.spec.document import Document
from limosa.spec.problems import MOST_SHOWN, Location, Problem, found, listed, nearest
from limosa.spec.written_migration import Migration

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "dict_type": "a mapping (`key: value`)",
    "model_type": "a mapping (`key: value`)",
    "list_type": "a list (`[first, second]`)",
}


def explain(error: ValidationError, document: Document) -> list[Problem]:
    """The problems that *error* stands for, in the file's order; those that will not be told are only counted."""
    faults = sorted(error.errors(include_url=False), key=lambda details: document.line(details["loc"]))
    told = [_problem(details, document) for details in faults[:MOST_SHOWN]]
    return told + [Problem(document.line(details["loc"]), details["loc"], "") for details in faults[MOST_SHOWN:]]


def _problem(details: ErrorDetails, document: Document) -> Problem:
    location: Location = details["loc"]
    if len(location) > 3 and location[0] == "guests" and location[2] == "image":
        # Pydantic names the shape that it took the value for, which no file contains.
        location = (*location[:3], *location[4:])
    if location and location[-1] == "[key]":
        # A mapping's key, not its value, is at fault.
        location = location[:-1]
    message, hint = _words(details, location)
    if details["type"] == "missing":
        location = location[:-1]
    return Problem(document.line(location), location, message, hint)


def _words(details: ErrorDetails, location: Location) -> tuple[str, str]:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    called, model = _around(location)
    if kind == "extra_forbidden":
        keys = list(model.model_fields)
        return f"unknown key{nearest(str(location[-1]), keys)}", f"{called} has {listed(keys)}"
    if kind == "missing":
        return f"the key {location[-1]!r} is missing", _description(model, location)
    if kind == "literal_error":
        valid = _choices(model, location)
        near = nearest(value, valid) if isinstance(value, str) else ""
        return f"expected {listed(valid, 'or')}, found {found(value)}{near}", ""
    if kind == "value_error":
        return str(context["error"]), ""
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {found(value)}", _way_out(kind, value, location)
    return details["msg"], ""


def _way_out(kind: str, value: object, location: Location) -> str:
    if kind == "string_type" and isinstance(value, int | float):
        return f'quote it if it is meant as text: "{str(value).lower()}"'
    if kind == "dict_type" and isinstance(value, list) and len(location) == 1:
        return f"write names as keys: `{location[0]}: {{name1: {{}}, name2: {{}}}}`"
    return ""


def _around(location: Location) -> tuple[str, type[BaseModel]]:
    """What the mapping that holds *location* is called, and its model."""
    match location:
        case ("guests", _, "disk", _):
            return "a disk", written.Disk
        case ("migration", _) | ("guests", _, "migration", _):
            return "a migration", Migration
        case ("guests", _, "image", _):
            return "an image", written.DiskImage
        case (str(section), _, _, *_) if section in written.KINDS:
            return written.KINDS[section]
    return "a lab file", written.LabFile


def _description(model: type[BaseModel], location: Location) -> str:
    """What the schema says of the key, in one clause."""
    key = str(location[-1])
    text = (model.model_fields[key].description or "").split(". ")[0].rstrip(".")
    return f"{key}: {text[0].lower()}{text[1:]}"


def _choices(model: type[BaseModel], location: Location) -> list[str]:
    annotation = model.model_fields[str(location[-1])].annotation
    choices = [choice for choice in get_args(annotation) if choice is not NoneType]
    # An optional choice is a union of the choices with None.
    return [str(choice) for choice in (get_args(choices[0]) or choices)]
