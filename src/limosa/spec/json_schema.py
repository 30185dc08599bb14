"""The JSON schema of a lab file, as pydantic makes it of ``written``, without what only a program would read."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from limosa.spec import written
from limosa.spec.migration_options import OPTIONS, Option
from limosa.spec.migration_options.reading import DEFAULT


class _Schema(GenerateJsonSchema):
    """Pydantic's schema without what only a program would read: generated titles, and empty defaults."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Titles repeat the key."""
        return False

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        """Leave out defaults that mean "worked out later"; the descriptions tell them."""
        made = super().default_schema(schema)
        if made.get("default", 0) in ("", {}, [], None) or isinstance(made.get("default"), dict):
            made.pop("default")
        return made


def json_schema() -> dict[str, Any]:
    """The JSON schema of a lab file, draft 2020-12, with a description on each key."""
    made = written.LabFile.model_json_schema(schema_generator=_Schema)
    for name in written.KINDS:
        section = made["properties"][name]
        if name != "hosts":
            section["type"] = ["object", "null"]
        entry = section.pop("additionalProperties", None)
        for pattern, value in section.pop("patternProperties", {}).items():
            entry, section["propertyNames"] = value, {"pattern": pattern}
        section["additionalProperties"] = entry if name == "guests" else {"anyOf": [entry, {"type": "null"}]}
    made["properties"]["hosts"]["minProperties"] = 1
    made["$defs"]["Migration"]["properties"]["options"] |= _options()
    image = made["$defs"]["Guest"]["properties"]["image"]
    image["anyOf"] = image.pop("oneOf")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Limosa lab file"}
    return {**head, **{key: value for key, value in made.items() if key != "title"}}


def _options() -> dict[str, Any]:
    """The options that there are now."""
    told = {name: {"description": each.purpose, **_value(each)} for name, each in OPTIONS.items()}
    return {"type": ["object", "null"], "properties": told, "additionalProperties": False}


def _value(option: Option) -> dict[str, Any]:
    return {"anyOf": [option.kind.schema, {"const": DEFAULT}]}
