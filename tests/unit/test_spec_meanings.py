"""Values that do not fit together: every sentence a person may read, to the letter."""

from pathlib import Path

import pytest

from limosa.errors import SpecError
from limosa.spec import loads

HEAD = "name: x\nhosts: {a: , b: }\n"
"""Two lines that begin a valid lab; what is wrong comes in line 3 or later."""

MEANINGS: list[tuple[str, str, str]] = [
    (
        HEAD + "networks: {lo: }\n",
        "<text>:3: networks.lo: the kernel keeps the name 'lo' for itself",
        "choose another name",
    ),
    (
        "name: x\nhosts: {host1: , host2: }\nguests: {g: {host: hsot1}}\n",
        "<text>:3: guests.g.host: there is no host 'hsot1', did you mean 'host1'?",
        "this lab has 'host1' and 'host2'",
    ),
    (
        HEAD + "guests: {g: {host: a, network: wan}}\n",
        "<text>:3: guests.g.network: there is no network 'wan', did you mean 'lan'?",
        "this lab has 'lan'",
    ),
    (
        HEAD + "networks: {m: {purpose: migration}, l: }\nguests: {g: {host: a, network: m}}\n",
        "<text>:4: guests.g.network: the network 'm' is for migration, guests are not attached to it",
        "for guests there is 'l'",
    ),
    (
        HEAD + "networks: {m: {purpose: migration}}\nguests: {g: {host: a}}\n",
        "<text>:4: guests.g: no network of this lab is for guests",
        "add a network without `purpose: migration`",
    ),
    (
        HEAD + "networks:\n  m: {purpose: migration}\n  n: {purpose: migration}\n",
        "<text>:5: networks.n.purpose: the network 'm' in line 4 is for migration already",
        "remove this key from one of them",
    ),
    (
        HEAD + "networks:\n  l: {subnet: 10.0.0.0/16}\n  m: {subnet: 10.0.4.0/24}\n",
        "<text>:5: networks.m.subnet: 10.0.4.0/24 overlaps 10.0.0.0/16 of the network 'l' in line 4",
        "networks may not overlap",
    ),
    (
        HEAD + "guests: {g: {host: a, nic: e1000}}\n",
        "<text>:3: guests.g.nic: the kernel of the image 'micro' has no driver for e1000",
        "take the image 'micro-generic'",
    ),
    (
        HEAD + "guests: {g: {host: a, disk: {bus: sata}}}\n",
        "<text>:3: guests.g.disk.bus: the kernel of the image 'micro' has no driver for sata",
        "take the image 'micro-generic'",
    ),
    (
        HEAD + "guests: {g: {host: a, disk: {storage: share}}}\n",
        "<text>:3: guests.g.disk.storage: there is no storage 'share', did you mean 'shared'?",
        "this lab has 'shared'",
    ),
    (
        HEAD + "guests:\n  g:\n    host: a\n    disk: {source: /nowhere/disk.raw}\n",
        "<text>:6: guests.g.disk.source: /nowhere/disk.raw does not exist",
        "a relative path begins in the lab file's folder",
    ),
    (
        HEAD + "guests: {g: {host: a, disk: {source: /dev/null}}}\n",
        "<text>:3: guests.g.disk.source: /dev/null is not a disk file",
        "name a raw or qcow2 file",
    ),
    (
        HEAD + "guests: {g: {host: a, disk: {source: /dev/null/x}}}\n",
        "<text>:3: guests.g.disk.source: /dev/null/x cannot be used: Not a directory",
        "a relative path begins in the lab file's folder",
    ),
    (
        HEAD + "storage: {s: {path: /nowhere}}\n",
        "<text>:3: storage.s.path: /nowhere does not exist",
        "a relative path begins in the lab file's folder",
    ),
    (
        HEAD + "storage: {s: {path: /dev/null}}\n",
        "<text>:3: storage.s.path: /dev/null is not a directory",
        "name a directory",
    ),
    (
        HEAD + "guests: {g: {host: a, memory: 64 MiB}}\n",
        "<text>:3: guests.g.memory: 64 MiB is too little for the image 'micro'",
        "it needs at least 128 MiB",
    ),
    (
        "name: x\nhosts:\n  a: {memory: 1 GiB}\nguests:\n"
        "  g: {host: a, memory: 768 MiB}\n  h: {host: a, memory: 512 MiB}\n",
        "<text>:3: hosts.a.memory: 1 GiB does not hold the guests that start there, which have 1.25 GiB",
        "raise it, or start a guest elsewhere",
    ),
    (
        "name: x\nhosts: {client: }\n",
        "<text>:2: hosts.client: 'client' is the name of what probes the guests",
        "choose another name",
    ),
    (
        HEAD + "guests: {a: {host: b}}\n",
        "<text>:2: hosts.a: the guest in line 3 has the same name, and verbs take either",
        "rename one of them",
    ),
    (
        HEAD + "guests: {g: {host: a, image: bare, network: lan}}\n",
        "<text>:3: guests.g.network: a guest with the image 'bare' has no network",
        "remove the key, or take the image 'micro'",
    ),
    (
        HEAD + "guests: {g: {host: a, image: bare, address: 10.77.1.100}}\n",
        "<text>:3: guests.g.address: a guest with the image 'bare' has no network",
        "remove the key, or take the image 'micro'",
    ),
    (
        HEAD + "guests: {g: {host: a, image: bare, disk: {}}}\n",
        "<text>:3: guests.g.disk: a guest with the image 'bare' has no disk",
        "remove the key, or take the image 'micro'",
    ),
    (
        HEAD + "guests: {g: {host: a, image: bare, display: vga}}\n",
        "<text>:3: guests.g.display: a guest with the image 'bare' has no screen",
        "remove the key, or take the image 'micro'",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {sha256: '" + "0" * 64 + "'}}}\n",
        "<text>:3: guests.g.image: the image has neither 'path' nor 'url'",
        "give one of them",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {url: https://example.org/disk.qcow2}}}\n",
        "<text>:3: guests.g.image: the key 'sha256' is missing: what is fetched has to be checked",
        "its publisher names it beside the file",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {path: /nowhere.qcow2}}}\n",
        "<text>:3: guests.g.image.path: /nowhere.qcow2 does not exist",
        "a relative path begins in the lab file's folder",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {path: /etc/passwd, seed: none}}}\n",
        "<text>:3: guests.g.image: nobody could log in without 'seed: nocloud' and without a key",
        "give 'key', or 'ssh: false'",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {path: /etc/passwd, ssh: false, seed: nocloud}}}\n",
        "<text>:3: guests.g.image: 'key' and 'seed: nocloud' are for a system that one logs in to by SSH",
        "remove 'ssh: false'",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {path: /etc/passwd, append: quiet}}}\n",
        "<text>:3: guests.g.image: 'initrd' and 'append' are for a kernel that QEMU starts",
        "add 'kernel', or remove them",
    ),
    (
        HEAD + "guests: {g: {host: a, image: {path: /etc/passwd, kernel: /etc/passwd, firmware: uefi}}}\n",
        "<text>:3: guests.g.image: a kernel that QEMU starts directly needs no 'firmware: uefi'",
        "remove one of them",
    ),
    (
        HEAD + "guests: {g: {host: a, disk: {overlay: true}}}\n",
        "<text>:3: guests.g.disk.overlay: the image 'micro' is copied: it is no base for an overlay",
        "remove the key, or take an image that boots by itself",
    ),
    (
        HEAD + "guests: {g: {host: a, image: alpine, disk: {overlay: true, format: raw}}}\n",
        "<text>:3: guests.g.disk.format: an overlay is a qcow2 file",
        "remove one of `format` and `overlay`",
    ),
    (
        HEAD + "guests: {g: {host: a, image: alpine, disk: {source: /etc/passwd}}}\n",
        "<text>:3: guests.g.disk.source: the image is the disk already",
        "write `image: {path: ...}` to start from a disk of yours",
    ),
]

