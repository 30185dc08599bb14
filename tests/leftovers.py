"""What is on the machine, before and after: processes, namespaces, mounts, interfaces, sockets, cgroups, folders.

::

    before = snapshot([state_directory])
    ...
    assert not wait_settled(before)      # or: print("\\n".join(difference(before, snapshot(before.marks))))

The machine has other users, whose processes and labs come and go. A process counts when it bears one of the *marks*
(paths: the state directory that only this test uses) in its command line or in its environment, which limosa hands
down to everything it starts on a host, or when it descends from this process. A namespace counts when such a process
is in it or holds it open, or when a mount pins it. Mounts and interfaces of this namespace count whoever made them,
apart from those that container engines and desktops are known to make: limosa itself makes none out here. Where
nobody else uses limosa (*alone*), what bears limosa's name counts too: sockets, cgroups, temporary files.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

OTHERS_INTERFACES = re.compile(
    r"(veth[0-9a-f]{6,8}|br-[0-9a-f]{12}|docker\d+|virbr\d+(-nic)?|vnet\d+|(incus|lxd)br\d+)"
)
OTHERS_MOUNTS = re.compile(
    r"/(var/lib/(docker|containers|containerd|incus|lxd)|run/(docker|user|containerd)|media|snap|tmp/mmdebstrap\.)\b"
)
"""Limosa's own mmdebstrap works in namespaces, and in a folder of the image cache."""
NAME = "limosa"
"""What also counts, wherever it is, on a machine where nobody else uses limosa."""

ENDED = " (has ended, but nobody collected it)"
_KINDS = ("net", "mnt", "pid", "uts", "ipc", "user")
_CGROUPS = Path("/sys/fs/cgroup")
_CGROUP_DEPTH = 6


