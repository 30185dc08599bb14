"""Quantities: exact readings, exact refusals, and printing that reads back."""

import random
import re

import pytest

from limosa import units

BYTE_UNITS = "(units: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)"
BIT_UNITS = "(units: bit/s, kbit/s, Mbit/s, Gbit/s, Tbit/s)"
TIME_UNITS = "(units: ns, us, µs, ms, s, min, h)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512 MiB", 536870912),
        ("1GiB", 1073741824),
        ("0.5 GiB", 536870912),
        (" 2\tKiB ", 2048),
        ("1 MB", 1000000),
        ("0 B", 0),
        ("1.5 TiB", 1649267441664),
        ("999999999999999999 B", 999999999999999999),
    ],
)
def test_parse_bytes(text: str, expected: int) -> None:
    assert units.parse_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("512", f"'512' has no unit, write for instance 512 MiB {BYTE_UNITS}"),
        ("512M", f"'512M' has no unit known for a size, did you mean 512 MiB? {BYTE_UNITS}"),
        ("512 mib", f"'512 mib' has no unit known for a size, did you mean 512 MiB? {BYTE_UNITS}"),
        ("512 mb", f"'512 mb' has no unit known for a size, did you mean 512 MB? {BYTE_UNITS}"),
        ("5 potatoes", f"'5 potatoes' has no unit known for a size {BYTE_UNITS}"),
        ("1e3 MiB", f"'1e3 MiB' has no unit known for a size {BYTE_UNITS}"),
        ("1.3 B", "'1.3 B' is not a whole number of B"),
        ("-1 MiB", "'-1 MiB' is not a size, which is a number and a unit, for instance 512 MiB"),
        ("nan", "'nan' is not a size, which is a number and a unit, for instance 512 MiB"),
        ("", "'' is not a size, which is a number and a unit, for instance 512 MiB"),
        ("٣ MiB", "'٣ MiB' is not a size, which is a number and a unit, for instance 512 MiB"),
        ("1" * 19, f"'{'1' * 19}' is not a size, which is a number and a unit, for instance 512 MiB"),
    ],
)
def test_parse_bytes_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        units.parse_bytes(text)


def test_parse_bits_per_s() -> None:
    assert units.parse_bits_per_s("1 Gbit/s") == 10**9
    assert units.parse_bits_per_s("2.5Gbit/s") == 2_500_000_000
    assert units.parse_bits_per_s("100 Mbit/s") == 10**8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 Gbps", f"'1 Gbps' has no unit known for a link rate, did you mean 1 Gbit/s? {BIT_UNITS}"),
        ("1G", f"'1G' has no unit known for a link rate, did you mean 1 Gbit/s? {BIT_UNITS}"),
        ("1 gbit/s", f"'1 gbit/s' has no unit known for a link rate, did you mean 1 Gbit/s? {BIT_UNITS}"),
        ("1000", f"'1000' has no unit, write for instance 1 Gbit/s {BIT_UNITS}"),
        ("100 MB/s", "'100 MB/s' is in bytes, a link rate is in bits per second: did you mean 800 Mbit/s?"),
        ("0 bit/s", "a link rate must be more than 0"),
    ],
)
def test_parse_bits_per_s_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        units.parse_bits_per_s(text)


def test_parse_bytes_per_s_takes_bytes_and_bits() -> None:
    assert units.parse_bytes_per_s("100MiB/s") == 104857600
    assert units.parse_bytes_per_s("1 Gbit/s") == 125_000_000


