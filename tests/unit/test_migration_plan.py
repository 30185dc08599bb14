"""What a plan says of itself."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from limosa.migration.plan import MigrationPlan, Side

PLAN = MigrationPlan(
    guest="db", method="pre-copy", source=Side(host="host1"), target=Side(host="host2"), address="10.77.1.12",
    stall_s=1, hand_over_s=1, poll_s=1,
)  # fmt: skip


def test_the_pause_that_is_allowed_is_what_somebody_asked_for() -> None:
    """QEMU may be told another one, so that it keeps to this."""
    assert PLAN.downtime_limit_s == 0.3
    told = Side(host="host1", parameters={"downtime-limit": 1710})
    assert replace(PLAN, options={"downtime-limit": 200}, source=told).downtime_limit_s == 0.2


@pytest.mark.parametrize(("parameters", "rate"), [
    ({}, 100.0),
    ({"downtime-limit": 300}, 100.0),
    ({"downtime-limit": 1710}, 570.0),  # told by 7.2's plan, where the limit is 5.7 times below what the link takes
    ({"downtime-limit": 300, "avail-switchover-bandwidth": 0}, 100.0),  # as fast as it went before
    ({"downtime-limit": 300, "avail-switchover-bandwidth": 640}, 640.0),
])  # fmt: skip
def test_a_limit_of_the_bandwidth_ends_where_the_guest_stands_still(parameters: dict[str, int], rate: float) -> None:
    plan = replace(PLAN, source=Side(host="host1", parameters=parameters))
    assert plan.hand_over_bytes_per_s(100.0) == pytest.approx(rate)


def test_no_pause_at_all_is_allowed() -> None:
    told = Side(host="host1", parameters={"downtime-limit": 0})
    assert replace(PLAN, options={"downtime-limit": 0}, source=told).hand_over_bytes_per_s(100.0) == 100.0
