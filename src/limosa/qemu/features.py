"""What a QEMU offers, found by asking it; no version number is ever compared.

One short-lived QEMU without a machine answers every question. The answer is kept in the cache under the binary's
identity (path, size, time of change, inode) and the machine that it runs on, so that a warm look-up starts no process:
what KVM and its CPU give is that machine's, and machines made from one image have the same binary in the same place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limosa import remembered, untrusted
from limosa.architecture import X86_64
from limosa.errors import LimosaError, MachineError
from limosa.hosts.host import Host

if TYPE_CHECKING:
    from limosa.qemu.monitor import Monitor

PROBE_LIMIT_S = 30.0
"""A probe takes 0.1 s on a quiet machine and was seen to take 0.5 s on a busy one."""

FORMAT = 5
"""Raised when Features changes, so that an older cached answer is not read."""

PROGRAM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where a name without a slash is looked for on a host that does not share this machine's files."""

QUESTIONS = (
    "query-version",
    "query-machines",
    "query-cpu-definitions",
    "query-migrate-capabilities",
    "query-kvm",
    "query-command-line-options",
    "query-qmp-schema",
)

TYPES = (
    X86_64.console,
    "memory-backend-ram",
    "rng-builtin",
    "virtio-blk-pci",
    "virtio-net-pci",
    "virtio-rng-pci",
    "virtio-serial-pci",
    "virtserialport",
)
"""The devices and objects of our command lines. Each is asked for by name: ``qom-list-types`` would load every
module of QEMU, and a single broken one (seen: a braille driver without its service) ends the process."""

MONITOR = "monitor-qmp"
"""The object that takes the place of ``-mon``, of which a QEMU that has it says that it will go."""

NEEDED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("commands", "command"): ("blockdev-add", "migrate-incoming", "migrate-set-capabilities", "migrate-set-parameters"),
    ("events", "event"): ("STOP", "RESUME", "MIGRATION"),
    ("options", "option"): ("sandbox",),
    ("migration_capabilities", "migration capability"): ("events", "pause-before-switchover"),
    ("types", "device or object"): TYPES,
}
"""What our command lines and migrations cannot do without, by the field of Features that has to hold it
and the word for one of its kind."""


WITH_ARGUMENTS = ("calc-dirty-rate",)
"""Commands that are given with other arguments where a QEMU takes those."""

_KINDS = {
    "capability": "migration_capabilities",
    "parameter": "migration_parameters",
    "status": "migration_statuses",
    "command": "commands",
    "event": "events",
    "type": "types",
}
"""The kinds of features that ``Features.has`` is asked for, and the field that has them."""


class Machine(msgspec.Struct, frozen=True):
    """A machine type. ``ram_id`` is the name under which it migrates its main memory."""

    name: str
    deprecated: bool
    cpus_max: int
    ram_id: str


class CpuModel(msgspec.Struct, frozen=True):
    """A CPU model. ``missing`` are the features it asks for that the accelerator cannot give here."""

    name: str
    migration_safe: bool
    deprecated: bool
    missing: tuple[str, ...]


class Migrations(msgspec.Struct, frozen=True, kw_only=True):
    """What one QEMU can do in migrations, as it answered. ``version`` is for labels only: nothing may be decided by
    it."""

    version: str
    migration_parameters: frozenset[str]
    migration_choices: dict[str, frozenset[str]]
    """The values that a migration parameter can have, where it is one of a set of words."""
    migration_capabilities: frozenset[str]
    migration_statuses: frozenset[str]
    """What a migration's status can be."""
    commands: frozenset[str]
    events: frozenset[str]
    arguments: dict[str, frozenset[str]] = {}
    """What the commands in WITH_ARGUMENTS take."""

    def has(self, feature: str) -> bool:
        """Whether it offers *feature*: its kind and its name, as in ``capability multifd``,
        ``parameter max-bandwidth``, ``choice multifd-compression=zstd``, ``status postcopy-device``, ``command yank``,
        ``argument calc-dirty-rate=mode`` and ``event STOP``.

        What a version made sound is asked for by a feature of any kind that came with it.
        """
        kind, _, name = feature.partition(" ")
        if kind == "choice":
            parameter, _, value = name.partition("=")
            return value in self.migration_choices.get(parameter, ())
        if kind == "argument":
            command, _, argument = name.partition("=")
            return argument in self.arguments.get(command, ())
        return name in getattr(self, _KINDS[kind])


