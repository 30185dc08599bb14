"""Good lab files: what is filled in, what YAML means here, and that JSON brings the same lab back."""

import ipaddress
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from limosa.errors import SpecError
from limosa.spec import decode, encode, host_kinds, load, loads, resolved, written

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
GOLDEN = ROOT / "tests" / "golden"


def test_shortest_lab() -> None:
    lab = loads("hosts: {host1: {}, host2: {}}\nguests: {guest1: {host: host1}}\n", "labs/short.yaml")
    assert lab.name == "short"
    assert lab.file == str(Path.cwd() / "labs/short.yaml")
    assert lab.networks == {"lan": resolved.Network("lan", "10.77.1.0/24", "10.77.1.1")}
    assert lab.storage == {"shared": resolved.Storage("shared")}
    assert lab.hosts == {
        "host1": resolved.Host("host1", addresses={"lan": "10.77.1.11"}),
        "host2": resolved.Host("host2", addresses={"lan": "10.77.1.12"}),
    }
    guest = lab.guests["guest1"]
    assert (guest.host, guest.image, guest.memory_bytes, guest.cpus) == ("host1", "micro", 512 * 2**20, 1)
    assert (guest.network, guest.address) == ("lan", "10.77.1.101")
    assert guest.disk == resolved.Disk(storage="shared", file="guest1.raw")
    assert lab.migration_network.name == "lan"


def test_everything_written(tmp_path: Path) -> None:
    (tmp_path / "disks").mkdir()
    (tmp_path / "debian.qcow2").touch()
    path = tmp_path / "full.yaml"
    path.write_text("""
name: everything
networks:
  lan: {subnet: 192.168.7.0/26, rate: 2.5 Gbit/s, delay: 300 us}
  migration: {subnet: 10.1.0.0/16, rate: 100 Mbit/s, delay: 0 ms, purpose: migration}
storage:
  disks: {kind: directory, path: disks}
hosts:
  host1: {kind: namespaces, memory: 4 GiB, addresses: {lan: 192.168.7.40, migration: 10.1.200.1}}
  host2: {qemu: qemu-10/bin/qemu-system-x86_64, qemu_firmware: [qemu-10/share, /usr/share/seabios]}
  host3: {qemu: qemu-kvm}
guests:
  guest1:
    host: host2
    image: micro
    memory: 1.5 GiB
    cpus: 2
    accel: tcg
    machine: pc-q35-7.2
    cpu: qemu64,+ssse3
    network: lan
    address: 192.168.7.20
    disk: {storage: disks, format: qcow2, source: debian.qcow2}
  guest2: {host: host1, image: bare}
""")
    lab = load(path)
    assert lab.name == "everything"
    assert lab.networks["lan"] == resolved.Network("lan", "192.168.7.0/26", "192.168.7.1", 2_500_000_000, 0.3, "guests")
    assert lab.migration_network == resolved.Network(
        "migration", "10.1.0.0/16", "10.1.0.1", 100_000_000, None, "migration"
    )
    assert lab.storage["disks"] == resolved.Storage("disks", "directory", str(tmp_path / "disks"))
    host1, host2, host3 = lab.hosts.values()
    assert host1.memory_bytes == 4 * 2**30
    assert host1.addresses == {"lan": "192.168.7.40", "migration": "10.1.200.1"}
    assert host2.qemu == str(tmp_path / "qemu-10/bin/qemu-system-x86_64")
    assert host2.qemu_firmware == (str(tmp_path / "qemu-10/share"), "/usr/share/seabios")
    assert host2.addresses == {"lan": "192.168.7.11", "migration": "10.1.0.11"}
    assert host3.qemu == "qemu-kvm"
    guest1, guest2 = lab.guests.values()
    assert (guest1.memory_bytes, guest1.cpus, guest1.accel) == (1610612736, 2, "tcg")
    assert (guest1.machine, guest1.cpu) == ("pc-q35-7.2", "qemu64,+ssse3")
    assert guest1.disk == resolved.Disk("disks", "guest1.qcow2", "qcow2", str(tmp_path / "debian.qcow2"))
    assert (guest2.image, guest2.network, guest2.mac, guest2.address) == ("bare", "", "", "")
    assert guest2.disk is None
    assert guest2.memory_bytes == 128 * 2**20


