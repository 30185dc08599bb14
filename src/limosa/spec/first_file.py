"""The lab files that people begin with: for each kind of host one that is right as it is, and says what its lines mean.

Rule: a new kind of host brings its own, and every file passes ``limosa check``. Lines that only their owner can know
(machines, bridges) end in ``# EDIT``, with what belongs there.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from limosa.errors import MachineError, SpecError, StateError
from limosa.spec import host_kinds
from limosa.spec.problems import nearest

DEFAULT = "limosa.yaml"
"""The file that verbs read where none is named."""

MOST = 28
"""Characters of a name, so that something can still be put behind it."""

MARK = "# EDIT"
"""How a line ends that has to be made right for one's own machines."""

_HEAD = """\
# Two hosts and a guest that moves between them. `limosa check FILE` reads this and says what it makes, `limosa up FILE`
# makes it, `limosa migrate guest1 host2` moves the guest, `limosa down FILE` takes everything away again.
# All keys are in limosa's docs/lab-file.md; `limosa schema` prints them for editors.
name: NAME
"""

_GUEST = """
guests:
  # `micro` is a small Linux that limosa builds itself; log in with `limosa ssh guest1`. An image of yours:
  # `image: {path: disk.qcow2}`, or a name of `limosa image list`. More guests: a line each.
  guest1: {image: micro, host: host1, memory: 512 MiB, cpus: 1, network: lan, address: ADDRESS}
"""

_NAMESPACES = """
networks:
  # Where guests and their clients meet. A link as slow as a real one: {subnet: ..., rate: 1 Gbit/s, delay: 1 ms}
  lan: {subnet: 10.77.1.0/24}
  # What a migration sends takes a network of its own, so that it does not stand in the way of the guest's clients.
  migration: {subnet: 10.77.2.0/24, purpose: migration}

storage:
  # A directory that both hosts see, for the guests' disks. It belongs to the lab and goes with it.
  shared: {kind: directory}

hosts:
  # Network namespaces of this machine: nothing to install on them, no root needed. A host with a limit of memory for
  # its guests: {memory: 2 GiB}. Hosts of another kind: `limosa init --kind ...` writes how.
  host1: {}
  host2: {}
"""

_SSH = f"""
networks:
  # Your network, as it is: the machines' bridge is in it. The guest's address has to be one that nobody else has.
  lan: {{subnet: 192.0.2.0/24}}  {MARK}: your network

storage:
  # A directory that both machines have at the same path, as an NFS mount is.
  shared: {{path: /srv/vms}}  {MARK}: your directory

hosts:
  # `machine` is what you give to ssh: a name of ~/.ssh/config, or user@address. Log in as root, or as one whom sudo
  # lets run commands without a password. QEMU, iproute2 and python3 have to be there.
  host1: {{kind: ssh, machine: root@server1, links: {{lan: br0}}}}  {MARK}: your machine, and its bridge
  host2: {{kind: ssh, machine: root@server2, links: {{lan: br0}}}}  {MARK}: your machine, and its bridge
"""

_CONTAINERS = f"""
networks:
  # The daemon's own bridge, with its subnet and its address:  PROGRAM network get BRIDGE ipv4.address
  lan: {{subnet: 10.83.0.0/24, bridge: BRIDGE, client: 10.83.0.1}}  {MARK}: those of your bridge

storage:
  # A volume of the daemon that both containers see, for the guests' disks. It is made if need be.
  shared: {{kind: volume, pool: default, volume: NAME, mount: /mnt/shared}}

hosts:
  # Containers that limosa makes, and takes away with the lab; what they lack (QEMU) is installed in them. One of yours:
  # `adopt: its-name` instead of `image`. Without internet: the alias of an image that you imported.
  host1: {{kind: KIND, image: "{host_kinds.CONTAINER_IMAGE}"}}
  host2: {{kind: KIND, image: "{host_kinds.CONTAINER_IMAGE}"}}
"""


def _guest(address: str, remark: str = "") -> str:
    return _GUEST.replace("ADDRESS}", f"{address}}}  {remark}".rstrip())


def _containers(kind: str, program: str, bridge: str) -> str:
    words = {"KIND": kind, "PROGRAM": program, "BRIDGE": bridge}
    text = _CONTAINERS + _guest("10.83.0.100", f"{MARK}: a free address")
    for word, meant in words.items():
        text = text.replace(word, meant)
    return text


FILES: dict[str, str] = {
    "namespaces": _NAMESPACES + _guest("10.77.1.100"),
    "incus": _containers("incus", "incus", "incusbr0"),
    "lxd": _containers("lxd", "lxc", "lxdbr0"),
    "ssh": _SSH + _guest("192.0.2.100", f"{MARK}: a free address"),
}
"""By the kind of the hosts, below what all begin with."""


def text(kind: str, name: str) -> str:
    """The lab file for hosts of *kind*, of a lab called *name*. Raises SpecError for a kind that there is not."""
    if kind not in FILES:
        hint = f"there are {', '.join(FILES)}"
        raise SpecError(f"there is no kind of host {kind!r}{nearest(kind, FILES)}", hint=hint)
    return (_HEAD + FILES[kind]).replace("NAME", name)


def lab_name(file: Path) -> str:
    """A name for the lab of *file*: the file's own, or its folder's where that tells more."""
    whole = file.absolute()
    stem = whole.parent.name if whole.name == DEFAULT else whole.stem
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:MOST].strip("-")
    return name if re.match(r"(?!(null|true|false)$)[a-z]", name) else f"lab-{name}".rstrip("-")


def write(file: Path, kind: str) -> str:
    """Write the lab file for hosts of *kind*; the name of its lab. What is there is never overwritten.

    Raises SpecError, StateError, and MachineError where it cannot be written.
    """
    name = lab_name(file)
    data = text(kind, name).encode()
    try:
        with file.open("xb") as stream:
            try:
                stream.write(data)
                stream.flush()
            except BaseException:
                file.unlink()
                raise
    except FileExistsError as error:
        hint = f"name another file; limosa check {shlex.quote(str(file))} reads this one"
        if file.is_dir():
            hint = f"name a file in it: limosa init {shlex.quote(str(file / DEFAULT))}"
        raise StateError(f"{file} is there already, and is kept", hint=hint) from error
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and not file.parent.is_dir():
            hint = f"mkdir -p {shlex.quote(str(file.parent))}"
            raise SpecError(f"there is no folder {file.parent}", hint=hint) from error
        why = error.strerror if isinstance(error, OSError) else error
        raise MachineError(f"{file} cannot be written: {why}", hint="name a file in a folder of yours") from error
    return name
