"""A lab's runtime directory on a machine that many may use: who it belongs to is written in a mark inside it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from typing import Any

from limosa.hosts.link.far.system import lingers, login_directory

MARK_FILE = "limosa.json"
NOBODY = "nobody that limosa knows"
"""Whose a directory is in which there is no mark that can be read."""


def directory(lab: str) -> str:
    """Where the lab's sockets and logs are: short, because a socket's path may have 107 bytes.

    A lab that is there already stays where it is, whether or not its user lingers by now.
    """
    places = list(_places(lab))
    for place in places:
        with contextlib.suppress(OSError):
            if os.lstat(place).st_uid == os.geteuid():
                return place
    return places[0]


def _places(lab: str) -> Iterator[str]:
    """Those that may be, the best first. Guests outlive the login, and the login's own directory goes with it."""
    if os.geteuid() == 0:
        yield f"/run/limosa-{lab}"
        return
    login = login_directory()
    own = os.environ.get("XDG_RUNTIME_DIR") or login
    there = os.path.lexists(f"{own}/limosa-{lab}")
    if there or os.path.realpath(own) != login or lingers():
        with contextlib.suppress(OSError):
            if os.stat(own).st_uid == os.geteuid():  # noqa: PTH116
                yield f"{own}/limosa-{lab}"
    yield f"/tmp/limosa-{os.geteuid()}-{lab}"


def look(lab: str, owner: str) -> dict[str, Any]:
    """Whether the directory is there and whose it is. Raises OSError when it is none that could be trusted."""
    runtime = directory(lab)
    try:
        found = os.lstat(runtime)
    except FileNotFoundError:
        return {"runtime": runtime, "ours": False, "whose": ""}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(1, f"{runtime} is there and belongs to somebody else")
    try:
        with open(f"{runtime}/{MARK_FILE}", encoding="utf-8") as file:  # noqa: PTH123
            mark = json.load(file)
        whose = f"lab {mark['lab']} of {mark.get('by') or mark['owner']}"
    except (OSError, ValueError, KeyError, TypeError):
        return {"runtime": runtime, "ours": False, "whose": NOBODY}
    return {"runtime": runtime, "ours": mark["owner"] == owner, "whose": whose, "host": mark.get("host")}


def claim(lab: str, owner: str, host: str, by: str = "") -> dict[str, Any]:
    """Make the directory, with the mark, unless it is there: then say whose it is.

    *owner* alone decides; *by* is for people: who commands the lab, and from where.
    """
    found = look(lab, owner)
    if found["whose"]:
        if found["ours"] and found["host"] != host:  # two names of one machine in one lab
            return {**found, "ours": False, "whose": f"host {found['host']} of the same lab"}
        return found
    runtime = found["runtime"]
    os.mkdir(runtime, 0o700)  # noqa: PTH102
    # Whole or not at all, so that no half mark makes it nobody's.
    with open(f"{runtime}/.mark", "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump({"lab": lab, "owner": owner, "host": host, "by": by}, file)
    os.rename(f"{runtime}/.mark", f"{runtime}/{MARK_FILE}")  # noqa: PTH104
    return look(lab, owner)


def release(lab: str, owner: str) -> dict[str, Any]:
    """Remove the directory if it is ours. Raises OSError while something is mounted in it: that is not the lab's to
    delete, a disk least of all."""
    found = look(lab, owner)
    if found["ours"]:
        inside = [place for place in mounts() if place.startswith(found["runtime"] + "/")]
        if inside:
            raise OSError(errno.EBUSY, f"{inside[0]} is still mounted")
        shutil.rmtree(found["runtime"])
    return found


def mounts() -> list[str]:
    """Every mount point, as paths."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:  # noqa: PTH123
        # Spaces and their like are written as three octal digits (proc(5)).
        return [re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), line.split()[4]) for line in lines]