ADDRESSES: list[tuple[str, str, str]] = [
    (
        HEAD + "guests:\n  g: {host: a, address: 10.77.1.9}\n  h:\n    host: a\n    address: 10.77.1.9\n",
        "<text>:7: guests.h.address: 10.77.1.9 is already taken by guests.g.address in line 4",
        "10.77.1.101 is free",
    ),
    (
        "name: x\nhosts:\n  a: {addresses: {lan: 10.77.1.50}}\nguests:\n  g: {host: a, address: 10.77.1.50}\n",
        "<text>:5: guests.g.address: 10.77.1.50 is already taken by hosts.a.addresses.lan in line 3",
        "10.77.1.101 is free",
    ),
    (
        HEAD + "guests: {g: {host: a, address: 10.77.1.1}}\n",
        "<text>:3: guests.g.address: 10.77.1.1 is already the client's (the client has the first of 10.77.1.0/24)",
        "10.77.1.101 is free",
    ),
    (
        HEAD + "guests: {g: {host: a, address: 192.168.1.5}}\n",
        "<text>:3: guests.g.address: 192.168.1.5 is outside the network 'lan' (10.77.1.0/24)",
        "10.77.1.101 is free",
    ),
    (
        HEAD + "networks: {l: , m: }\nguests: {g: {host: a, address: 10.77.2.5}}\n",
        "<text>:4: guests.g.address: 10.77.2.5 is outside the network 'l' (10.77.1.0/24)",
        "it belongs to the network 'm'",
    ),
    (
        HEAD + "guests: {g: {host: a, address: 10.77.1.0}}\n",
        "<text>:3: guests.g.address: 10.77.1.0 is the address of the network 'lan' itself",
        "10.77.1.101 is free",
    ),
    (
        HEAD + "guests: {g: {host: a, address: 10.77.1.255}}\n",
        "<text>:3: guests.g.address: 10.77.1.255 is the broadcast address of the network 'lan'",
        "10.77.1.101 is free",
    ),
    (
        "name: x\nhosts:\n  a: {addresses: {lam: 10.77.1.50}}\n",
        "<text>:3: hosts.a.addresses.lam: there is no network 'lam', did you mean 'lan'?",
        "this lab has 'lan'",
    ),
    (
        "name: x\nhosts: {a: , b: , c: , d: , e: }\nnetworks: {lan: {subnet: 10.1.0.0/29}}\nguests: {g: {host: a}}\n",
        "<text>:4: guests.g: the network 'lan' (10.1.0.0/29) has no free address left",
        "give the network a larger subnet",
    ),
]


@pytest.mark.parametrize(("text", "message", "hint"), MEANINGS + ADDRESSES)
def test_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(text)
    assert caught.value.message == message
    assert caught.value.hint == hint or (not hint and "docs/lab-file.md" in caught.value.hint)


def test_disk_that_this_user_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """root reads everything, so the kernel's refusal has to be made."""
    (tmp_path / "disk.raw").touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(SpecError) as caught:
        loads(HEAD + "guests: {g: {host: a, disk: {source: disk.raw}}}\n", str(tmp_path / "lab.yaml"))
    assert caught.value.message == (
        f"{tmp_path}/lab.yaml:3: guests.g.disk.source: {tmp_path}/disk.raw may not be read by this user"
    )
    assert caught.value.hint == "let this user read it, or name a copy"
