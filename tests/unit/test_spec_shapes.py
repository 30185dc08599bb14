"""Keys and values of the wrong kind: every sentence a person may read, to the letter."""

import pytest

from limosa.errors import SpecError
from limosa.spec import loads

HEAD = "name: x\nhosts: {a: , b: }\n"
"""Two lines that begin a valid lab; what is wrong comes in line 3 or later."""

HOST_KEYS = (
    "a host has 'kind', 'machine', 'image', 'adopt', 'remote', 'project', 'links', 'qemu', 'qemu_firmware', 'tls', "
    "'memory' and 'addresses'"
)

SHAPES: list[tuple[str, str, str]] = [
    ("name: x\n", "<text>:1: the key 'hosts' is missing", "hosts: the hosts, by name"),
    (
        "hosts: {a: }\n",
        "<text>:1: the key 'name' is missing",
        "begin with, for instance, `name: two-hosts`",
    ),
    (
        "name: x\nhosts:\n",
        "<text>:2: hosts: a lab needs at least one host",
        "for instance `hosts: {host1: {}}`",
    ),
    (
        "name: x\nhosts: [a, b]\n",
        "<text>:2: hosts: expected a mapping (`key: value`), found a list",
        "write names as keys: `hosts: {name1: {}, name2: {}}`",
    ),
    ("name: x\nhosts: 2\n", "<text>:2: hosts: expected a mapping (`key: value`), found the number 2", ""),
    (
        "name: 5\nhosts: {a: }\n",
        "<text>:1: name: expected text, found the number 5",
        'quote it if it is meant as text: "5"',
    ),
    (
        "name: true\nhosts: {a: }\n",
        "<text>:1: name: expected text, found true",
        'quote it if it is meant as text: "true"',
    ),
    ("name:\nhosts: {a: }\n", "<text>:1: name: expected text, found nothing", ""),
    (
        "name: My Lab\nhosts: {a: }\n",
        "<text>:1: name: 'My Lab' is not a name: a to z, then a to z, 0 to 9 and '-', and no '-' at the end",
        "",
    ),
    (
        f"name: {'x' * 33}\nhosts: {{a: }}\n",
        "<text>:1: name: a name here has at most 32 characters, this has 33",
        "",
    ),
    (
        HEAD + "host: {}\n",
        "<text>:3: host: unknown key, did you mean 'hosts'?",
        "a lab file has 'name', 'networks', 'storage', 'hosts', 'guests' and 'migration'",
    ),
    (
        HEAD + "migration: {method: fast}\n",
        "<text>:3: migration.method: expected 'pre-copy' or 'post-copy', found 'fast'",
        "",
    ),
    (
        HEAD + "migration: {options: {downtime-limt: 300 ms}}\n",
        "<text>:3: migration.options.downtime-limt: there is no migration option 'downtime-limt'",
        "did you mean downtime-limit?",
    ),
    (
        HEAD + "migration: {options: {downtime-limit: 300}}\n",
        "<text>:3: migration.options.downtime-limit: the number 300 is not 0 ms to 2000 s",
        "write for instance 300 ms",
    ),
    (
        HEAD + "migration: {options: {downtime-limit: 3000 s}}\n",
        "<text>:3: migration.options.downtime-limit: '3000 s' is more than 2000 s: QEMU takes no more",
        "downtime-limit is 0 ms to 2000 s, as QEMU takes no more",
    ),
    (
        HEAD + "migration: {options: {xbzrle-cache-size: 3 MiB}}\n",
        "<text>:3: migration.options.xbzrle-cache-size: 3 MiB is not a power of two, as 2 MiB is",
        "xbzrle-cache-size is from 4 KiB, as a page is the least",
    ),
    (
        HEAD + "migration: {options: {multifd-channels: 300}}\n",
        "<text>:3: migration.options.multifd-channels: 300 is more than 255",
        "multifd-channels is 1 to 255",
    ),
    (
        HEAD + "migration: {options: {multifd-compression: lzma}}\n",
        "<text>:3: migration.options.multifd-compression: 'lzma' is none of none, zlib, zstd",
        "multifd-compression is none, zlib, zstd",
    ),
    (
        HEAD + "migration: {options: {auto-converge: [on]}}\n",
        "<text>:3: migration.options.auto-converge: expected a value such as 300 ms, 4 or on, found a list",
        "",
    ),
    (
        HEAD + "migration: {speed: 3}\n",
        "<text>:3: migration.speed: unknown key",
        "a migration has 'method', 'tls' and 'options'",
    ),
    *(
        (
            HEAD + f"migration: {{tls: {written}}}\n",
            f"<text>:3: migration.tls: expected 'auto', 'on' or 'off', found {found}",
            "",
        )
        for written, found in (
            ("onn", "'onn', did you mean 'on'?"),
            ("Auto", "'Auto', did you mean 'auto'?"),
            ("offf", "'offf', did you mean 'off'?"),
            ("never", "'never'"),
            ("1", "the number 1"),
            ("[on]", "a list"),
        )
    ),
    (
        "name: x\nhosts:\n  a: {}\n  Host2: {}\n",
        "<text>:4: hosts.Host2: 'Host2' is not a name: a to z, then a to z, 0 to 9 and '-', and no '-' at the end",
        "",
    ),
    (
        "name: x\nhosts:\n  sixteen-letters-: {}\n",
        "<text>:3: hosts.sixteen-letters-: a name here has at most 15 characters, this has 16",
        "",
    ),
    (
        "name: x\nhosts:\n  a: {memroy: 1 GiB}\n",
        "<text>:3: hosts.a.memroy: unknown key, did you mean 'memory'?",
        HOST_KEYS,
    ),
    (
        "name: x\nhosts:\n  a: {colour: red}\n",
        "<text>:3: hosts.a.colour: unknown key",
        HOST_KEYS,
    ),
    (
        'name: x\nhosts:\n  a: {"\\e[2Jx": red}\n',
        "<text>:3: hosts.a.'\\x1b[2Jx': unknown key",
        HOST_KEYS,
    ),
    (
        "name: x\nhosts:\n  a: {kind: namespace}\n",
        "<text>:3: hosts.a.kind: expected 'namespaces', 'incus', 'lxd' or 'ssh', found 'namespace', "
        "did you mean 'namespaces'?",
        "",
    ),
    (
        "name: x\nhosts:\n  a: {qemu: 7}\n",
        "<text>:3: hosts.a.qemu: expected a path, found the number 7, put it in quotes",
        "",
    ),
    (
        "name: x\nhosts:\n  a: {qemu_firmware: /usr/share/qemu}\n",
        "<text>:3: hosts.a.qemu_firmware: expected a list (`[first, second]`), found '/usr/share/qemu'",
        "",
    ),
    (
        "name: x\nhosts:\n  a:\n    qemu_firmware:\n      - /usr/share/qemu\n      - 5\n",
        "<text>:6: hosts.a.qemu_firmware[1]: expected a path, found the number 5, put it in quotes",
        "",
    ),
    (
        "name: x\nhosts:\n  a: {memory: 4}\n",
        "<text>:3: hosts.a.memory: expected a size such as 512 MiB, found the number 4 without a unit",
        "",
    ),
    (
        "name: x\nhosts:\n  a: {addresses: 10.77.1.11}\n",
        "<text>:3: hosts.a.addresses: expected a mapping (`key: value`), found '10.77.1.11'",
        "",
    ),
    (
        "name: x\nhosts:\n  a: {addresses: {lan: 10.77.1}}\n",
        "<text>:3: hosts.a.addresses.lan: '10.77.1' is not an IPv4 address, for instance 10.77.1.100",
        "",
    ),
    (
        HEAD + "guests: {g: {hots: a}}\n",
        "<text>:3: guests.g: the key 'host' is missing (host: the host that it starts on, by name)\n"
        "<text>:3: guests.g.hots: unknown key, did you mean 'host'? (a guest has 'host', 'image', 'memory', "
        "'cpus', 'accel', 'machine', 'cpu', 'network', 'nic', 'address', 'disk', 'display' and 'migration')",
        "docs/lab-file.md describes every key; `limosa schema` prints them for an editor",
    ),
    (
        HEAD + "guests:\n  g:\n",
        "<text>:4: guests.g: the key 'host' is missing",
        "host: the host that it starts on, by name",
    ),
    (
        HEAD + "guests: {g: {host: 1}}\n",
        "<text>:3: guests.g.host: expected a name, found the number 1, put it in quotes",
        "",
    ),
    (HEAD + "guests: {g: {host: }}\n", "<text>:3: guests.g.host: expected a name, found nothing", ""),
    (HEAD + "guests: {g: {host: ''}}\n", "<text>:3: guests.g.host: expected a name, found empty text", ""),
    (
        HEAD + "guests: {g: {host: a, image: Micro}}\n",
        "<text>:3: guests.g.image: 'Micro' is not the name of an image: small letters, digits, '.', '_' and '-'",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {path: x, frmat: raw}}}\n",
        "<text>:3: guests.g.image.frmat: unknown key, did you mean 'format'?",
        "an image has 'path', 'url', 'sha256', 'format', 'firmware', 'user', 'key', 'ssh', 'seed', 'kernel', 'initrd' "
        "and 'append'",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {path: x, format: vmdk}}}\n",
        "<text>:3: guests.g.image.format: expected 'raw' or 'qcow2', found 'vmdk'",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {path: x, seed: cloud}}}\n",
        "<text>:3: guests.g.image.seed: expected 'none' or 'nocloud', found 'cloud', did you mean 'nocloud'?",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {url: ftp://a/b}}}\n",
        "<text>:3: guests.g.image.url: 'ftp://a/b' is not a URL of a file: https://...",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {url: https://a/b, sha256: 12}}}\n",
        "<text>:3: guests.g.image.sha256: expected a SHA-256: 64 hexadecimal digits, found the number 12",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, accel: no}}\n",
        "<text>:3: guests.g.accel: expected 'auto', 'kvm' or 'tcg', found 'no'",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, memory: 512M}}\n",
        "<text>:3: guests.g.memory: '512M' has no unit known for a size, did you mean 512 MiB? "
        "(units: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, memory: 512 MB}}\n",
        "<text>:3: guests.g.memory: '512 MB' is not a whole number of MiB, did you mean 488 MiB?",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, memory: 0 MiB}}\n",
        "<text>:3: guests.g.memory: expected more than 0 bytes",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, cpus: two}}\n",
        "<text>:3: guests.g.cpus: expected a whole number, found 'two'",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, cpus: 1.5}}\n",
        "<text>:3: guests.g.cpus: expected a whole number, found the number 1.5",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, cpus: true}}\n",
        "<text>:3: guests.g.cpus: expected a whole number, found true",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, cpus: 0}}\n",
        "<text>:3: guests.g.cpus: expected a number from 1 to 255, found 0",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, cpu: 486}}\n",
        "<text>:3: guests.g.cpu: expected a CPU model such as Haswell-v4, found the number 486, put it in quotes",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, machine: pc q35}}\n",
        "<text>:3: guests.g.machine: 'pc q35' is not a machine type such as pc-q35-7.2",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, machine: pc}}\n",
        "<text>:3: guests.g.machine: 'pc' has no version: each QEMU takes it for the newest machine of its own, and a "
        "guest would not be the same on every host; expected a machine type such as pc-q35-7.2",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, machine: pc-i440fx-7.2}}\n",
        "<text>:3: guests.g.machine: guests cannot have the machine type 'pc-i440fx-7.2'; expected a q35 one such as "
        "pc-q35-7.2",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, address: 10.77}}\n",
        "<text>:3: guests.g.address: expected an address such as 10.77.1.100, found the number 10.77",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, address: 10.77.1.100/24}}\n",
        "<text>:3: guests.g.address: '10.77.1.100/24' is not an IPv4 address, for instance 10.77.1.100",
        "",
    ),
    (
        HEAD + "guests:\n  g:\n    host: a\n    disk:\n      fromat: raw\n",
        "<text>:7: guests.g.disk.fromat: unknown key, did you mean 'format'?",
        "a disk has 'storage', 'format', 'source', 'bus', 'cache' and 'overlay'",
    ),
    (
        HEAD + "guests: {g: {host: a, disk: {format: vmdk}}}\n",
        "<text>:3: guests.g.disk.format: expected 'raw' or 'qcow2', found 'vmdk'",
        "",
    ),
    (
        HEAD + "guests: {g: {host: a, disk: disk.raw}}\n",
        "<text>:3: guests.g.disk: expected a mapping (`key: value`), found 'disk.raw'",
        "",
    ),
    (
        HEAD + "storage: {s: {path: }}\n",
        "<text>:3: storage.s.path: expected a path, found nothing",
        "",
    ),
    (
        HEAD + "networks: {thirteen-char: }\n",
        "<text>:3: networks.thirteen-char: a name here has at most 12 characters, this has 13",
        "",
    ),
    (
        HEAD + "networks: {lan: {subnet: 10.77.1.5/24}}\n",
        "<text>:3: networks.lan.subnet: '10.77.1.5/24' has bits after its prefix, did you mean 10.77.1.0/24?",
        "",
    ),
    (
        HEAD + "networks: {lan: {subnet: 10.77.1.0}}\n",
        "<text>:3: networks.lan.subnet: '10.77.1.0' is an address, not a subnet: "
        "add the prefix length, for instance 10.77.1.0/24",
        "",
    ),
    (
        HEAD + "networks: {lan: {subnet: fd00::/64}}\n",
        "<text>:3: networks.lan.subnet: 'fd00::/64' is not an IPv4 subnet, for instance 10.77.1.0/24",
        "",
    ),
    (
        HEAD + "networks: {lan: {subnet: 127.0.0.0/24}}\n",
        "<text>:3: networks.lan.subnet: '127.0.0.0/24' is set aside and cannot be a network, for instance 10.77.1.0/24",
        "",
    ),
    (
        HEAD + "networks: {lan: {subnet: 10.77.1.0/30}}\n",
        "<text>:3: networks.lan.subnet: '10.77.1.0/30': "
        "the prefix length is from 8 (16 million addresses) to 29 (6 addresses)",
        "",
    ),
    (
        HEAD + "networks: {lan: {rate: 1000}}\n",
        "<text>:3: networks.lan.rate: expected a rate such as 1 Gbit/s, found the number 1000 without a unit",
        "",
    ),
    (
        HEAD + "networks: {lan: {rate: 100 MB/s}}\n",
        "<text>:3: networks.lan.rate: '100 MB/s' is in bytes, a link rate is in bits per second: "
        "did you mean 800 Mbit/s?",
        "",
    ),
    (
        HEAD + "networks: {lan: {delay: 1:30}}\n",
        "<text>:3: networks.lan.delay: '1:30' has no unit known for a duration (units: ns, us, µs, ms, s, min, h)",
        "",
    ),
    (
        HEAD + "networks: {lan: {delay: 2 min}}\n",
        "<text>:3: networks.lan.delay: '2 min' is more than the 60 s that a link may delay",
        "",
    ),
    (
        HEAD + "networks: {lan: {purpose: migrate}}\n",
        "<text>:3: networks.lan.purpose: expected 'guests' or 'migration', found 'migrate', did you mean 'migration'?",
        "",
    ),
]


