"""A lab file without end, or of bytes at random: one error, which a person can read."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from limosa import errors, spec, units
from limosa.errors import LimosaError, SpecError
from limosa.spec import document, resolution
from limosa.spec.addresses import Pool, free_subnet

HEAD = "name: a\nhosts: {host1: {}}\n"
MANY = "9" * 4301
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def refused(text: str) -> SpecError:
    with pytest.raises(SpecError) as raised:
        spec.loads(text)
    assert len(raised.value.message) < errors.LONGEST + 100 and len(raised.value.hint) < errors.LONGEST + 100
    return raised.value


@pytest.mark.parametrize("section", resolution.MOST)
def test_a_section_has_an_end(section: str) -> None:
    entries = ", ".join(f"x{number}: {{}}" for number in range(resolution.MOST[section] + 1))
    rest = "" if section == "hosts" else "hosts: {host1: {}}\n"
    error = refused(f"name: a\n{rest}{section}: {{{entries}}}\n")
    assert f"a lab has at most {resolution.MOST[section]}" in error.message


def test_as_many_networks_as_may_be_have_subnets_of_their_own() -> None:
    names = ", ".join(f"n{number}: {{}}" for number in range(resolution.MOST["networks"]))
    lab = spec.loads(f"{HEAD}networks: {{{names}}}\n")
    assert len({network.subnet for network in lab.networks.values()}) == resolution.MOST["networks"]


def test_a_free_subnet_is_one_that_nobody_overlaps() -> None:
    assert free_subnet([]) == IPv4Network("10.77.1.0/24")
    assert free_subnet([IPv4Network("10.77.1.128/25"), IPv4Network("10.77.2.0/23")]) == IPv4Network("10.77.4.0/24")
    assert free_subnet([IPv4Network("10.0.0.0/8")]) is None
    assert free_subnet([IPv4Network("10.77.0.0/17")]) == IPv4Network("10.77.128.0/24")


def test_addresses_are_taken_in_order_and_come_to_an_end() -> None:
    pool = Pool("lan", IPv4Network("10.77.1.0/28"))
    assert pool.reserve("10.77.1.12", ("hosts", "x"), 1) == ""
    taken = [pool.take(11, "x") for _ in range(20)]
    assert taken[:2] == ["10.77.1.11", "10.77.1.13"] and taken.count(None) == 20 - 12
    assert pool.take(101, "x") is None and pool.owners.keys() >= {IPv4Address("10.77.1.2")}


@pytest.mark.parametrize(
    "text",
    [
        f"cpus: {MANY}",
        f"cpus: -{MANY}",
        f"cpus: 0{MANY}",
        f"cpus: 0x{'f' * 5000}",
        f"cpus: 0o{'7' * 5000}",
        f"cpus: {1 << 70}",
        f"cpus: {MANY}.5",
        "cpus: 1e999",
        "cpus: !!int many",
        "cpus: !!float much",
        f"memory: {MANY}",
        f"memory: {MANY} MiB",
        f"memory: {'9' * 30} MiB",
        f"address: 10.77.1.{MANY}",
        f"cpu: {{{MANY[:300]}: 1}}",
        f"host: {'z' * 500_000}",
        f"image: {'i' * 100_000}",
    ],
    ids=lambda text: text[:24],
)
def test_numbers_and_words_without_end(text: str) -> None:
    refused(f"{HEAD}guests: {{g: {{host: host1, {text}}}}}\n")


@pytest.mark.parametrize(
    "network", [f"subnet: 10.0.0.0/{MANY}", f"delay: {MANY} ms", f"rate: {MANY} Gbit/s", f"{MANY[:900]}: 1"]
)
def test_networks_of_no_size(network: str) -> None:
    refused(f"{HEAD}networks: {{n: {{{network}}}}}\n")


def test_a_number_with_a_leading_zero_is_written_out() -> None:
    assert "write 17, or" in refused(f"{HEAD}guests: {{g: {{host: host1, cpus: 0017}}}}\n").hint
    assert "write -1, or" in refused(f"{HEAD}guests: {{g: {{host: host1, cpus: -01}}}}\n").hint
    assert "write 0, or" in refused(f"{HEAD}guests: {{g: {{host: host1, cpus: 00}}}}\n").hint


def test_a_file_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_VALUES", 50)
    assert "more than 50 values" in refused("a: [" + "1," * 200 + "1]\n").message
    assert refused("a:\n" + " - 1\n" * 5000).line == 100


def test_of_many_problems_the_first_are_told() -> None:
    guests = "".join(f"  g{number}: {{hst: host1}}\n" for number in range(300))
    error = refused(f"{HEAD}guests:\n{guests}")
    assert error.line == 4 and error.message.splitlines()[-1] == "and 580 more problems"
    guests = "".join(f"  g{number}: {{host: other, image: bare}}\n" for number in range(300))
    assert refused(f"{HEAD}guests:\n{guests}").message.splitlines()[-1] == "and 280 more problems"


def test_of_many_names_the_first_are_listed() -> None:
    hosts = ", ".join(f"h{number}: {{}}" for number in range(200))
    error = refused(
        f"name: a\nnetworks: {{lan: {{subnet: 10.0.0.0/16}}}}\nhosts: {{{hosts}}}\nguests: {{g: {{host: x}}}}\n"
    )
    assert "'h23' and 176 more" in error.hint


@pytest.mark.parametrize(
    "parse", [units.parse_bytes, units.parse_bits_per_s, units.parse_bytes_per_s, units.parse_seconds]
)
@pytest.mark.parametrize("text", [MANY, f"{MANY} MiB", f"1 {MANY}", "1" * 19 + " s", "½ s", "١ s", "\x1b[2J"])
def test_quantities_of_no_size(parse: object, text: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse(text)  # type: ignore[operator]
    assert len(str(raised.value)) < 300


def test_a_message_has_an_end() -> None:
    error = LimosaError("x" * 1_000_000, hint="y" * 1_000_000)
    assert len(str(error)) < errors.LONGEST + 100 > len(error.hint) and "(1000000 characters in all)" in error.hint


@pytest.mark.parametrize("seed", range(12))
def test_bytes_at_random(seed: int) -> None:
    """Examples with a few bytes changed, moved or doubled: a lab, or one of our errors."""
    chance = random.Random(seed)
    odd = [
        b"\xff",
        b"\0",
        b"\x1b",
        b"&a ",
        b"*a ",
        b"<<: ",
        b"!!int ",
        b"- ",
        b"{",
        b"]",
        b"? ",
        b"'",
        b"|\n",
        b"9" * 4400,
    ]
    for path in EXAMPLES:
        data = bytearray(path.read_bytes())
        for _ in range(chance.randrange(1, 4)):
            at, end = sorted(chance.randrange(len(data)) for _ in range(2))
            match chance.randrange(3):
                case 0:
                    data[at:at] = chance.choice(odd)
                case 1:
                    data[at:at] = data[at : min(end, at + 40)]
                case 2:
                    del data[at : min(end, at + 8)]
        try:
            spec.loads(document._decode(bytes(data), "x.yaml"), str(path))
        except SpecError as error:
            assert len(error.message) < errors.LONGEST + 200
