"""The images that a lab builds itself: each is built once, whole or not at all, and found again in milliseconds.

::

    <cache>/images/micro-0123456789abcdef/   kernel, initrd, disk.raw, image.json
    <cache>/images/.micro-0123456789abcdef.lock       held by whoever builds it
    <cache>/images/.micro-0123456789abcdef.building/  being built; left by a killed build, swept by the next
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from limosa import paths, untrusted
from limosa.errors import MachineError, SpecError
from limosa.events import Events
from limosa.guest.image_folder import discard, in_thread, locked, sha256, space_errors, sweep, sync
from limosa.spec.image_kinds import MICRO, MICRO_GENERIC

_RECIPES = {MICRO.name: "limosa.guest.micro", MICRO_GENERIC.name: "limosa.guest.micro.generic"}
"""The module that builds each image; imported when it is asked for."""

_OLD_FORMAT_HINT = "remove it; it will be built again"


class Built(Protocol):
    """What a recipe has made in its directory; file names are relative to it."""

    @property
    def kernel(self) -> str: ...  # noqa: D102
    @property
    def initrd(self) -> str: ...  # noqa: D102
    @property
    def disk(self) -> str: ...  # noqa: D102
    @property
    def kernel_arguments(self) -> str: ...  # noqa: D102
    @property
    def provenance(self) -> dict[str, Any]: ...  # noqa: D102


class Recipe(Protocol):
    """A module that builds one kind of image."""

    def digest(self, agent: Path | None) -> str:
        """What decides the image, as hexadecimal digits; cheap."""
        ...

    async def build(self, directory: Path, events: Events, agent: Path | None) -> Built:
        """Make the image in the existing *directory*."""
        ...


@dataclass(frozen=True, slots=True)
class Image:
    """A cached image, read-only: a guest gets a copy of ``disk``, and ``initrd`` with its seed appended."""

    name: str
    directory: Path
    kernel: Path
    initrd: Path
    disk: Path
    kernel_arguments: str
    provenance: dict[str, Any]
    """name, digest, built_at, build_s, sha256 of the three files, and what the recipe adds."""


async def ensure(name: str, events: Events, *, agent: Path | None = None) -> Image:
    """The image *name* from the cache, else built now, with the program *agent* in it (None: compiled from our source).

    Raises SpecError for an unknown name, MachineError when the machine lacks a program, the network or space.
    """
    recipe = _recipe(name)
    key = f"{name}-{recipe.digest(agent)}"
    images = paths.cache() / "images"
    image = find(images / key)
    if image is not None:
        return image
    with space_errors(images):
        images.mkdir(parents=True, exist_ok=True)
        async with locked(images, key, events):
            image = find(images / key)
            if image is None:
                sweep(images, key)
                image = await _build(recipe, name, images, key, events, agent)
    return image


def find(directory: Path) -> Image | None:
    """The image in *directory*, None when there is none. MachineError when it is not whole."""
    try:
        record = untrusted.decode((directory / "image.json").read_bytes(), type=dict[str, Any])
        kernel, initrd, disk = (directory / record["files"][part] for part in ("kernel", "initrd", "disk"))
        arguments = str(record["kernel_arguments"])
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise MachineError(f"the image in {directory} cannot be used: {error}", hint=_OLD_FORMAT_HINT) from error
    for file in (kernel, initrd, disk):
        if not file.is_file():
            raise MachineError(f"the image in {directory} lacks {file.name}", hint=_OLD_FORMAT_HINT)
    return Image(record["name"], directory, kernel, initrd, disk, arguments, record["provenance"])


def current(agent: Path | None) -> set[str]:
    """The directories of the images as they would be built now; what else a recipe has made is of no use any more."""
    return {f"{name}-{_recipe(name).digest(agent)}" for name in _RECIPES}


def _recipe(name: str) -> Recipe:
    if name not in _RECIPES:
        raise SpecError(f"there is no image named {name}", hint=f"one of: {', '.join(_RECIPES)}")
    return cast(Recipe, importlib.import_module(_RECIPES[name]))


async def _build(recipe: Recipe, name: str, images: Path, key: str, events: Events, agent: Path | None) -> Image:
    building = images / f".{key}.building"
    building.mkdir()
    try:
        with events.stage(f"build image {name}"):
            started = time.monotonic()
            built = await recipe.build(building, events, agent)
            await in_thread(_complete, building, name, key, built, time.monotonic() - started)
            building.rename(images / key)
            sync(images)
    except BaseException:
        with contextlib.suppress(OSError):
            discard(building)
        raise
    image = find(images / key)
    assert image is not None
    return image


def _complete(building: Path, name: str, key: str, built: Built, build_s: float) -> None:
    """Write the record of a finished build, and have all of it on the disk before it gets its name."""
    files = {"kernel": built.kernel, "initrd": built.initrd, "disk": built.disk}
    provenance = {
        "name": name,
        "digest": key.rpartition("-")[2],
        "built_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "build_s": round(build_s, 2),
        "sha256": {part: sha256(building / file) for part, file in files.items()},
        **built.provenance,
    }
    record = {
        "name": name,
        "files": files,
        "kernel_arguments": built.kernel_arguments,
        "provenance": provenance,
    }
    (building / "image.json").write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    for file in [*files.values(), "image.json"]:
        sync(building / file)
    sync(building)
