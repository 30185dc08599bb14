"""Whose a lab is: one random id a state home, made once, and never a path or a machine's name."""

from __future__ import annotations

import asyncio
import platform
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from limosa import paths, spec
from limosa.errors import StateError
from limosa.events import Events
from limosa.hosts import catalogue
from limosa.hosts.kind import Kind
from limosa.hosts.link.far import claims
from limosa.lab import Lab, identity, surroundings
from limosa.lab.lab_hosts import LabHosts
from limosa.lab.record import LabDirectory, Record
from limosa.network import layout
from limosa.spec import resolved

TEXT = """
name: shop
networks: {lan: {subnet: 10.90.0.0/24, bridge: lab0}}
hosts: {here: {}, there: {kind: ssh, machine: there, links: {lan: eth0}}}
guests: {web: {host: here}, db: {host: there}}
storage: {shared: {path: /srv/vms}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state home of somebody who never brought a lab up."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "limosa"


def brought_up(text: str = TEXT) -> resolved.Lab:
    """The lab as ``up`` would make it now, under the state home of now."""
    lab = spec.loads(text, "/home/student/examples/shop.yaml")
    return identity.settled(lab, LabDirectory.named(lab.name))


def names(lab: resolved.Lab) -> set[str]:
    """Everything by which the lab could get in another one's way."""
    macs = {guest.mac for guest in lab.guests.values()} | {layout.mac_address(lab, "here", "lan")}
    return macs | {
        layout.uplink_end(lab, "lan"),
        layout.tap(lab, "db", "there"),
        layout.bridge(lab, "lan", "there"),
        lab.mark,
    }


@pytest.mark.usefixtures("home")
def test_two_people_with_one_file_have_nothing_in_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = brought_up()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    yours = brought_up()
    assert not names(mine) & names(yours)
    assert mine.guests["web"].address == yours.guests["web"].address, "addresses are the file's alone"


@pytest.mark.usefixtures("home")
def test_it_is_the_same_wherever_the_file_and_the_home_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = brought_up()
    (tmp_path / "state").rename(tmp_path / "moved")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "moved"))
    monkeypatch.setattr(platform, "node", lambda: "another-machine")
    moved = identity.settled(spec.loads(TEXT, "/elsewhere/shop.yaml"), LabDirectory.named("shop"))
    assert names(moved) == names(lab)
    assert not names(brought_up(TEXT.replace("name: shop", "name: shop2"))) & names(lab)


def test_it_outlives_the_lab(home: Path) -> None:
    before = brought_up()
    directory = LabDirectory.named("shop")
    directory.create(before)
    directory.remove()
    assert names(brought_up()) == names(before)
    assert (home / "identity").stat().st_mode & 0o777 == 0o600


def test_nothing_is_made_by_looking(home: Path) -> None:
    async def look() -> str:
        async with Lab.open(spec.loads("name: looked\nhosts: {host1: {}}")) as lab:
            await lab.status()
            return lab.spec.identity

    assert asyncio.run(look()) == ""
    assert not home.exists()


def test_of_many_that_begin_at_once_all_get_one(home: Path) -> None:
    code = "from limosa.lab import identity; input(); print(identity._made())"
    begun = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in begun:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    made = {process.communicate()[0].strip() for process in begun}
    assert made == {(home / "identity").read_text().strip()}
    assert [path.name for path in home.iterdir()] == ["identity"], "nothing else is left"


@pytest.mark.parametrize("text", ["", "\0" * 17, "0123", "me"])
def test_a_damaged_id_is_told_and_no_other_is_taken(home: Path, text: str) -> None:
    home.mkdir(parents=True)
    (home / "identity").write_text(text)
    with pytest.raises(StateError, match="is damaged") as raised:
        brought_up()
    assert f"rm {home / 'identity'}" in raised.value.hint
    assert (home / "identity").read_text() == text


def test_a_lab_keeps_the_identity_that_it_was_brought_up_with(home: Path) -> None:
    lab, directory = brought_up(), LabDirectory.named("shop")
    directory.create(lab)
    (home / "identity").unlink()
    assert names(brought_up()) == names(lab), "its disks are there still, and what is on them may know its MAC"


def test_a_lab_of_a_version_without_ids_goes_on_as_it_is(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(TEXT)
    directory = LabDirectory.named("shop")
    directory.create(spec.load(file))
    older = msgspec.json.decode((directory.path / "spec.json").read_bytes())
    assert older.pop("identity") == ""
    (directory.path / "spec.json").write_bytes(msgspec.json.encode(older))
    directory.save(Record(up=True))
    brought_up(TEXT.replace("name: shop", "name: newer"))  # so the home has an id by now
    lab = identity.known(spec.load(file), directory)
    assert [guest.mac for guest in lab.guests.values()] == [guest["mac"] for guest in older["guests"].values()]
    assert layout.uplink_end(lab, "lan") == layout.uplink_end(spec.load(file), "lan")
    around = surroundings.of(lab, directory, Record(), Events(), rootless=True)
    assert around.mark == directory.mark == str(home / "labs" / "shop")

    async def opened() -> str:
        async with Lab.open(file) as lab:
            return lab.spec.identity

    assert asyncio.run(opened()) == "", "it is not taken for another description"


def ssh(lab: spec.Lab) -> Kind:
    around = surroundings.of(lab, LabDirectory.named("shop"), Record(), Events(), rootless=True)
    return catalogue.kind("ssh", around)


@pytest.mark.usefixtures("home")
def test_what_remains_on_a_machine_is_told_by_what_it_bears() -> None:
    lab = brought_up()
    kind = ssh(lab)
    assert f"whose alias is {lab.mark}" in kind.remains("there")


@pytest.mark.usefixtures("home")
def test_two_laptops_of_one_name_are_not_one_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "laptop")
    monkeypatch.setattr(claims, "directory", lambda lab: str(tmp_path / f"limosa-{lab}"))

    def claim() -> dict[str, object]:
        lab = brought_up()
        kind = ssh(lab)
        return claims.claim("shop", kind._owner, "there", kind._here)  # type: ignore[attr-defined]

    assert claim()["ours"] and claim()["ours"]
    # The other laptop has the same name and the same paths; its state home was made there.
    (paths.state() / "identity").unlink()
    other = claim()
    assert not other["ours"]
    assert "@laptop" in str(other["whose"])


def test_what_was_seen_of_hosts_is_kept_while_the_lab_is_the_same(home: Path) -> None:
    """A host that did not answer is waited for once a command, also by an ``up`` of a lab that is down."""
    lab, directory = spec.loads(TEXT), LabDirectory.named("shop")
    hosts = LabHosts(lab, directory, Record(), Events(), rootless=True)
    seen = hosts.kind("there")
    hosts.identify(lab)
    assert hosts.kind("there") is seen
    hosts.identify(msgspec.structs.replace(lab, identity="0123456789abcdef"))
    assert hosts.kind("there") is not seen
