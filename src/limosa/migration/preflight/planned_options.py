"""Whether both QEMUs can do what the plan tells them: that is decided as it is made (``limosa.migration.choice``)."""

from __future__ import annotations

from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, note


def judge(facts: Facts) -> list[Finding]:
    """A note for each remark of a plan that could be made."""
    assert facts.plan is not None, "it was needed"
    return [note(remark) for remark in facts.plan.remarks]


CHECK = Check("options", When.BEFORE, judge, needs=("target_qemu", "plan"), vital=True)
