"""What a container has to have inside: QEMU, iproute2 and Python, by its own package manager where one is missing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError
from limosa.events import Events
from limosa.hosts.containers.daemon import Daemon
from limosa.hosts.containers.opener import execute
from limosa.hosts.installers import INSTALLERS, Installer

LOOK_S = 60.0
INSTALL_S = 1200.0
"""Some 300 MB over a slow line."""
NETWORK_S = 15.0
"""How long a container that has just started may take until it has a route: its DHCP client is at work."""

NEEDED = ("ip", "tc", "python3")

# A program counts where it is a file on the PATH. Alpine's busybox has an applet ip, which knows no -json; and the
# shell of a static busybox names all its applets as if they were there.
_LOOK = """for word; do
    path=$(command -v -- "$word")
    case $path in /*) ;; *) path= ;; esac
    case $word:$(readlink -f "$path") in *: | ip:*busybox*) echo "missing $word" ;; esac
done
for word in apk apt-get dnf; do command -v $word >/dev/null && echo "manager $word"; done
echo looked
"""
_LOOKED = "looked"
_LOOKS = 5
"""LXD before 5.14 loses what a command said last, once in some hundred times on a busy machine
(https://github.com/canonical/lxd/issues/11890)."""


async def furnish(daemon: Daemon, container: str, host: str, qemu: str, events: Events) -> None:
    """See that a container has what a host needs. Raises MachineError where it cannot be installed."""
    lacking, managers = await look(daemon, container, (qemu, *NEEDED))
    if not lacking:
        return
    names = ", ".join(lacking)
    usable = [manager for manager in INSTALLERS if manager.program in managers]
    if not usable:
        raise MachineError(
            f"{names} is not installed in container {container}, which has no package manager that limosa knows",
            hint="use an image that has QEMU, iproute2 and Python in it",
        )
    manager = usable[0]
    unknown = [name for name in lacking if name not in manager.packages]
    if unknown:
        raise MachineError(
            f"there is no {', '.join(unknown)} in container {container}",
            hint=f"put it there, or take the line `qemu:` of host {host} out of the lab file",
        )
    packages = sorted({manager.packages[name] for name in lacking})
    line = f"{manager.program}: {' '.join(packages)}"
    events.note(f"container {container} lacks {names}; its own package manager installs it there: {line}")
    with events.stage(f"install QEMU in {container}"):
        await _wait_for_network(daemon, container)
        await _install(daemon, container, manager, packages)
    still, _ = await look(daemon, container, (qemu, *NEEDED))
    if still:
        raise MachineError(
            f"{', '.join(still)} is still missing in container {container} after {line}",
            hint="install it there, or use an image that has it",
        )


async def look(daemon: Daemon, container: str, programs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of *programs* that the container lacks, and the package managers that it has."""
    for _ in range(_LOOKS):
        _, said = await _shell(daemon, container, _LOOK, programs, LOOK_S)
        if _LOOKED in said.splitlines():
            break
    else:
        raise MachineError(
            f"container {container} does not say what it has: {said.strip() or 'its shell said nothing'}",
            hint=f"this has to work: {daemon.flavour.client} exec {container} -- sh -c 'command -v sh'",
        )
    words = [line.split(maxsplit=1) for line in said.splitlines()]
    found = {kind: [rest for first, rest in (w for w in words if len(w) == 2) if first == kind]
             for kind in ("missing", "manager")}  # fmt: skip
    return found["missing"], found["manager"]


async def _install(daemon: Daemon, container: str, manager: Installer, packages: Sequence[str]) -> None:
    status, said = await _shell(daemon, container, " &&\n".join(manager.install), packages, INSTALL_S)
    if status == 0:
        return
    words, reason = " ".join(packages), why(said)
    raise MachineError(
        f"container {container} lacks {words}, and {manager.program} could not install it: {reason}",
        hint=f"{question(manager, reason)} {daemon.flavour.client} exec {container} -- sh, then install {words} "
        f"with {manager.program}; or use an image that has it",
    )


def question(manager: Installer, reason: str) -> str:
    """What a person may look at first, by the sentence that the package manager ended with."""
    if not _UNFETCHED.search(reason):
        for package, where in manager.where.items():
            if re.search(rf"\b{package} \(no such package\)|(?:argument|match): (?:\S+ )*{package}\b", reason):
                return f"{package} is {where}."
    return "has it a network with a way out?"


# apk, apt-get, dnf. Where a list of packages could not be fetched, that is the reason of what is said last.
_UNFETCHED = re.compile(
    r"(?:W|E): Failed to fetch|WARNING: (?:fetching|opening|Ignoring|updating)|(?:\s*- |>>> )?Curl error|>>> \w"
)
# A transaction that dnf 5 cannot resolve ends with advice; what is wrong stands before it.
_ERROR = re.compile(r"E: |ERROR: |Error: |No match for argument: |Failed to download |Problem(?: \d+)?: ")
_MARKS = re.compile(r"^(?:- |>>> )")


def why(said: str) -> str:
    """The sentence that counts in what a package manager said."""
    lines = [line for line in said.splitlines() if line.strip()]
    at = next((number for number, line in enumerate(lines) if _ERROR.match(line)), len(lines) - 1)
    if at < 0:
        return "it said nothing"
    # apk goes on in indented lines: which package, and who asks for it.
    end = next((number for number in range(at + 1, len(lines)) if not lines[number].startswith(" ")), len(lines))
    words = " ".join(line.strip() for line in lines[at:end])
    reason = next((line.strip() for line in lines if _UNFETCHED.match(line)), "")
    return words if not reason or reason in words else f"{words} ({_MARKS.sub('', reason)})"


async def _wait_for_network(daemon: Daemon, container: str) -> None:
    """Until there is a route to somewhere, or for so long: an installation from files inside needs none."""
    script = "n=0; while read -r line; do n=$((n + 1)); done </proc/net/route; [ $n -gt 1 ]"
    async for _ in Deadline.after(NETWORK_S).ticks(0.25):
        if (await _shell(daemon, container, script, (), LOOK_S))[0] == 0:
            return


async def _shell(
    daemon: Daemon, container: str, script: str, words: Sequence[str], timeout_s: float
) -> tuple[int, str]:
    wire = await execute(daemon, container, ["sh", "-c", script, "sh", *words])
    try:
        return await wire.finish(timeout_s)
    finally:
        await wire.close()


# Whichever first process a container has, its own start has to be over before anything is put below /run: systemd and
# OpenRC both mount a tmpfs there. A third kind of init is taken for ready at once. OpenRC names its last runlevel
# before it starts what is in it, and an image of Alpine has its network there.
_BOOTED = """case $(readlink -f /proc/1/exe) in
*/systemd) [ -d /run/systemd/system ] || exit 1
    case $(systemctl is-system-running 2>/dev/null) in initializing | starting | '') exit 1 ;; esac ;;
