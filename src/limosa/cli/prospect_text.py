"""What a move would do, in words: for ``limosa migrate --plan`` and ``limosa doctor --lab``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from limosa.migration.preflight.finding import SEVERITIES, Finding

if TYPE_CHECKING:
    from limosa.lab.prospect import Prospect
    from limosa.migration.plan import MigrationPlan, Side


def lines(prospect: Prospect) -> list[tuple[str, str]]:
    """A label and a sentence each: what would be done, then what was found, the worst first."""
    found = list[tuple[str, str]]()
    if prospect.plan is not None:
        found += _planned(prospect, prospect.plan)
    for finding in _by_severity(prospect):
        found += _told(finding)
    return found


def verdict(prospect: Prospect) -> str:
    """The last line: whether the move could begin."""
    if prospect.refusal is not None:
        return f"{prospect.guest} would not be moved to {prospect.target}"
    warned = any(finding.severity == "warning" for finding in prospect.findings)
    but = ", with what is warned of" if warned else ""
    return f"{prospect.guest} can be moved from {prospect.source} to {prospect.target}{but}; nothing was changed"


def rows(prospects: Sequence[Prospect]) -> list[tuple[str, str, str, str]]:
    """Of each move, briefly: whether it could begin, which it is, and the worst that was found."""
    found = []
    for prospect in prospects:
        told = next((each for each in _by_severity(prospect) if each.severity != "note"), None)
        mark = "ok" if told is None else {"error": "REFUSED", "warning": "warning"}[told.severity]
        found.append((mark, prospect.guest, f"{prospect.source} → {prospect.target}", told.sentence if told else ""))
    return found


def fixes(prospects: Sequence[Prospect]) -> list[tuple[str, str]]:
    """What helps against errors and warnings: the sentence and its fix, each once."""
    found = [each for prospect in prospects for each in _by_severity(prospect) if each.severity != "note" and each.fix]
    return list(dict.fromkeys((each.sentence, each.fix) for each in found))


def _by_severity(prospect: Prospect) -> list[Finding]:
    return sorted(prospect.findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _planned(prospect: Prospect, plan: MigrationPlan) -> list[tuple[str, str]]:
    found = [("plan", f"{plan.guest} from {plan.source.host} to {plan.target.host} by {plan.method}")]
    for label, side in (("source", plan.source), ("target", plan.target)):
        version = prospect.qemu.get(side.host, "")
        told = _sets(side)
        qemu = f"QEMU {version} on {side.host}" if version else f"QEMU on {side.host}"
        found.append((label, f"{qemu}, told {told}" if told else qemu))
    found.append(("stream", f"to {plan.address}"))
    return found


def _sets(side: Side) -> str:
    """What a QEMU is told that it would not do by itself."""
    from limosa.spec.migration_options import OPTIONS

    by_qmp = {name: option for option in OPTIONS.values() for name in option.qmp_names}
    told = [name for name in side.capabilities if name != "events"]  # which nobody would notice
    for name, value in side.parameters.items():
        option: Any = by_qmp.get(name)
        if option is None:
            told.append(f"{name}={value}")
        elif option.active(value):
            told.append(f"{option.name}={option.kind.shown(value)}")
    return ", ".join(told)


def _told(finding: Finding) -> list[tuple[str, str]]:
    """A finding with its fix."""
    return [(finding.severity, finding.sentence), *([("  fix", finding.fix)] if finding.fix else [])]


def as_data(prospect: Prospect) -> dict[str, Any]:
    """All of it, for JSON."""
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(prospect)
    refusal = prospect.refusal
    return found | {"could_go": refusal is None, "exit_code": refusal.exit_code if refusal else 0}