class Features(Migrations, frozen=True, kw_only=True):
    """What one QEMU binary answered."""

    identity: str
    accel: str
    """The accelerator under which the CPU models were judged: ``tcg`` or ``kvm``."""
    kvm: bool
    """Whether KVM is built into the binary; not whether it works here."""
    json_device: bool
    """Whether ``-device`` takes JSON."""
    machines: tuple[Machine, ...]
    cpu_models: tuple[CpuModel, ...]
    options: frozenset[str]
    types: frozenset[str]
    asked_on: str = ""
    """What the machine is known by that it was asked on (``HostFacts.machine``)."""

    def machine(self, name: str) -> Machine | None:
        """The machine type of that name."""
        return next((m for m in self.machines if m.name == name), None)

    def missing(self) -> list[str]:
        """Everything Limosa needs that this QEMU lacks; empty for a QEMU that serves."""
        lacks = [
            f"the {kind} {name}"
            for (field, kind), names in NEEDED.items()
            for name in names
            if name not in getattr(self, field)
        ]
        if not self.json_device:
            lacks.append("JSON in -device")
        if not any(X86_64.machine_version(m.name) for m in self.machines):
            lacks.append(f"a versioned machine type {X86_64.firmware_machines}")
        return lacks


def local_identity(qemu: str) -> str:
    """The identity of a binary on this machine, by one ``stat`` and no process.

    Right for every host that shares this machine's file system, as namespace hosts do.
    Raises MachineError when there is no such program.
    """
    import shutil

    path = shutil.which(qemu, path=os.pathsep.join([os.environ.get("PATH", ""), *PROGRAM_FOLDERS]))
    if path is None:
        raise _not_installed(qemu, "this machine")
    seen = Path(path).stat()
    changed_ms = seen.st_mtime_ns // 1_000_000
    return f"{path} {seen.st_size} {changed_ms // 1000}.{changed_ms % 1000:03d} {seen.st_ino}"


async def host_identity(host: Host, qemu: str) -> str:
    """The identity of a binary as *host* sees it: one process there. Raises MachineError when it is not there."""
    candidates = [qemu] if "/" in qemu else [f"{folder}/{qemu}" for folder in PROGRAM_FOLDERS]
    seen = await host.run(["stat", "-L", "-c", "%n %s %.3Y %i", "--", *candidates], check=False, timeout_s=10)
    if not seen.text:
        raise _not_installed(qemu, host.name)
    return seen.text.splitlines()[0]


async def probe(
    host: Host,
    qemu: str,
    firmware: Sequence[str] = (),
    *,
    identity: str = "",
    accel: str = "tcg",
    cache: Path | None = None,
) -> Features:
    """What *qemu* on *host* offers, from the cache when the binary is the one that was asked before, and where.

    *identity* spares the process that finds it: that of ``local_identity``, for a host that is this machine. With
    ``accel="kvm"`` CPU models are judged by what KVM gives on that host. Raises MachineError when QEMU is missing, does
    not start or lacks what is needed.
    """
    asked_on = (await host.facts()).machine
    identity = identity or await host_identity(host, qemu)
    key = remembered.key(str(FORMAT), asked_on, identity, accel, *firmware)
    kept = remembered.place("qemu", key, cache)
    features = remembered.read(kept, Features)
    if features is None:
        found = await _ask(host, qemu, firmware, identity, accel)
        features = msgspec.structs.replace(found, asked_on=asked_on)
        remembered.write(kept, features)
    if lacks := features.missing():
        raise MachineError(
            f"QEMU {features.version} on {host.name} ({qemu}) lacks {', '.join(lacks)}",
            hint=f"install a newer one: {X86_64.install}",
        )
    return features


_TO_A_FILE = """
out=$(mktemp) && exec 3>"$out" 4<"$out" && rm -f -- "$out" || exit 1
exec 5>&2 2>/dev/null
(exec "$@" >&3 2>&5 3>&- 4<&- 5>&-)
said=$?
cat <&4
exit "$said"
"""
"""Have QEMU answer into a file that has no name any more. What a pipe does not take at once QEMU drops when it quits:
the schema alone is three times what a pipe holds, so a reader that is late would get a part of it. The shell's own word
on a QEMU that a signal ended is left out, as what QEMU said last is the reason."""


