"""The table of migration options: what people write, what QMP takes, what both QEMUs are told, what the page says.

That adding an option is one row is shown by adding one.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace

from limosa import spec
from limosa.cli import completion
from limosa.cli.app import call
from limosa.cli.migrate import _asked
from limosa.errors import LimosaError, MachineError, SpecError
from limosa.migration import pause_estimate
from limosa.migration import plan as plans
from limosa.migration.choice import Choice, Offer, choose
from limosa.migration.methods import pre_copy
from limosa.migration.settings import Settings
from limosa.qemu.features import Features
from limosa.spec.migration_options import OPTIONS, Exclusion, Option, Value, merged, named, read, shown
from limosa.spec.migration_options.value_kinds import Milliseconds
from limosa.spec.resolved import Wishes
from tests import option_docs
from tests.launches import FEATURES

_COMPRESSIONS = {"multifd-compression": frozenset({"none", "zlib", "zstd"})}
_LATER = {"switchover-ack", "dirty-limit", "avail-switchover-bandwidth", "zero-page-detection"} | {
    *("vcpu-dirty-limit", "x-vcpu-dirty-limit-period"),
}
"""The capabilities and parameters that came after QEMU 7.2."""
MENDED = "multifd-qatzip-level"
"""A parameter that is no option; it came when the levels of zlib and zstd were mended."""


def _qemu(version: str, without: set[str], choices: dict[str, frozenset[str]], statuses: set[str]) -> Features:
    mended = set[str]() if without else {MENDED}
    names = {name: option.qmp_names[0] for name, option in OPTIONS.items()}
    return replace(
        FEATURES,
        version=version,
        migration_capabilities=frozenset(q for n, q in names.items() if OPTIONS[n].capability) - without,
        migration_parameters=frozenset(q for n, q in names.items() if not OPTIONS[n].capability) - without | mended,
        migration_choices={**_COMPRESSIONS, **choices},
        migration_statuses=frozenset(statuses),
    )


_ZEROS = {"zero-page-detection": frozenset({"none", "legacy", "multifd"})}
OLD = _qemu("7.2.22", _LATER, {}, {"active"})
NEW = _qemu("10.0.2", set(), _ZEROS, {"active"})
NEWEST = _qemu("11.1.3", set(), _ZEROS, {"active", "postcopy-device"})


def chosen(asked: dict[str, Value], source: Features = NEW, target: Features = NEW, **more: Any) -> Choice:
    return choose(asked, Offer("host1", source), Offer("host2", target), **more)


@pytest.mark.parametrize(("name", "text", "value"), [
    ("downtime-limit", "300 ms", 300),
    ("downtime-limit", "2 s", 2000),
    ("max-bandwidth", "20 MiB/s", 20 << 20),
    ("max-bandwidth", "1 Gbit/s", 125_000_000),
    ("max-bandwidth", "unlimited", 1 << 50),
    ("max-postcopy-bandwidth", "unlimited", 0),
    ("multifd", "on", True),
    ("auto-converge", "false", False),
    ("multifd-channels", "4", 4),
    ("multifd-compression", "zstd", "zstd"),
    ("xbzrle-cache-size", "64 MiB", 64 << 20),
    ("cpu-throttle-initial", "50 %", 50),
    ("cpu-throttle-initial", "50", 50),
    ("vcpu-dirty-limit", "20 MiB/s", 20),
    ("downtime-limit", "default", None),
])  # fmt: skip
def test_what_people_write(name: str, text: str, value: Value | None) -> None:
    assert read(name, text) == value
    if value is not None:
        assert read(name, shown(name, value)) == value


@pytest.mark.parametrize("name", OPTIONS)
def test_each_value_is_shown_as_it_is_read(name: str) -> None:
    option = OPTIONS[name]
    ends = [getattr(option.kind, end) for end in ("least", "most") if hasattr(option.kind, end)]
    for value in (
        option.default,
        option.unasked,
        read(name, option.kind.example),
        *ends,
        *map(option.kind.read, option.kind.words),
    ):
        assert value is not None
        if not option.kind.fault(value):
            assert read(name, shown(name, value)) == value
    assert option.kind.fault(option.unasked) == "", "what is told when nobody asks is a value, too"
    assert option.purpose.endswith("."), "a sentence"


@pytest.mark.parametrize(("name", "text", "told"), [
    ("downtime-limt", "300 ms", "there is no migration option 'downtime-limt'"),
    ("downtime_limit", "300 ms", "there is no migration option 'downtime_limit'"),
    ("downtime-limit", "300", "'300' has no unit"),
    ("downtime-limit", "0.5 ms", "'0.5 ms' is not a whole number of ms"),
    ("multifd", "maybe", "'maybe' is neither on nor off"),
    ("multifd-compression", "lzma", "'lzma' is none of none, zlib, zstd"),
    ("multifd-channels", "many", "'many' is not a whole number"),
    ("multifd-channels", "0", "'0' is less than 1"),
    ("multifd-zlib-level", "10", "'10' is more than 9"),
    ("cpu-throttle-initial", "100 %", "'100 %' is more than 99 %"),
    ("vcpu-dirty-limit", "1 kB/s", "'1 kB/s' is not a whole number of MiB/s"),
    ("xbzrle-cache-size", "96 MiB", "96 MiB is not a power of two, as 64 MiB is"),
])  # fmt: skip
def test_what_cannot_be_is_told(name: str, text: str, told: str) -> None:
    with pytest.raises(SpecError, match=r".") as caught:
        read(name, text)
    assert told in caught.value.message and caught.value.hint
    if "no migration option" in told:
        assert caught.value.hint == "did you mean downtime-limit?"


def test_a_name_that_is_like_none_is_told_where_all_are() -> None:
    with pytest.raises(SpecError) as caught:
        named("zzz")
    assert caught.value.hint.endswith("options.md has all of them")


def test_the_first_that_names_an_option_decides() -> None:
    command: dict[str, Value | None] = {"downtime-limit": 100, "multifd": None}
    assert merged(command, {"downtime-limit": 200, "multifd": True, "xbzrle": True}) == {
        "downtime-limit": 100, "multifd": None, "xbzrle": True,
    }  # fmt: skip


def test_a_command_overrides_the_guest_which_overrides_the_lab() -> None:
    lab = spec.loads(
        "name: x\nhosts: {a: , b: }\n"
        "migration: {method: post-copy, options: {downtime-limit: 100 ms, auto-converge: on, multifd-channels: 3}}\n"
        "guests:\n"
        "  g: {host: a, migration: {tls: 'on', options: {downtime-limit: 200 ms, multifd-channels: default}}}\n"
        "  h: {host: a, migration: {method: pre-copy}}\n"
    )
    wishes = lab.guests["g"].migration
    assert wishes == Wishes("post-copy", "on", {"downtime-limit": 200, "auto-converge": True})
    assert lab.guests["h"].migration.method == "pre-copy" and lab.guests["h"].migration.tls == "auto"
    assert spec.decode(spec.encode(lab)) == lab
    settings = Settings(options={"downtime-limit": "50 ms", "auto-converge": None}, method="pre-copy").over(wishes)
    assert (settings.method, settings.tls, settings.asked) == ("pre-copy", "on", {"downtime-limit": 50})
    assert Settings().over(wishes).asked == wishes.options


def test_each_parameter_is_told_each_time() -> None:
    told = chosen({})
    for side in (told.source, told.target):
        assert side.capabilities == ()
        assert set(side.parameters) == NEW.migration_parameters - {MENDED}
    assert told.source.parameters["max-bandwidth"] == 1 << 50 and told.source.parameters["downtime-limit"] == 300
    assert told.source.parameters["x-vcpu-dirty-limit-period"] == 1000
    sound = OLD.migration_parameters - {"multifd-zlib-level", "multifd-zstd-level"}
    assert set(chosen({}, OLD, OLD).source.parameters) == sound, "and only what it knows, and takes"


def test_each_side_is_told_what_it_acts_by() -> None:
    told = chosen({"downtime-limit": 77, "announce-rounds": 3, "multifd-channels": 4, "auto-converge": True})
    source, target = told.source, told.target
    assert (source.parameters["downtime-limit"], target.parameters["downtime-limit"]) == (77, 300)
    assert (source.parameters["announce-rounds"], target.parameters["announce-rounds"]) == (5, 3)
    assert source.parameters["multifd-channels"] == target.parameters["multifd-channels"] == 4
    assert source.capabilities == ("multifd", "auto-converge") and target.capabilities == ("multifd",)


@pytest.mark.parametrize(("asked", "capabilities", "parameters"), [
    ({"multifd-channels": 4}, {"multifd"}, {"multifd-channels": 4, "multifd-compression": "none"}),
    ({"multifd-compression": "none"}, {"multifd"}, {"multifd-compression": "none"}),
    ({"multifd-zstd-level": 3}, {"multifd"}, {"multifd-compression": "zstd", "multifd-zstd-level": 3}),
    ({"multifd-zlib-level": 3}, {"multifd"}, {"multifd-compression": "zlib", "multifd-zlib-level": 3}),
    ({"zero-copy-send": True}, {"multifd", "zero-copy-send"}, {}),
    ({"zero-copy-send": False}, set(), {}),
    ({"postcopy-ram": True}, {"postcopy-ram", "return-path"}, {}),
])  # fmt: skip
def test_what_an_option_turns_on(asked: dict[str, Value], capabilities: set[str], parameters: dict[str, Value]) -> None:
    told = chosen(asked).source
    assert set(told.capabilities) == capabilities and parameters.items() <= told.parameters.items()


@pytest.mark.parametrize(("asked", "kind", "told"), [
    ({"cpu-throttle-initial": 50}, SpecError, "cpu-throttle-initial needs auto-converge=on"),
    ({"xbzrle-cache-size": 4096}, SpecError, "xbzrle-cache-size needs xbzrle=on"),
    ({"postcopy-preempt": True}, SpecError, "postcopy-preempt needs postcopy-ram=on"),
    ({"switchover-ack": True}, SpecError, "switchover-ack needs return-path=on"),
    ({"multifd": False, "multifd-channels": 4}, SpecError, "multifd-channels needs multifd=on"),
    ({"multifd-zstd-level": 3, "multifd-compression": "zlib"}, SpecError, "needs multifd-compression=zstd"),
    ({"auto-converge": True, "cpu-throttle-initial": 60, "max-cpu-throttle": 50}, SpecError,
     "max-cpu-throttle is 50 %, less than the 60 % of cpu-throttle-initial"),
    ({"multifd": True, "xbzrle": True}, SpecError, "multifd and xbzrle do not go together: QEMU sends"),
    ({"auto-converge": True, "dirty-limit": True}, SpecError, "dirty-limit takes a guest whose QEMU was started with"),
    ({"dirty-limit": True}, SpecError, "KVM's dirty ring"),
    ({"zero-copy-send": True, "multifd-compression": "zstd"}, SpecError,
     "zero-copy-send and multifd-compression do not go together: what is compressed is a copy"),
    ({"postcopy-ram": True, "multifd": True}, MachineError,
     "multifd and postcopy-ram do not go together with QEMU 10.0.2 on host1: QEMU loses the guest"),
    ({"max-bandwidth": 1 << 20}, SpecError,
     "QEMU 10.0.2 on host1 cannot be held to 1 MiB/s: it sends at least 1.25 MiB/s"),
])  # fmt: skip
def test_what_does_not_go_together(asked: dict[str, Value], kind: type[LimosaError], told: str) -> None:
    with pytest.raises(kind) as caught:
        chosen(asked)
    assert told in caught.value.message and caught.value.hint


def test_zero_copy_is_refused_over_an_encrypted_stream() -> None:
    with pytest.raises(SpecError, match="zero-copy-send and tls do not go together: what is encrypted is a copy"):
        chosen({"zero-copy-send": True}, tls=True)
    chosen({"zero-copy-send": True})


@pytest.mark.parametrize(("source", "target", "sound"), [
    (OLD, OLD, False), (OLD, NEWEST, False), (NEWEST, OLD, False), (NEWEST, NEW, False), (NEWEST, NEWEST, True),
])  # fmt: skip
def test_post_copy_goes_with_multifd_where_both_have_the_mend(source: Features, target: Features, sound: bool) -> None:
    asked: dict[str, Value] = {"multifd": True, "postcopy-ram": True}
    if sound:
        assert set(chosen(asked, source, target).target.capabilities) == {"multifd", "postcopy-ram", "return-path"}
    else:
        with pytest.raises(MachineError, match="do not go together with QEMU"):
            chosen(asked, source, target)


def test_multifd_never_goes_with_xbzrle() -> None:
    for qemu in (OLD, NEW, NEWEST):
        with pytest.raises(SpecError, match="xbzrle"):
            chosen({"xbzrle": True, "multifd-channels": 2}, qemu, qemu)


def test_what_a_qemu_lacks_is_refused() -> None:
    with pytest.raises(MachineError, match=r"QEMU 7.2.22 on host1 cannot do switchover-ack"):
        chosen({"switchover-ack": True, "return-path": True}, OLD, NEW)
    with pytest.raises(MachineError, match=r"QEMU 7.2.22 on host2 cannot do switchover-ack"):
        chosen({"switchover-ack": True, "return-path": True}, NEW, OLD)
    with pytest.raises(MachineError, match=r"QEMU 7.2.22 on host1 cannot do multifd-zstd-level"):
        chosen({"multifd-zstd-level": 3}, OLD, NEW)
    chosen({"multifd-zstd-level": 3}, NEW, OLD)
    with pytest.raises(MachineError, match=r"QEMU 7.2.22 on host2 cannot do zero-page-detection"):
        chosen({"zero-page-detection": "none"}, NEW, OLD)
    chosen({"downtime-limit": 100}, NEW, replace(NEW, migration_parameters=frozenset()))
    poor = replace(NEW, migration_choices={"multifd-compression": frozenset({"none", "zlib"})})
    with pytest.raises(MachineError, match=r"QEMU 10.0.2 on host2 has multifd-compression without zstd") as caught:
        chosen({"multifd-compression": "zstd"}, NEW, poor)
    assert caught.value.hint == "it has none, zlib"


def test_zero_pages_are_told_as_the_other_side_understands() -> None:
    assert chosen({}, NEW, NEW).source.parameters["zero-page-detection"] == "multifd"
    assert chosen({}, NEW, OLD).source.parameters["zero-page-detection"] == "legacy"
    assert chosen({}, OLD, NEW).target.parameters["zero-page-detection"] == "legacy"


def test_the_method_brings_its_options() -> None:
    both = {"postcopy-ram", "postcopy-preempt", "return-path"}
    told = chosen({}, OLD, OLD, method="post-copy")
    assert set(told.source.capabilities) == both and set(told.target.capabilities) == {*both, "postcopy-blocktime"}
    without = replace(OLD, migration_capabilities=OLD.migration_capabilities - {"postcopy-preempt"})
    assert "postcopy-preempt" not in chosen({}, OLD, without, method="post-copy").source.capabilities
    assert "postcopy-preempt" not in chosen({"postcopy-preempt": False}, method="post-copy").source.capabilities
    with pytest.raises(SpecError, match="the method post-copy does not go with postcopy-ram=off"):
        chosen({"postcopy-ram": False}, method="post-copy")


LIMIT, PAUSE, AVAILABLE = "max-bandwidth", "downtime-limit", "avail-switchover-bandwidth"
MIB = 1 << 20


@pytest.mark.parametrize(("qemu", "asked", "link", "told", "remark"), [
    (NEW, {LIMIT: 16 * MIB, PAUSE: 700}, 64 * MIB, {PAUSE: 700, AVAILABLE: 64 * MIB}, "that the link takes"),
    (OLD, {LIMIT: 16 * MIB, PAUSE: 700}, 64 * MIB, {PAUSE: 2800}, "is told a downtime-limit of 2800 ms"),
    (NEW, {LIMIT: 16 * MIB, AVAILABLE: 32 * MIB}, 64 * MIB, {PAUSE: 300, AVAILABLE: 32 * MIB}, ""),
    (OLD, {LIMIT: 16 * MIB, AVAILABLE: 32 * MIB}, None, {PAUSE: 600}, "is told a downtime-limit of 600 ms"),
    (NEW, {LIMIT: 16 * MIB}, None, {PAUSE: 300, AVAILABLE: 0}, "say how fast the link is"),
    (OLD, {LIMIT: 16 * MIB}, None, {PAUSE: 300}, "say how fast the link is"),
    (NEW, {LIMIT: 80 * MIB}, 64 * MIB, {PAUSE: 300, AVAILABLE: 0}, ""),
    (NEW, {PAUSE: 100}, 64 * MIB, {PAUSE: 100, AVAILABLE: 0}, ""),
    (OLD, {PAUSE: 100}, 64 * MIB, {PAUSE: 100}, ""),
])  # fmt: skip
def test_a_limit_of_bandwidth_leaves_the_pause_what_a_person_meant(
    qemu: Features, asked: dict[str, Value], link: int | None, told: dict[str, Value], remark: str
) -> None:
    choice = chosen(asked, qemu, qemu, link_bytes_per_s=link)
    assert told.items() <= choice.source.parameters.items()
    assert len(choice.remarks) == bool(remark) and remark in "".join(choice.remarks)
    assert choice.asked == asked, "what was asked for stays what it was"


def test_what_qemu_does_not_keep_is_said() -> None:
    remarks = chosen({LIMIT: 80 * MIB, "multifd": True}, link_bytes_per_s=64 * MIB).remarks
    assert remarks == ("with multifd QEMU sends more than max-bandwidth says: twice as much was seen",)
    assert chosen({"multifd": True}).remarks == ()


def test_the_longer_limit_is_one_that_qemu_takes() -> None:
    told = chosen({LIMIT: 40960, PAUSE: 1_000_000}, OLD, OLD, link_bytes_per_s=64 * MIB)
    assert told.source.parameters[PAUSE] == 2_000_000


def test_an_estimate_that_nothing_stands_in_for_is_refused() -> None:
    with pytest.raises(MachineError, match=r"QEMU 7.2.22 on host1 cannot do avail-switchover-bandwidth"):
        chosen({AVAILABLE: 64 * MIB}, OLD, NEW)
    assert pause_estimate.stream(1_000_000_000) == 119_550_858, "of 125,000,000 bytes"


@pytest.mark.parametrize(("words", "told"), [
    (("--set", "multifd-chanels=4"), "did you mean multifd-channels?"),
    (("--set", "multifd"), "'multifd' is not NAME=VALUE"),
    (("--set", "multifd=maybe"), "'maybe' is neither on nor off"),
    (("--downtime-limit", "1 s", "--set", "downtime-limit=2 s"), "the option downtime-limit is given twice"),
    (("--set", "multifd=on", "--set", "multifd=off"), "the option multifd is given twice"),
    (("--method", "fast"), "'fast' is none of pre-copy, post-copy"),
])  # fmt: skip
def test_what_the_command_refuses(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(SpecError) as caught:
        call(("migrate", "g", "h", *words))
    assert told in caught.value.message


def test_what_the_command_asks_for() -> None:
    everyday: dict[str, Value | None] = {"downtime-limit": 200, "max-bandwidth": None}
    asked = _asked(["multifd-compression=zstd", "auto-converge=default"], everyday)
    assert asked == {"downtime-limit": 200, "multifd-compression": "zstd", "auto-converge": None}


@pytest.mark.parametrize(("asked", "told"), [
    ({}, r"--set multifd-compression=zstd, a larger --downtime-limit, or --method post-copy: .*methods\.md"),
    ({"multifd-compression": "zstd"}, r"a larger --downtime-limit, or --method post-copy: .*methods\.md"),
    ({"postcopy-ram": True}, "limosa switch web makes it post-copy now"),
])  # fmt: skip
def test_a_guest_that_does_not_get_across_has_ways_out(asked: dict[str, Value], told: str) -> None:
    source, target = Offer("host1", NEW), Offer("host2", NEW)
    plan = plans.made("web", Settings(options=asked), source, target, "10.77.1.12")
    assert re.fullmatch(told, pre_copy.ways_out(plan))


def test_names_and_values_are_completed() -> None:
    before = ["migrate", "g", "h", "--set"]
    names = [word for word, _ in completion.suggestions(before, "multifd-c")[0]]
    assert names == ["multifd-channels=", "multifd-compression="]
    values = [word for word, _ in completion.suggestions(before, "multifd-compression=z")[0]]
    assert values == ["multifd-compression=zlib", "multifd-compression=zstd"]
    assert completion.suggestions(before, "no-such=")[0] == []


@pytest.mark.parametrize(("words", "position", "printed"), [
    (["limosa", "migrate", "g", "h", "--set", "multifd", "=", "o"], 7, "on\noff\n"),
    (["limosa", "migrate", "g", "h", "--set", "multifd", "="], 6, "on\noff\ndefault\n"),
    (["limosa", "migrate", "g", "h", "--set", "multifd-ch"], 5, "multifd-channels=\n"),
    (["limosa", "migrate", "g", "h", "--set", "multifd", "=", "on", "--time"], 8, "--timeout\n"),
])  # fmt: skip
def test_bash_breaks_words_at_an_equals_sign(
    words: list[str], position: int, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"_LIMOSA_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(position)}
    completion.answer(environment)
    assert capsys.readouterr().out == printed


def test_the_page_of_options_is_as_the_table_has_it() -> None:
    text = option_docs.PAGE.read_text()
    assert text == option_docs.written(text), "python -m tests.option_docs writes it"


def test_adding_an_option_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parameter of every QEMU that Limosa has no use for: how often COLO takes a checkpoint."""
    row = Option(
        name="checkpoint-delay",
        qmp=("x-checkpoint-delay",),
        kind=Milliseconds(1, 100_000),
        default=20_000,
        excludes=(Exclusion("multifd", "a checkpoint goes over one connection"),),
        purpose="How long after a checkpoint the next one is taken.",
    )
    monkeypatch.setitem(OPTIONS, row.name, row)
    knows = replace(NEW, migration_parameters=NEW.migration_parameters | {"x-checkpoint-delay"})

    assert _asked(["checkpoint-delay=3 s"], {}) == {"checkpoint-delay": 3000}
    assert completion.suggestions(["migrate", "g", "h", "--set"], "check")[0] == [("checkpoint-delay=", "")]
    with pytest.raises(SpecError, match="'checkpoint-dela'; did you mean checkpoint-delay"):
        call(("migrate", "g", "h", "--set", "checkpoint-dela=3 s"))

    lab = spec.loads("name: x\nhosts: {a: }\nguests: {g: {host: a}}\nmigration: {options: {checkpoint-delay: 3 s}}\n")
    assert lab.guests["g"].migration.options == {"checkpoint-delay": 3000}
    assert row.name in spec.schema()["$defs"]["Migration"]["properties"]["options"]["properties"]

    told = chosen({"checkpoint-delay": 3000}, knows, knows)
    assert told.source.parameters["x-checkpoint-delay"] == told.target.parameters["x-checkpoint-delay"] == 3000
    assert chosen({}, knows, knows).target.parameters["x-checkpoint-delay"] == 20_000, "it is reset"
    with pytest.raises(MachineError, match=r"QEMU 10.0.2 on host2 cannot do checkpoint-delay"):
        chosen({"checkpoint-delay": 3000}, knows, NEW)
    with pytest.raises(SpecError, match="checkpoint-delay and multifd do not go together"):
        chosen({"checkpoint-delay": 3000, "multifd": True}, knows, knows)
    assert Settings(options={"checkpoint-delay": 3000}).qemu_parameters()["x-checkpoint-delay"] == 3000

    assert "| `checkpoint-delay` | 1 ms to 100 s | 20 s | How long after a checkpoint" in option_docs.table()