def test_paths_begin_in_the_folder_of_the_lab_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "labs").mkdir()
    (tmp_path / "labs" / "lab.yaml").write_text("hosts: {a: {qemu: ./qemu}, b: {qemu: ~/qemu}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    lab = load("labs/lab.yaml")
    assert lab.hosts["a"].qemu == str(tmp_path / "labs/qemu")
    assert lab.hosts["b"].qemu == "/home/someone/qemu"
    assert lab.file == str(tmp_path / "labs/lab.yaml")


def test_yaml_1_1_traps_are_names_and_text() -> None:
    lab = loads("name: on\nhosts: {no: , y: , e1: }\nguests: {off: {host: no}, yes: {host: y}, n: {host: 'e1'}}\n")
    assert lab.name == "on"
    assert list(lab.hosts) == ["no", "y", "e1"]
    assert [guest.host for guest in lab.guests.values()] == ["no", "y", "e1"]


def test_anchors_merges_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(
        "hosts: {a: , b: }\n"
        "guests:\n"
        "  g: &guest {host: a, memory: 256 MiB, disk: {format: qcow2}}\n"
        "  h: {<<: *guest, host: b}\n"
        "  i: *guest\n",
        encoding="utf-8-sig",
    )
    guests = load(path).guests
    assert {name: (guest.host, guest.memory_bytes >> 20) for name, guest in guests.items()} == {
        "g": ("a", 256),
        "h": ("b", 256),
        "i": ("a", 256),
    }
    assert [guest.disk and guest.disk.file for guest in guests.values()] == ["g.qcow2", "h.qcow2", "i.qcow2"]
    assert len({guest.mac for guest in guests.values()} | {guest.address for guest in guests.values()}) == 6


def test_line_of_a_merged_key_is_where_it_is_written() -> None:
    text = (
        "name: x\nhosts: {a: }\nguests:\n"
        "  g: &guest\n    host: a\n    disk: {format: raw}\n"
        "  h:\n    <<: *guest\n    disk:\n      format: vmdk\n"
    )
    with pytest.raises(SpecError) as caught:
        loads(text)
    assert (caught.value.line, caught.value.key) == (10, "guests.h.disk.format")


def test_written_addresses_are_never_given_to_others() -> None:
    lab = loads(
        "name: x\nhosts: {a: , b: , c: {addresses: {lan: 10.77.1.11}}}\n"
        "guests: {g: {host: a}, h: {host: a, address: 10.77.1.101}}\n"
    )
    assert [host.addresses["lan"] for host in lab.hosts.values()] == [
        "10.77.1.12",
        "10.77.1.13",
        "10.77.1.11",
    ]
    assert [guest.address for guest in lab.guests.values()] == ["10.77.1.102", "10.77.1.101"]


def test_networks_without_subnet_keep_clear_of_the_others() -> None:
    lab = loads("name: x\nhosts: {a: }\nnetworks: {l: , m: {subnet: 10.77.0.0/22}, n: }\n")
    assert [network.subnet for network in lab.networks.values()] == [
        "10.77.4.0/24",
        "10.77.0.0/22",
        "10.77.5.0/24",
    ]


def test_small_subnet_is_used_to_the_last_address() -> None:
    lab = loads(
        "name: x\nhosts: {a: , b: }\nnetworks: {lan: {subnet: 10.1.0.0/29}}\n"
        "guests: {g: {host: a}, h: {host: a}, i: {host: a}}\n"
    )
    taken = [host.addresses["lan"] for host in lab.hosts.values()] + [g.address for g in lab.guests.values()]
    assert sorted(taken) == [f"10.1.0.{last}" for last in range(2, 7)]


def test_macs_are_local_unicast_stable_and_unique() -> None:
    names = [f"g{n}" for n in range(100)]
    text = "name: {}\nhosts: {{a: }}\nnetworks: {{lan: {{subnet: 10.1.0.0/16}}}}\nguests:\n" + "".join(
        f"  {name}: {{{{host: a}}}}\n" for name in names
    )
    lab, again, other = loads(text.format("one")), loads(text.format("one")), loads(text.format("two"))
    macs = [guest.mac for guest in lab.guests.values()]
    assert len(set(macs)) == 100
    assert all(re.fullmatch(r"02(:[0-9a-f]{2}){5}", mac) for mac in macs)
    assert lab == again
    assert not set(macs) & {guest.mac for guest in other.guests.values()}


def test_resolved_lab_is_frozen() -> None:
    lab = loads("name: x\nhosts: {a: }\n")
    with pytest.raises(AttributeError):
        lab.name = "y"  # type: ignore[misc]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load_under_their_own_name(path: Path) -> None:
    lab = load(path)
    assert lab.name == path.stem
    assert len(lab.hosts) == 2
    assert lab.guests


def test_examples_are_there() -> None:
    assert {path.stem for path in EXAMPLES} >= {"two-hosts", "shaped", "two-qemus", "bare"}


def test_golden_resolved_lab() -> None:
    """LIMOSA_GOLDEN=update writes the text anew; the diff is then read by a person."""
    path = ROOT / "examples" / "two-hosts.yaml"
    text = encode(loads(path.read_text(), "/labs/two-hosts.yaml")).decode()
    golden = GOLDEN / "spec-two-hosts.json"
    if os.environ.get("LIMOSA_GOLDEN") == "update":
        golden.write_text(text)
    assert text == golden.read_text()


def _random_lab(draw: random.Random) -> str:
    """A valid lab file with anything in it that a lab file may have."""
    networks = [f"net{n}" for n in range(draw.randint(1, 4))]
    hosts = [f"host{n}" for n in range(draw.randint(1, 6))]
    lines = [f"name: lab-{draw.randint(0, 99)}", "networks:"]
    for n, network in enumerate(networks):
        keys = [f"subnet: 10.{n}.{draw.randint(0, 255)}.0/24"] if draw.random() < 0.7 else []
        keys += [f"rate: {draw.randint(1, 999)} {draw.choice(['kbit/s', 'Mbit/s', 'Gbit/s'])}"] * draw.randint(0, 1)
        keys += [f"delay: {draw.randint(0, 9999) / 100} ms"] * draw.randint(0, 1)
        keys += ["purpose: migration"] if n == 1 else []
        lines.append(f"  {network}: {{{', '.join(keys)}}}")
    lines.append("hosts:")
    for host in hosts:
        keys = ["memory: 64 GiB"] * draw.randint(0, 1) + ["qemu: ./qemu"] * draw.randint(0, 1)
        keys += ["qemu_firmware: [fw, /usr/share/seabios]"] * draw.randint(0, 1)
        lines.append(f"  {host}: {{{', '.join(keys)}}}")
    lines.append("guests:")
    for n in range(draw.randint(0, 8)):
        keys = [f"host: {draw.choice(hosts)}", f"memory: {draw.randint(128, 2048)} MiB"]
        keys += [f"cpus: {draw.randint(1, 8)}", f"accel: {draw.choice(['auto', 'kvm', 'tcg'])}"]
        keys += ["machine: pc-q35-7.2", "cpu: qemu64"] * draw.randint(0, 1)
        keys += draw.choice([["image: bare"], ["disk: {format: qcow2}"], ["network: net0"]])
        lines.append(f"  guest{n}: {{{', '.join(keys)}}}")
    return "\n".join(lines)


def test_json_brings_the_same_lab_back() -> None:
    draw = random.Random(77)
    for _ in range(20):
        lab = loads(_random_lab(draw), "/labs/some.yaml")
        data = encode(lab)
        again = decode(data)
        assert again == lab
        assert encode(again) == data
        _check_addresses(lab)


def _check_addresses(lab: resolved.Lab) -> None:
    for name, network in lab.networks.items():
        taken = [network.client_address, *(host.addresses[name] for host in lab.hosts.values())]
        taken += [guest.address for guest in lab.guests.values() if guest.network == name]
        assert len(set(taken)) == len(taken)
        usable = set(ipaddress.ip_network(network.subnet).hosts())
        assert {ipaddress.ip_address(address) for address in taken} <= usable


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Input data was truncated"),
        (b"{}", "Object missing required field `name`"),
        (b"\xff", "JSON is malformed: invalid character (byte 0)"),
        (b'{"name": 5}', "Expected `str`, got `int` - at `$.name`"),
    ],
)
def test_decode_refuses_what_encode_did_not_write(data: bytes, reason: str) -> None:
    with pytest.raises(SpecError) as caught:
        decode(data)
    assert caught.value.message == f"not a resolved lab of this version of Limosa: {reason}"


