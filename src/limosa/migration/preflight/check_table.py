"""Every check, in the order in which their findings are told; that of the turns."""

from __future__ import annotations

from limosa.migration.preflight import (
    blockers,
    clock_difference,
    cpu_model,
    emulated_switch,
    exact_memory,
    files,
    guest_address,
    launch_record,
    machine_type,
    memory_backend,
    packet_size,
    page_faults,
    planned_options,
    spanning_tree,
    target_room,
    tls_names,
    virtio_queues,
    whereabouts,
)
from limosa.migration.preflight.check import Check, When

CHECKS: tuple[Check, ...] = (
    *(whereabouts.CHECK, launch_record.CHECK),
    *(
        machine_type.CHECK,
        planned_options.CHECK,
        tls_names.CHECK,
        exact_memory.CHECK,
        target_room.CHECK,
        cpu_model.CHECK,
    ),
    emulated_switch.CHECK,
    *(blockers.CHECK, files.CHECK, packet_size.CHECK, spanning_tree.CHECK, clock_difference.CHECK),
    *(page_faults.CHECK, memory_backend.CHECK, virtio_queues.CHECK),
    guest_address.CHECK,
)


def in_turn(when: When) -> list[Check]:
    """Those whose turn it is."""
    return [check for check in CHECKS if check.when is when]