*) if command -v openrc >/dev/null; then
        [ "$(cat /run/openrc/softlevel 2>/dev/null)" = default ] && [ ! -e /run/openrc/rc.starting ] || exit 1
    fi ;;
esac
"""


async def kill_all(daemon: Daemon, container: str) -> None:
    """End everything in the container except its first process, and this command: the plug is pulled."""
    with contextlib.suppress(LimosaError):
        await _shell(daemon, container, "kill -KILL -1", (), LOOK_S)


async def booted(daemon: Daemon, container: str) -> bool:
    """Whether the container's own system has started."""
    status, _ = await _shell(daemon, container, _BOOTED, (), LOOK_S)
    return status == 0


async def prepare_run(daemon: Daemon, container: str, hostname: str, runtime_directory: str) -> None:
    """After each start: the container's *hostname*, and a runtime directory without files of an earlier life.

    Only files directly in it go: storage may be mounted below it.
    """
    script = """[ -z "$2" ] || hostname "$2"
mkdir -p -m 700 -- "$1" || exit
for file in "$1"/* "$1"/.[!.]*; do if [ -e "$file" ] || [ -L "$file" ]; then
    if [ ! -d "$file" ] || [ -L "$file" ]; then rm -f -- "$file"; fi
fi; done
"""
    status, said = await _shell(daemon, container, script, (runtime_directory, hostname), LOOK_S)
    if status:
        raise MachineError(f"container {container} does not let {runtime_directory} be made: {said.strip()}")