def test_decoding_imports_neither_pydantic_nor_yaml() -> None:
    """Every verb on a running lab decodes; pydantic alone would cost more than all the rest of such a start."""
    program = (
        "import sys, pathlib, limosa.spec\n"
        f"lab = limosa.spec.decode(pathlib.Path({str(GOLDEN / 'spec-two-hosts.json')!r}).read_bytes())\n"
        "assert lab.name == 'two-hosts'\n"
        "print(sorted({'pydantic', 'pydantic_core', 'yaml'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_image_that_boots_by_itself(tmp_path: Path) -> None:
    (tmp_path / "debian.qcow2").write_bytes(b"")
    text = """
name: clouds
hosts: {a: }
guests:
  named: {host: a, image: alpine-3.20}
  cloud: {host: a, image: {path: debian.qcow2, user: debian}}
  own: {host: a, image: {path: debian.qcow2, format: raw, ssh: false}, disk: {format: raw}}
"""
    guests = loads(text, str(tmp_path / "clouds.yaml")).guests
    named, cloud, own = guests["named"], guests["cloud"], guests["own"]
    assert (named.image, named.disk_image, named.image_kind.boots_disk, named.memory_bytes) == (
        "alpine-3.20",
        None,
        True,
        1 << 30,
    )
    assert cloud.image_kind.boots_disk and cloud.disk_image is not None and cloud.disk is not None
    assert (cloud.disk_image.path, cloud.disk_image.seed) == (str(tmp_path / "debian.qcow2"), "nocloud")
    assert (cloud.disk_image.user, cloud.disk.overlay) == ("debian", None)
    assert own.disk_image is not None and own.disk is not None
    assert (own.disk_image.user, own.disk_image.seed, own.disk.overlay) == ("", "none", False)


def test_every_key_of_a_kind_is_a_hosts_key() -> None:
    keys = {key for kind in host_kinds.KINDS.values() for key in (*kind.keys, *kind.needs, kind.adopting) if key}
    assert keys <= set(written.Host.model_fields)


def test_a_recorded_lab_with_a_kind_of_another_version_is_not_ours() -> None:
    lab = loads("name: x\nhosts: {host1: {}}\n")
    later = encode(lab).replace(b'"namespaces"', b'"balloons"')
    with pytest.raises(SpecError, match="the host host1 is of the kind 'balloons'"):
        decode(later)
