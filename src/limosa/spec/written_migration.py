"""What the user writes in a lab file of how guests are moved. As ``written``, which has the rest of the file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from limosa.spec.migration_options.value_kinds import OFF, ON
from limosa.spec.problems import found, listed, nearest
from limosa.spec.resolved import Method, Tls


class WrittenMapping(BaseModel):
    """Keys that are not declared are errors, and no value is turned into another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _check_option(value: object) -> object:
    """What can stand for some option; which of them, and whether that one takes it, ``wishes`` says."""
    if not isinstance(value, bool | int | str):
        raise ValueError(f"expected a value such as 300 ms, 4 or on, found {found(value)}")
    return value


OptionValue = Annotated[Any, BeforeValidator(_check_option), WithJsonSchema({"type": ["string", "integer", "boolean"]})]
_TLS: dict[str, Tls] = {"auto": "auto", **dict.fromkeys(ON, "on"), **dict.fromkeys(OFF, "off")}
"""Each word, and what is meant: as with options, since `on` is a truth value to whoever writes YAML 1.1."""


def _read_tls(value: object) -> object:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str) and value in _TLS:
        return _TLS[value]
    near = nearest(value, _TLS) if isinstance(value, str) else ""
    raise ValueError(f"expected {listed(dict.fromkeys(_TLS.values()), 'or')}, found {found(value)}{near}")


WrittenTls = Annotated[Tls, BeforeValidator(_read_tls), WithJsonSchema({"enum": [True, False, *_TLS]})]
EMPTY_IS_DEFAULT = BeforeValidator(lambda value: {} if value is None else value)
"""``host1:`` with nothing after it is how a host without settings is written."""


class Migration(WrittenMapping):
    """How guests are moved when the command does not say."""

    method: Method | None = Field(
        default=None,
        description="`pre-copy`: the guest runs on while its memory is sent, and is stopped for the last of it. "
        "`post-copy`: it begins so; then the guest runs on the target, and what it misses follows on demand. "
        "Default: `pre-copy`.",
    )
    tls: WrittenTls | None = Field(
        default=None,
        description="`on` (`true`): the stream is encrypted, and both ends prove who they are. `off` (`false`): it is "
        "not. `auto`: where it leaves this machine. Default: `auto`.",
    )
    options: Annotated[dict[str, OptionValue], EMPTY_IS_DEFAULT] = Field(
        default={},
        description="What QEMU is told, by the names of [options.md](options.md): "
        "`{downtime-limit: 200 ms, auto-converge: true}`. Default: none.",
    )
