"""``virsh migrate --live``: no convergence logic; what there is, is one action when ``--timeout`` is over.

libvirt 11.3.0, src/qemu/qemu_migration_params.c and tools/virsh-domain.c (``virshMigrateTimeout``). What libvirt adds
beside (pause-before-switchover, so that the switch waits for a round trip through its daemon) is not reproduced.
"""

from __future__ import annotations

from limosa.migration.history import History
from limosa.migration.policies.policy import PAUSE, POST_COPY, Brief, Judgement, Policy, elapsed

_SOURCE = "libvirt 11.3.0, tools/virsh-domain.c"


def _at_timeout(seen: History, brief: Brief, done: bool) -> Judgement:
    """``--timeout-postcopy`` where post-copy is allowed, else ``--timeout-suspend``, once."""
    if done or brief.deadline_s is None or seen.now.at_s < brief.deadline_s:
        return Judgement(memory=done)
    why = f"{elapsed(seen)} are over, and the timeout is {brief.deadline_s:g} s"
    return Judgement(POST_COPY if brief.may_post_copy else PAUSE, why, memory=True)


POLICIES = (
    Policy(name="virsh", says="leaves all to QEMU: an endless migration stays endless", source=_SOURCE),
    Policy(
        name="virsh-timeout",
        says="when the deadline is over, pauses the guest, or goes over to post-copy where that is allowed",
        source=_SOURCE,
        step=_at_timeout,
        memory=False,
        post_copy="may",
        needs_deadline=True,
    ),
)