@pytest.mark.parametrize("text", ["0 B/s", "7 bit/s"])
def test_parse_bytes_per_s_never_yields_zero_which_qemu_reads_as_unlimited(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is too little: a bandwidth must be at least 1 B/s$"):
        units.parse_bytes_per_s(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("300ms", 0.3),
        ("2 ms", 0.002),
        ("5us", 5e-6),
        ("5 µs", 5e-6),
        ("5 μs", 5e-6),
        ("1.5 h", 5400.0),
        ("0 s", 0.0),
    ],
)
def test_parse_seconds(text: str, expected: float) -> None:
    assert units.parse_seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("300", f"'300' has no unit, write for instance 300 ms {TIME_UNITS}"),
        ("10 sec", f"'10 sec' has no unit known for a duration, did you mean 10 s? {TIME_UNITS}"),
        ("1:30", f"'1:30' has no unit known for a duration {TIME_UNITS}"),
    ],
)
def test_parse_seconds_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        units.parse_seconds(text)


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1024**2 - 1, "1 MiB"),
        (1000 * 1024**2, "1000 MiB"),
        (1.5 * 2**30, "1.5 GiB"),
        (1234567890, "1.15 GiB"),
        (-2048, "-2 KiB"),
        (5 * 2**50, "5120 TiB"),
    ],
)
def test_format_bytes(size_bytes: float, expected: str) -> None:
    assert units.format_bytes(size_bytes) == expected


def test_format_rates() -> None:
    assert units.format_rate(941_234_567) == "941.2 Mbit/s"
    assert units.format_rate(10**9) == "1 Gbit/s"
    assert units.format_bytes_per_s(104857600) == "100 MiB/s"


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (0, "0 s"),
        (1e-9, "1 ns"),
        (1.234e-5, "12.34 µs"),
        (0.0123, "12.3 ms"),
        (0.99999, "1 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (7325.4, "2 h 2 min 5 s"),
        (-0.5, "-500 ms"),
        (-90, "-1 min 30 s"),
    ],
)
def test_format_duration(duration_s: float, expected: str) -> None:
    assert units.format_duration(duration_s) == expected


def test_what_is_printed_reads_back() -> None:
    """Exactly for whole numbers of a unit, and to four digits for any other."""
    random_numbers = random.Random(20240501)
    for _ in range(500):
        unit = random_numbers.choice(["B", "KiB", "MiB", "GiB", "TiB"])
        size_bytes = random_numbers.randrange(1, 1000) * units.BYTES[unit]
        assert units.parse_bytes(units.format_bytes(size_bytes)) == size_bytes
        anything = random_numbers.randrange(1024, 2**44)
        number, printed_unit = units.format_bytes(anything).split()
        assert float(number) * units.BYTES[printed_unit] == pytest.approx(anything, rel=5.1e-4)
        rate = random_numbers.randrange(1, 1000) * 10 ** random_numbers.choice([0, 3, 6, 9])
        assert units.parse_bits_per_s(units.format_rate(rate)) == rate


@pytest.mark.parametrize("known", [units.BYTES, units.BITS_PER_S, units.SECONDS])
def test_the_schema_pattern_knows_every_unit_and_no_other(known: dict[str, int]) -> None:
    pattern = re.compile(units.pattern(known))
    for unit in known:
        assert pattern.search(f"1.5 {unit}")
        assert pattern.search(f"1{unit}")
    for wrong in ("1", "1 X", "-1 s", "1 MiBs", "x 1 MiB"):
        assert not pattern.search(wrong)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0, 3, "0"),
        (999.6, 3, "1,000"),
        (123.4, 2, "123"),
        (104_857_600, 3, "104,857,600"),
        (1.04858e8, 2, "104,858,000"),
        (5218.2, 3, "5,218"),
        (16.66, 3, "16.7"),
        (99.96, 3, "100"),
        (2.0, 3, "2"),
        (0.5, 3, "0.5"),
        (0.001234, 3, "0.00123"),
        (-1234.5, 3, "-1,234"),
        (float("inf"), 3, "inf"),
    ],
)
def test_numbers_are_written_as_a_person_would(value: float, digits: int, text: str) -> None:
    assert units.format_number(value, digits) == text


@pytest.mark.parametrize("value", [10.0**power * digit for power in range(-6, 16) for digit in (1, 9.996)])
def test_no_number_has_an_exponent(value: float) -> None:
    from limosa.bench.quantity import quantity
    from limosa.results import figures

    shown = [units.format_number(value, 2), units.format_bytes(value), units.format_rate(value)]
    shown += [figures.size(value), figures.milliseconds(value), figures.seconds(value)]
    shown += [quantity(value, unit) for unit in ("bit/s", "bytes/s", "s", "share", "events/s", "")]
    assert not [text for text in shown if "e+" in text or "e-" in text or "nan" in text]