@dataclass(frozen=True, slots=True)
class Process:
    """One process that counts."""

    pid: int
    started: int
    """Clock ticks after boot, so that a later process with the same pid is another one."""
    text: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was there at one moment: kind → identity → how to describe it."""

    marks: tuple[str, ...]
    alone: bool = False
    found: dict[str, dict[str, str]] = field(default_factory=dict)


def snapshot(marks: Sequence[str | os.PathLike[str]], root_pid: int | None = None, *, alone: bool = False) -> Snapshot:
    """What there is now that counts. *root_pid*: whose descendants count; this process unless given."""
    texts = tuple(os.fspath(mark) for mark in marks)
    if not all(text.startswith("/") and len(text) > 4 for text in texts):
        raise ValueError(f"a mark has to be a path that nobody else uses: {texts}")
    counted = list(processes(texts, os.getpid() if root_pid is None else root_pid))
    alive = [process for process in counted if not process.text.endswith(ENDED)]
    found = {
        "process": {f"{p.pid}/{p.started}": f"{p.pid}: {p.text}" for p in counted},
        "namespace": namespaces(alive),
        "mount": mounts(),
        "interface": interfaces(),
        "socket": sockets(texts, alive, alone),
        "cgroup": cgroups(texts, alive, alone),
        "folder": folders(texts, alone),
    }
    return Snapshot(texts, alone, found)


def difference(before: Snapshot, after: Snapshot) -> list[str]:
    """One line for each thing that is there now and was not before."""
    return [
        f"{kind} {text}"
        for kind, things in after.found.items()
        for identity, text in things.items()
        if identity not in before.found.get(kind, {})
    ]


def wait_settled(before: Snapshot, patience_s: float = 5.0, root_pid: int | None = None) -> list[str]:
    """The difference to *before*, asked again until it is empty or *patience_s* has passed: ending takes a moment."""
    give_up_s = time.monotonic() + patience_s
    while (
        left := difference(before, snapshot(before.marks, root_pid, alone=before.alone))
    ) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    return left


# -- processes --------------------------------------------------------------------------------------------------------


def processes(marks: Sequence[str], root_pid: int) -> Iterator[Process]:
    """Every process that bears a mark or descends from *root_pid*, which itself does not count."""
    table = dict(_table())
    for pid, (parent, started, text) in table.items():
        if pid == root_pid:
            continue
        line = parent
        seen = {pid}
        while line in table and line != root_pid and line not in seen:
            seen.add(line)
            line = table[line][0]
        if line == root_pid or _bears(pid, marks):
            yield Process(pid, started, text)


def _table() -> Iterator[tuple[int, tuple[int, int, str]]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The name in parentheses may itself contain spaces and parentheses.
            name, _, rest = (entry / "stat").read_text(errors="replace").rpartition(")")
            fields = rest.split()
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            text = words or name.partition("(")[2]
            if fields[0] == "Z":
                text += ENDED
            yield int(entry.name), (int(fields[1]), int(fields[19]), text[:300])


def _bears(pid: int, marks: Sequence[str]) -> bool:
    if pid == os.getpid():
        return False
    for file in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            data = Path(f"/proc/{pid}/{file}").read_bytes()
            if any(os.fsencode(mark) in data for mark in marks):
                return True
    return False


# -- namespaces, mounts, interfaces -----------------------------------------------------------------------------------


def namespaces(counted: Sequence[Process]) -> dict[str, str]:
    """Every namespace that a counted process is in, or holds open, or that is pinned by a mount here."""
    found = {f"{_inode(line)}": f"pinned by the mount {line.split()[4]}" for line in _mountinfo() if " nsfs " in line}
    for process in counted:
        for folder in ("ns", "fd"):
            with contextlib.suppress(OSError):
                for entry in Path(f"/proc/{process.pid}/{folder}").iterdir():
                    with contextlib.suppress(OSError):
                        name = str(entry.readlink())
                        if re.fullmatch(r"(cgroup|ipc|mnt|net|pid|time|user|uts)[a-z_]*:\[\d+\]", name):
                            found.setdefault(name, f"{name} of process {process.pid}: {process.text[:80]}")
    own = {str(entry.readlink()) for entry in Path("/proc/self/ns").iterdir()}
    return {name: text for name, text in found.items() if name not in own}


def members(spaces: Set[str]) -> dict[tuple[int, int], str]:
    """Who is in one of these namespaces: (pid, start) → command line, as numbers of namespaces are used again."""
    return {
        (pid, started): text
        for pid, (_, started, text) in _table()
        if any(_namespace(pid, kind) in spaces for kind in _KINDS)
    }


def alive() -> set[tuple[int, int]]:
    """(pid, start) of every process that has not ended."""
    return {(pid, started) for pid, (_, started, text) in _table() if not text.endswith(ENDED)}


def _namespace(pid: int, kind: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except OSError:
        return ""


def _inode(line: str) -> str:
    return line.split()[3]


def _mountinfo() -> list[str]:
    return Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()


def mounts() -> dict[str, str]:
    """The mounts of this mount namespace, without those that others are known to make."""
    lines = (line.split() for line in _mountinfo())
    return {words[0]: f"{words[4]} ({' '.join(words[words.index('-') + 1 :][:2])})" for words in lines
            if not OTHERS_MOUNTS.match(words[4])}  # fmt: skip


def interfaces() -> dict[str, str]:
    """The interfaces of this network namespace by index, without those that others are known to make."""
    found = {}
    for line in Path("/proc/self/net/dev").read_text().splitlines()[2:]:
        name = line.partition(":")[0].strip()
        if not OTHERS_INTERFACES.fullmatch(name):
            found[name] = name
    return found


# -- sockets, cgroups, folders ----------------------------------------------------------------------------------------


def sockets(marks: Sequence[str], counted: Sequence[Process], alone: bool) -> dict[str, str]:
    """Bound unix sockets with a mark or held by a counted process, and socket files and fifos in marked folders."""
    found = {}
    words_wanted = [*marks, NAME] if alone else marks
    held = {name for process in [*counted, Process(os.getpid(), 0, "")] for name in _open_in(process.pid)}
    for line in Path("/proc/self/net/unix").read_text(errors="replace").splitlines()[1:]:
        words = line.split(maxsplit=7)
        if len(words) < 8:
            continue
        if f"socket:[{words[6]}]" in held or any(word in words[7] for word in words_wanted):
            found[f"inode {words[6]}"] = f"{words[7]} (bound, inode {words[6]})"
    for mark in marks:
        for folder, _, files in os.walk(mark):
            for name in files:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    mode = path.lstat().st_mode
                    if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
                        found[str(path)] = f"{path} (file)"
    return found


def _open_in(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(entry.readlink())


def cgroups(marks: Sequence[str], counted: Sequence[Process], alone: bool) -> dict[str, str]:
    """Cgroups named after the lab's folders (*alone*: after limosa), and those of counted processes but not our own."""
    found = {}
    names = [NAME] if alone else [Path(mark).name for mark in marks]
    start = len(_CGROUPS.parts)
    for folder, below, _ in os.walk(_CGROUPS):
        found |= {str(Path(folder, name)): str(Path(folder, name)) for name in below if any(n in name for n in names)}
        if len(Path(folder).parts) - start >= _CGROUP_DEPTH:
            below.clear()
    own = set(Path("/proc/self/cgroup").read_text().splitlines())
    for process in counted:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/cgroup").read_text().splitlines():
                if line not in own:
                    found[line] = f"{line} of process {process.pid}"
    return found


def folders(marks: Sequence[str], alone: bool) -> dict[str, str]:
    """Lab directories in marked folders and, *alone*, temporary files that are named after limosa."""
    found = {}
    for mark in marks:
        for pattern in ("limosa/labs/*", "labs/*"):
            found |= {str(path): str(path) for path in Path(mark).glob(pattern)}
    for place in (Path(tempfile.gettempdir()), Path("/dev/shm")) if alone else ():
        with contextlib.suppress(OSError):
            for path in place.iterdir():
                if path.name.startswith((NAME, f".{NAME}")):
                    found[str(path)] = str(path)
    return found
