"""Whether the guest's CPU is the same on the target: its accelerator gives all that the source's gives.

QEMU itself starts with a smaller CPU and a warning in its log; the guest then meets an instruction that is gone.
"""

from __future__ import annotations

from limosa.errors import MachineError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refuse, warn
from limosa.qemu.features import Features


def lacking(known: Features, cpu: str) -> list[str] | None:
    """The features that *cpu*, a value of ``-cpu``, asks for and this QEMU cannot give; None: no such model.

    Of a feature named beside the model it is known where any model that asks for it does not get it.
    """
    name, *words = cpu.split(",")
    model = next((model for model in known.cpu_models if model.name == name), None)
    if model is None:
        return None
    asked = [word.lstrip("+").removesuffix("=on") for word in words if word.startswith("+") or word.endswith("=on")]
    never = {feature for each in known.cpu_models for feature in each.missing}
    without = {word.lstrip("-").removesuffix("=off") for word in words if word.startswith("-") or word.endswith("=off")}
    return sorted(({*model.missing} | ({*asked} & never)) - without)


def concerns(facts: Facts) -> bool:
    """Only where the target gives less than all, or a model that is another one on another machine or QEMU."""
    if facts.target_qemu is None or facts.started is None:
        return False
    return lacking(facts.target_qemu, facts.started.cpu) != [] or not _fixed(facts.target_qemu, facts.started.cpu)


def _fixed(known: Features, cpu: str) -> bool:
    """Whether the model means the same everywhere."""
    return any(model.name == cpu.split(",")[0] and model.migration_safe for model in known.cpu_models)


def judge(facts: Facts) -> list[Finding]:
    """An error where the target gives less than the source, a warning where nobody can say."""
    source, target, started = facts.source_qemu, facts.target_qemu, facts.started
    assert target is not None and started is not None, "both were needed"
    cpu, there = started.cpu, f"QEMU {target.version} on {facts.target}"
    lacks = lacking(target, cpu)
    if lacks is None:
        fix = f"start the guest with another `cpu:`, or give {facts.target} the `qemu:` of {facts.source}"
        return [refuse(MachineError, f"{there} does not know {facts.guest}'s CPU model {cpu.split(',')[0]}", fix)]
    gives = lacking(source, cpu) if source is not None else None
    if gives is None:
        return [warn(f"whether {there} gives {facts.guest} the CPU {cpu} that it has is not known")]
    if less := [feature for feature in lacks if feature not in gives]:
        fix = "start the guest with a `cpu:` that every host gives; without one limosa chooses it"
        what = f"of {facts.guest}'s CPU {cpu} {there} cannot give {', '.join(less)} under {started.accel}"
        return [refuse(MachineError, what, fix)]
    if (
        not _fixed(target, cpu)
        and source is not None
        and (source.identity, source.asked_on) != (target.identity, target.asked_on)
    ):
        return [
            warn(
                f"{facts.guest}'s CPU model {cpu} is whatever its machine and its QEMU give: {facts.target} may give "
                f"another than {facts.source}",
                "start the guest with a named `cpu:`; without one limosa chooses it",
            )
        ]
    return []


CHECK = Check("CPU", When.BEFORE, judge, needs=("target_qemu",), concerns=concerns, vital=True)
