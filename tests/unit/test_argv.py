"""The command line: golden text for every shape, and the rules that no shape may break."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from limosa.architecture import X86_64
from limosa.errors import SpecError
from limosa.qemu.argv import DiskFile, Launch, arguments, command_line, guest_uuid
from limosa.qemu.features import MONITOR
from tests.launches import LAUNCHES, MICRO

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.mark.parametrize("name", LAUNCHES)
def test_golden(name: str) -> None:
    """LIMOSA_GOLDEN=update writes the texts anew; the diff is then read by a person."""
    lines = [" ".join(filter(None, (a.option, a.value))) for a in arguments(LAUNCHES[name])]
    text = "\n".join([LAUNCHES[name].qemu, *lines]) + "\n"
    golden = GOLDEN / f"argv-{name}.txt"
    if os.environ.get("LIMOSA_GOLDEN") == "update":
        golden.write_text(text)
    assert text == golden.read_text()


def test_no_golden_text_is_left_over() -> None:
    assert {p.name for p in GOLDEN.glob("argv-*.txt")} == {f"argv-{name}.txt" for name in LAUNCHES}


def test_command_line_is_the_arguments_flattened() -> None:
    words = command_line(MICRO)
    assert words[0] == MICRO.qemu
    assert words[1:] == tuple(w for a in arguments(MICRO) for w in (a.option, a.value) if w)


def test_source_and_target_differ_only_in_incoming() -> None:
    """Whatever else differed would be different virtual hardware."""
    target = command_line(replace(MICRO, incoming=True))
    assert target == (*command_line(MICRO), "-incoming", "defer")


def test_the_accelerator_and_the_place_change_no_device() -> None:
    elsewhere = replace(MICRO, accel="kvm", cpu="host", runtime_directory="/x", qemu="/q", firmware=("/f",), tap="t9")
    assert devices(MICRO) == devices(elsewhere)


def test_no_two_devices_share_an_address_or_an_id() -> None:
    found = [json.loads(d) for d in devices(replace(LAUNCHES["micro-vga"], seed="/seed"))]
    addresses = [d["addr"] for d in found if "addr" in d]
    assert sorted(addresses) == sorted(X86_64.slots.values())
    assert len({d["id"] for d in found}) == len(found)


def test_a_screen_adds_its_card_and_a_monitor_and_changes_no_other_device() -> None:
    with_screen = LAUNCHES["micro-vga"]
    assert set(devices(with_screen)) - set(devices(MICRO)) == {
        '{"driver":"VGA","id":"video0","bus":"pcie.0","addr":"0x1","romsize":65536}'
    }
    assert not set(devices(MICRO)) - set(devices(with_screen))
    monitors = [a.value for a in arguments(with_screen) if a.option == "-mon"]
    assert monitors == [f"chardev={name},mode=control" for name in ("control", "observe", "screen")]


def test_monitors_are_objects_where_qemu_would_rather_have_them_so() -> None:
    newer = replace(LAUNCHES["micro-vga"], features=replace(LAUNCHES["micro-vga"].features, types=frozenset({MONITOR})))
    objects = [json.loads(a.value) for a in arguments(newer) if a.option == "-object"]
    found = [(o["id"], o["chardev"]) for o in objects if o["qom-type"] == MONITOR]
    assert found == [(f"{name}-qmp", name) for name in ("control", "observe", "screen")]
    assert "-mon" not in command_line(newer)


def test_bare_guest_has_no_devices_but_the_console() -> None:
    assert [json.loads(d)["driver"] for d in devices(LAUNCHES["bare"])] == ["isa-serial"]
    given = replace(LAUNCHES["bare"], disk=DiskFile("/d"), tap="tap0", initrd="")
    assert devices(given) == devices(LAUNCHES["bare"])


def test_uuid_depends_on_lab_and_guest_alone() -> None:
    assert guest_uuid("a", "b") == guest_uuid("a", "b")
    assert len({guest_uuid("a", "b"), guest_uuid("a", "c"), guest_uuid("c", "b")}) == 3


def test_commas_in_paths_are_doubled_where_qemu_divides_by_commas() -> None:
    words = command_line(replace(MICRO, runtime_directory="/run/a,b", serial_log="/log/a,b"))
    chardevs = [w for w in words if w.startswith("socket,")]
    assert chardevs and all("path=/run/a,,b/" in w for w in chardevs)
    assert any("logfile=/log/a,,b," in w for w in chardevs)


def test_commas_in_json_and_plain_paths_stay_single() -> None:
    words = command_line(replace(MICRO, runtime_directory="/run/a,b", disk=DiskFile("/store/a,b.raw")))
    assert "/run/a,b/qemu.pid" in words
    assert any('"filename":"/store/a,b.raw"' in w for w in words)


def test_memory_that_is_no_whole_mebibyte_is_given_exactly() -> None:
    size = (100 << 20) + 8192
    words = command_line(replace(MICRO, guest=replace(MICRO.guest, memory_bytes=size)))
    assert f"size={size // 1024}k" in words
    assert any(f'"size":{size},' in w for w in words)


def test_a_socket_path_that_is_too_long_is_an_error_before_qemu_starts() -> None:
    longest = "/" + "d" * (107 - len("/control.qmp") - 1)
    assert command_line(replace(MICRO, runtime_directory=longest))
    with pytest.raises(SpecError, match="too long for a unix socket"):
        command_line(replace(MICRO, runtime_directory=longest + "d"))


def devices(launch: Launch) -> list[str]:
    return [a.value for a in arguments(launch) if a.option == "-device"]