async def _ask(host: Host, qemu: str, firmware: Sequence[str], identity: str, accel: str) -> Features:
    argv = ["sh", "-c", _TO_A_FILE, "sh", qemu]
    argv += ["-S", "-nodefaults", "-no-user-config", "-M", "none", "-accel", accel, "-display", "none"]
    argv += [word for folder in firmware for word in ("-L", folder)] + ["-qmp", "stdio"]
    stdin = b"\n".join(msgspec.json.encode(command) for command in _commands()) + b"\n"
    done = await host.run(argv, stdin=stdin, check=False, timeout_s=PROBE_LIMIT_S)
    said = (done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
    if done.returncode != 0:
        raise MachineError(f"QEMU on {host.name} ({qemu}) does not start: {said}", hint=X86_64.install)
    answers: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            message = untrusted.decode(line)
            if isinstance(message, dict) and "return" in message:
                answers[str(message.get("id", ""))] = message["return"]
    if lacks := [name for name in QUESTIONS if name not in answers]:
        raise MachineError(
            f"QEMU on {host.name} ({qemu}) is too old: it does not answer {', '.join(lacks)}",
            hint=f"install a newer one: {X86_64.install}",
        )
    try:
        features = parse(answers, identity=identity, accel=accel)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MachineError(
            f"QEMU on {host.name} ({qemu}) gives answers that are none: {error!r:.200}", hint=X86_64.install
        ) from error
    if accel == "kvm" and not await _host_cpu_starts(host, qemu, firmware):
        models = tuple(
            msgspec.structs.replace(m, missing=("start",)) if m.name == "host" else m for m in features.cpu_models
        )
        features = msgspec.structs.replace(features, cpu_models=models)
    return features


async def _host_cpu_starts(host: Host, qemu: str, firmware: Sequence[str]) -> bool:
    """Whether a QEMU with the host's own CPU starts, which only a try tells.

    Seen: a nested KVM that refuses the CPU's IA32_ARCH_CAPABILITIES, whereupon QEMU aborts.
    """
    argv = [qemu, "-S", "-nodefaults", "-no-user-config", "-M", X86_64.machine, "-accel", "kvm"]
    argv += ["-cpu", X86_64.host_cpu]
    argv += ["-display", "none", "-m", "16", "-qmp", "stdio"] + [w for f in firmware for w in ("-L", f)]
    stdin = b'{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n'
    return (await host.run(argv, stdin=stdin, check=False, timeout_s=PROBE_LIMIT_S)).returncode == 0


def _commands() -> list[dict[str, Any]]:
    plain = [{"execute": name, "id": name} for name in ("qmp_capabilities", *QUESTIONS)]
    types = [
        {"execute": "qom-list-properties", "id": f"type {name}", "arguments": {"typename": name}}
        for name in (*TYPES, MONITOR)
    ]
    return [*plain, *types, {"execute": "quit", "id": "quit"}]


def parse(answers: Mapping[str, Any], *, identity: str, accel: str) -> Features:
    """Features from the QMP answers, by the command's name (the rest of the program sees no bare dicts)."""
    schema = answers["query-qmp-schema"]
    json_device = any(e["name"] == "device_add" and "json-cli" in e.get("features", ()) for e in schema)
    found = msgspec.structs.asdict(of_migration(answers["query-version"], schema))
    found["migration_capabilities"] = frozenset(c["capability"] for c in answers["query-migrate-capabilities"])
    return Features(
        **found,
        identity=identity,
        accel=accel,
        kvm=answers["query-kvm"]["present"],
        json_device=json_device,
        machines=tuple(sorted(map(_machine, answers["query-machines"]), key=lambda m: m.name)),
        cpu_models=tuple(sorted(map(_cpu_model, answers["query-cpu-definitions"]), key=lambda c: c.name)),
        options=frozenset(o["option"] for o in answers["query-command-line-options"]),
        types=frozenset(name for name in (*TYPES, MONITOR) if f"type {name}" in answers),
    )


async def of_running(monitor: Monitor) -> Migrations:
    """Likewise of a QEMU that runs, asked itself. Raises QmpError."""
    version, schema = await monitor.execute("query-version"), await monitor.execute("query-qmp-schema")
    return of_migration(version, schema)


def of_migration(version: Mapping[str, Any], schema: Sequence[Mapping[str, Any]]) -> Migrations:
    """What a QEMU can do in migrations, from its answers to ``query-version`` and ``query-qmp-schema``."""
    numbers, by_name = version["qemu"], {entry["name"]: entry for entry in schema}
    label = f"{numbers['major']}.{numbers['minor']}.{numbers['micro']}"

    def members(command: str, of: str) -> dict[str, Mapping[str, Any]]:
        """What *command* takes (``arg-type``) or answers (``ret-type``): each member's type, by its name."""
        told = by_name.get(by_name.get(command, {}).get(of, ""), {})
        if "element-type" in told:
            told = by_name.get(told["element-type"], {})
        return {member["name"]: by_name.get(member["type"], {}) for member in told.get("members", ())}

    parameters = members("migrate-set-parameters", "arg-type")
    return Migrations(
        version=f"{label} ({version['package']})" if version.get("package") else label,
        migration_parameters=frozenset(parameters),
        migration_choices={name: words for name, kind in parameters.items() if (words := _words(kind))},
        migration_capabilities=_words(members("query-migrate-capabilities", "ret-type").get("capability", {})),
        migration_statuses=_words(members("query-migrate", "ret-type").get("status", {})),
        commands=frozenset(e["name"] for e in schema if e["meta-type"] == "command"),
        events=frozenset(e["name"] for e in schema if e["meta-type"] == "event"),
        arguments={command: frozenset(members(command, "arg-type")) for command in WITH_ARGUMENTS},
    )


def _words(kind: Mapping[str, Any]) -> frozenset[str]:
    """The values of a type of the schema that is a set of words; of any other type none."""
    if kind.get("meta-type") != "enum":
        return frozenset()
    return frozenset(kind.get("values", ())) | {m["name"] for m in kind.get("members", ())}


def _machine(said: Mapping[str, Any]) -> Machine:
    return Machine(said["name"], said.get("deprecated", False), said["cpu-max"], said.get("default-ram-id", ""))


def _cpu_model(said: Mapping[str, Any]) -> CpuModel:
    return CpuModel(
        name=said["name"],
        migration_safe=said.get("migration-safe", False),
        deprecated=said.get("deprecated", False),
        missing=tuple(said.get("unavailable-features", ())),
    )


def _not_installed(qemu: str, where: str) -> LimosaError:
    hint = "correct the host's `qemu:` in the lab file" if "/" in qemu else X86_64.install
    return MachineError(f"QEMU ({qemu}) is not installed on {where}", hint=hint)


def common_machine(features: Mapping[str, Features], wanted: str = "") -> str:
    """The newest versioned machine type that every QEMU (by its host's name) knows.

    One that a QEMU calls deprecated is taken only where they share no other: a new QEMU says so of all that one of some
    years ago knows, and moves them all the same. A machine type's version is its own: the virtual hardware it stands
    for, so ordering by it compares hardware. *wanted* is returned when every host knows it. Raises MachineError naming
    the host that does not.
    """
    if wanted:
        for host, offers in features.items():
            if offers.machine(wanted) is None:
                raise MachineError(
                    f"QEMU {offers.version} on {host} does not know the machine type {wanted}",
                    hint="leave `machine` out of the lab file: the newest that every host knows is taken",
                )
        return wanted
    known = [{m.name for m in o.machines if X86_64.machine_version(m.name)} for o in features.values()]
    shared = set.intersection(*known) if known else set()
    kept = shared - {m.name for o in features.values() for m in o.machines if m.deprecated}
    if not shared:
        raise MachineError(
            f"the QEMUs of {', '.join(features)} share no machine type", hint="give the hosts closer versions of QEMU"
        )
    return max(kept or shared, key=X86_64.machine_version)


def common_cpu(features: Mapping[str, Features], accel: str, wanted: str = "", *, same_machine: bool = True) -> str:
    """The value for ``-cpu`` that every host can give, so that the guest's CPU is the same wherever it runs.

    *features* (by the host's name) are those probed under *accel*. With KVM, one machine and one QEMU binary, it is
    the host's own CPU less what cannot migrate; otherwise the best named model. Raises MachineError naming a host.
    """
    if wanted:
        base = wanted.split(",")[0]
        for host, offers in features.items():
            if all(c.name != base for c in offers.cpu_models):
                raise MachineError(
                    f"QEMU {offers.version} on {host} does not know the CPU model {base}",
                    hint="leave `cpu` out of the lab file: the best that every host can give is taken",
                )
        return wanted
    same_machine = same_machine and len({offers.asked_on for offers in features.values()}) == 1
    one_binary = len({offers.identity for offers in features.values()}) == 1
    host_cpu = all(m.missing == () for o in features.values() for m in o.cpu_models if m.name == "host")
    if accel == "kvm" and same_machine and one_binary and host_cpu:
        return X86_64.host_cpu
    for name in X86_64.kvm_cpus if accel == "kvm" else X86_64.tcg_cpus:
        if all(_gives(offers.cpu_models, name) for offers in features.values()):
            return name
    if accel == "kvm" and same_machine and (name := _equally_cut(features.values())):
        return name
    raise MachineError(
        f"the QEMUs of {', '.join(features)} share no CPU model that all can give under {accel}",
        hint="name one in the lab file: guests: {NAME: {cpu: MODEL}}",
    )


def _gives(models: Iterable[CpuModel], name: str) -> bool:
    return any(m.name == name and m.migration_safe and not m.missing for m in models)


def _equally_cut(features: Iterable[Features]) -> str:
    """A plain model that lacks the very same features everywhere: on one machine KVM cuts it to the same CPU.

    For a KVM that hides some features from every 64-bit model (seen: SSE3 missing under a nested KVM).
    """
    for name in X86_64.plain_cpus:
        cuts = {model.missing for offers in features for model in offers.cpu_models if model.name == name}
        if len(cuts) == 1:
            return name
    return ""
