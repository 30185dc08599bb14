"""The table of docs/policies.md, as ``limosa.migration.policies`` has it.

``python -m tests.policy_docs`` writes it between its marks; a test says when that was forgotten.
"""

from __future__ import annotations

from pathlib import Path

from limosa.migration.policies import policy_table
from limosa.migration.policies.policy import Policy

PAGE = Path(__file__).parent.parent / "docs" / "policies.md"
BEGIN, END = "<!-- policies: written by tests/policy_docs.py -->\n", "<!-- end of policies -->"
_POST_COPY = {"no": "no", "may": "where it is allowed", "must": "yes: `--post-copy ok`"}


def table() -> str:
    """A row a policy."""
    rows = [("policy", "what it does", "post-copy", "read from"), ("---",) * 4]
    rows += map(_row, policy_table.all_policies())
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(policy: Policy) -> tuple[str, str, str, str]:
    says = policy.says + (" (takes `--deadline`)" if policy.needs_deadline else "")
    return f"`{policy.name}`", says, _POST_COPY[policy.post_copy], policy.source


def written(text: str) -> str:
    """*text* with the table between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