@pytest.mark.parametrize(("text", "message", "hint"), SHAPES)
def test_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(text)
    assert caught.value.message == message
    assert caught.value.hint == hint or (not hint and "docs/lab-file.md" in caught.value.hint)


def test_error_carries_its_place() -> None:
    with pytest.raises(SpecError) as caught:
        loads(HEAD + "guests:\n  g: {host: a, memory: 1}\n", "labs/mine.yaml")
    error = caught.value
    assert (error.file, error.line, error.key) == ("labs/mine.yaml", 4, "guests.g.memory")
    assert error.exit_code == 2


def test_all_faults_are_named_in_the_order_of_the_file() -> None:
    text = (
        "name: x\nguests:\n  g: {host: a, memory: 1, cpus: x}\n  h: {}\n"
        "hosts:\n  a: {memroy: 1 GiB}\nnetworks: {lan: {rate: 5}}\n"
    )
    with pytest.raises(SpecError) as caught:
        loads(text, "lab.yaml")
    starts = [line.split(": ")[:2] for line in caught.value.message.splitlines()]
    assert starts == [
        ["lab.yaml:3", "guests.g.memory"],
        ["lab.yaml:3", "guests.g.cpus"],
        ["lab.yaml:4", "guests.h"],
        ["lab.yaml:6", "hosts.a.memroy"],
        ["lab.yaml:7", "networks.lan.rate"],
    ]
