"""Where a container daemon is reached: its unix socket on this machine, or HTTPS with the user's client certificate.

A remote daemon is trusted only by the certificate that the user accepted with the daemon's own client
(``incus remote add``, ``lxc remote add``); nothing is accepted here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import msgspec

from limosa import paths
from limosa.errors import LimosaError, MachineError


class Flavour(msgspec.Struct, frozen=True):
    """What differs between Incus and LXD from outside."""

    kind: str
    title: str
    client: str
    """The program for a terminal, which the user has for everything else too."""
    group: str
    """Whose members may use the socket."""
    directories: tuple[str, ...]
    """Where the socket is, when no variable says so."""
    install: str
    """How one gets it, for a hint."""

    @property
    def socket_variable(self) -> str:
        """The environment's name for the socket."""
        return f"{self.kind.upper()}_SOCKET"

    @property
    def directory_variable(self) -> str:
        """The environment's name for the folder with the socket."""
        return f"{self.kind.upper()}_DIR"

    @property
    def configuration_variable(self) -> str:
        """The environment's name for the client's own folder: certificates and remotes."""
        return f"{self.kind.upper()}_CONF"

    @property
    def configuration(self) -> str:
        """That folder in $HOME, when no variable says so."""
        return f".config/{self.client}"


INCUS = Flavour(
    kind="incus",
    title="Incus",
    client="incus",
    group="incus-admin",
    directories=("/var/lib/incus", "/run/incus"),
    install="install Incus and run: incus admin init",
)
LXD = Flavour(
    kind="lxd",
    title="LXD",
    client="lxc",
    group="lxd",
    directories=("/var/lib/lxd", "/var/snap/lxd/common/lxd"),
    install="install LXD and run: lxd init",
)
FLAVOURS = {flavour.kind: flavour for flavour in (INCUS, LXD)}


class Endpoint(msgspec.Struct, frozen=True):
    """How to talk to one daemon: by *socket*, or at *address* under a TLS context."""

    flavour: Flavour
    socket: str = ""
    address: str = ""
    remote: str = ""
    """What the user's client calls the daemon at *address*."""
    tls: Any = None
    """``ssl.SSLContext``."""

    @property
    def base(self) -> str:
        """What every URL begins with; over a socket the name means nothing."""
        return self.address or f"http://{self.flavour.kind}"

    @property
    def words(self) -> str:
        """For an error: which daemon."""
        return f"{self.flavour.title} at {self.address or self.socket}"


def find(flavour: Flavour, address: str = "") -> Endpoint:
    """How to reach the daemon of this machine, or the one at the https *address*. Raises MachineError."""
    if address:
        return _remote(flavour, address.rstrip("/"))
    path = _socket_path(flavour)
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with probe:
        probe.settimeout(5)
        try:
            probe.connect(path)
        except PermissionError as error:
            raise MachineError(
                f"this user may not use {flavour.title}'s socket {path}",
                hint=f"sudo usermod -aG {flavour.group} $USER, then log in again; members are as good as root",
            ) from error
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            raise MachineError(
                f"no {flavour.title} daemon answers: nothing listens on {path}",
                hint=f"start it (systemctl start {flavour.kind}), or {flavour.install}; "
                f"{flavour.directory_variable} names another place",
            ) from error
        except OSError as error:
            raise MachineError(f"{flavour.title}'s socket {path} cannot be used: {error.strerror or error}") from error
    return Endpoint(flavour, socket=path)


def _socket_path(flavour: Flavour) -> str:
    if path := os.environ.get(flavour.socket_variable):
        return path
    if directory := os.environ.get(flavour.directory_variable):
        return f"{directory.rstrip('/')}/unix.socket"
    places = [f"{directory}/unix.socket" for directory in flavour.directories]
    for path in places:
        # A folder that may not be searched hides whether there is a socket in it; connecting tells the reason.
        with contextlib.suppress(FileNotFoundError):
            with contextlib.suppress(PermissionError):
                Path(path).lstat()
            return path
    return places[0]


def _remote(flavour: Flavour, address: str) -> Endpoint:
    folder = _configuration(flavour)
    name = _remote_name(flavour, folder, address)
    certificate, key = folder / "client.crt", folder / "client.key"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(certificate, key)
        known = folder / "servercerts" / f"{name}.crt"
        if known.exists():
            # The daemon's certificate is its own authority and names no address that has to match: it is pinned whole.
            context.check_hostname = False
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_verify_locations(known)
        else:
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        raise MachineError(
            f"the certificates for {address} in {folder} cannot be used: {error}",
            hint=f"{flavour.client} remote add makes them",
        ) from error
    return Endpoint(flavour, address=address, remote=name, tls=context)


def _configuration(flavour: Flavour) -> Path:
    if folder := os.environ.get(flavour.configuration_variable):
        return Path(folder)
    if flavour is LXD and (snap := paths.home() / "snap/lxd/common/config").exists():
        return snap
    return paths.home() / flavour.configuration


def _remote_name(flavour: Flavour, folder: Path, address: str) -> str:
    """The name under which the user's client knows the daemon at *address*. Raises MachineError."""
    import yaml

    file = folder / "config.yml"
    try:
        remotes = yaml.safe_load(file.read_text()).get("remotes", {})
        known = {str(value["addr"]).rstrip("/"): str(name) for name, value in remotes.items()}
    except FileNotFoundError:
        known = {}
    except (OSError, AttributeError, KeyError, TypeError, yaml.YAMLError) as error:
        raise LimosaError(f"{file} cannot be read: {error}") from error
    if address not in known:
        raise MachineError(
            f"the daemon at {address} is not among those whose certificate you accepted",
            hint=f"{flavour.client} remote add NAME {address}",
        )
    return known[address]
