"""The words that are known here, for the shell to complete: what there is of labs, guests, hosts, runs and images.

Nothing is imported before somebody asks.
"""

from __future__ import annotations

import contextlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from limosa.spec.resolved import Lab


def labs_and_files() -> list[str]:
    """Names of labs, and what may be a lab's file here."""
    from pathlib import Path

    files = sorted(path.name for path in Path().iterdir() if path.suffix in (".yaml", ".yml"))
    with contextlib.suppress(Exception):  # files can be told without labs
        return [*labs(), *files]
    return files


def labs() -> list[str]:
    """Names of labs."""
    from limosa.lab.record import existing

    return sorted(directory.name for directory in existing())


def guests() -> list[str]:
    """Names of guests of any lab."""
    return sorted({name for spec in _specs() for name in spec.guests})


def hosts() -> list[str]:
    """Names of hosts of any lab."""
    return sorted({name for spec in _specs() for name in spec.hosts})


def guests_and_hosts() -> list[str]:
    """Both."""
    return [*guests(), *hosts()]


def runs() -> list[str]:
    """Ids of runs, the newest first, behind the word for that."""
    from limosa.results.meant import LATEST
    from limosa.results.store import all_runs

    found = [path.name for path in reversed(all_runs())]
    return [LATEST, *found] if found else []


def images() -> list[str]:
    """Names of images: those that limosa builds itself, and those that are kept."""
    from limosa.guest import library
    from limosa.spec import image_kinds

    return [*image_kinds.built(), *library.names()]


def _specs() -> Iterator[Lab]:
    from limosa.lab.record import existing

    for directory in existing():
        with contextlib.suppress(Exception):  # a damaged lab says so elsewhere
            yield directory.spec()
