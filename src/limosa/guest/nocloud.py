"""The NoCloud seed: a small disk labelled ``cidata`` from which cloud-init learns what belongs to one guest.

The format is cloud-init's documentation of the data source NoCloud and of network configuration version 2. What is
written is JSON, which is YAML too: nothing has to be quoted by hand.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABEL = "cidata"


@dataclass(frozen=True, slots=True)
class Belongings:
    """What one guest gets."""

    instance: str
    """cloud-init does its work again when this changes."""
    hostname: str
    user: str
    authorized_key: str
    """The public key that lets *user* in."""
    host_key: str
    """The system's private Ed25519 host key, in OpenSSH's format."""
    host_key_public: str
    mac: str
    address_cidr: str
    """IPv4 with the prefix length, ``10.77.1.101/24``."""


def files(given: Belongings) -> dict[str, str]:
    """The three files of a seed, by their names."""
    return {
        "meta-data": json.dumps({"instance-id": given.instance, "local-hostname": given.hostname}, indent=1),
        "user-data": "#cloud-config\n" + json.dumps(_user_data(given), indent=1),
        "network-config": json.dumps(_network(given), indent=1),
    }


def _user_data(given: Belongings) -> dict[str, Any]:
    # No password has the hash “*”. A locked one would do where PAM is used; elsewhere, as on Alpine, sshd then refuses
    # the key too.
    user: dict[str, Any] = {
        "name": given.user,
        "ssh_authorized_keys": [given.authorized_key],
        "hashed_passwd": "*",
        "lock_passwd": False,
    }
    if given.user != "root":
        user |= {"sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/sh"}
    return {
        "users": [user],
        "disable_root": given.user != "root",
        "ssh_pwauth": False,
        # sudo asks who this machine is, and there may be no name server to say it.
        "manage_etc_hosts": "localhost",
        # The lab's key and no other: making keys takes an emulated guest many seconds, and nobody would know them.
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": given.host_key, "ed25519_public": given.host_key_public},
        # There is no network beyond the lab's.
        "package_update": False,
        "package_upgrade": False,
    }


def _network(given: Belongings) -> dict[str, Any]:
    card = {"match": {"macaddress": given.mac}, "set-name": "eth0", "dhcp4": False, "addresses": [given.address_cidr]}
    return {"version": 2, "ethernets": {"eth0": card}}


def write(given: Belongings, target: Path) -> None:
    """Write the seed as an ISO 9660 file system with Rock Ridge and Joliet names."""
    import pycdlib

    made = pycdlib.PyCdlib()
    made.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    for name, text in files(given).items():
        data = text.encode()
        iso_name = "/" + name.replace("-", "").upper()[:8] + ".;1"
        made.add_fp(io.BytesIO(data), len(data), iso_name, rr_name=name, joliet_path=f"/{name}")
    made.write(str(target))
    made.close()
