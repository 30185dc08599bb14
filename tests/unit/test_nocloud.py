"""The NoCloud seed, read back from the disk as cloud-init reads it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pycdlib
import pytest
import yaml

from limosa.guest import nocloud

GIVEN = nocloud.Belongings(
    instance="i-1",
    hostname="web",
    user="root",
    authorized_key="ssh-ed25519 AAAA limosa-user",
    host_key="-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    host_key_public="ssh-ed25519 BBBB limosa-guest",
    mac="52:54:00:12:34:56",
    address_cidr="10.77.1.101/24",
)


def test_the_disk_bears_the_label_and_the_files(tmp_path: Path) -> None:
    nocloud.write(GIVEN, tmp_path / "seed.iso")
    disk = pycdlib.PyCdlib()
    disk.open(str(tmp_path / "seed.iso"))
    assert disk.pvd.volume_identifier.strip() == b"cidata"
    for name, text in nocloud.files(GIVEN).items():
        for place in ("rr_path", "joliet_path"):
            found = io.BytesIO()
            disk.get_file_from_iso_fp(found, **{place: f"/{name}"})
            assert found.getvalue().decode() == text
    disk.close()


def test_a_cloud_init_reads_key_and_address() -> None:
    files = nocloud.files(GIVEN)
    assert yaml.safe_load(files["meta-data"]) == {"instance-id": "i-1", "local-hostname": "web"}
    assert files["user-data"].startswith("#cloud-config\n")
    user = yaml.safe_load(files["user-data"])
    assert user["users"][0]["ssh_authorized_keys"] == [GIVEN.authorized_key] and not user["disable_root"]
    assert user["ssh_keys"]["ed25519_private"] == GIVEN.host_key and user["ssh_pwauth"] is False
    network = yaml.safe_load(files["network-config"])
    assert network["version"] == 2
    assert network["ethernets"]["eth0"]["match"] == {"macaddress": GIVEN.mac}
    assert network["ethernets"]["eth0"]["addresses"] == ["10.77.1.101/24"]


def test_another_user_than_root_gets_sudo_and_root_stays_out() -> None:
    user = yaml.safe_load(nocloud.files(replace(GIVEN, user="debian"))["user-data"])
    assert user["users"][0]["name"] == "debian" and "NOPASSWD" in user["users"][0]["sudo"] and user["disable_root"]


@pytest.mark.parametrize("name", ["root", "debian"])
def test_no_password_is_ever_set_and_none_lets_in(name: str) -> None:
    data = yaml.safe_load(nocloud.files(replace(GIVEN, user=name))["user-data"])
    (user,) = data["users"]
    assert user["hashed_passwd"] == "*" and user["lock_passwd"] is False and "!" not in user["hashed_passwd"]
    assert not {"passwd", "plain_text_passwd"} & user.keys() and not {"password", "chpasswd"} & data.keys()
    assert data["ssh_pwauth"] is False
