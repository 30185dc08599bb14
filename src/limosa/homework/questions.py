"""What the course asks beside the measurements, answered shortly; and the document's own words.

Rule: nothing here depends on a run; what a run measured each bench says.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """A question of the course, its answer in paragraphs, and (text, address) of sources."""

    question: str
    paragraphs: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]


ANSWERS = (
    Answer(
        "Why is live migration needed?",
        (
            "A host has to be emptied before it can be repaired, updated or switched off, and its guests' users are"
            " not to notice. Stopping and starting a guest elsewhere loses everything that is only in its memory: open"
            " connections, sessions, caches. A live migration carries the memory over while the guest runs, and stops"
            " it only for the remainder.",
            "The same mechanism balances load between hosts, and collects the guests of half-empty hosts on fewer of"
            " them so that the rest can be switched off. It does not help when a host fails without warning: the"
            " source has to be alive to send.",
        ),
        (
            (
                "C. Clark et al., Live Migration of Virtual Machines, NSDI 2005",
                "https://www.usenix.org/conference/nsdi-05/live-migration-virtual-machines",
            ),
            ("QEMU, Migration framework", "https://www.qemu.org/docs/master/devel/migration/main.html"),
        ),
    ),
    Answer(
        "What has fault tolerance, QEMU's COLO, to do with it?",
        (
            "Fault tolerance begins where live migration ends: the host may die at any moment, and the guest must go on"
            " elsewhere with nothing lost that the outside has seen. So the migration never ends. After the first full"
            " copy, the state is carried over again and again as checkpoints, and a second guest stands by.",
            "COLO (coarse-grained lock-stepping) lets both copies run on the same incoming packets and compares what"
            " they send. As long as the answers are the same, it does not matter that the two machines differ inside,"
            " and the answer leaves at once; when they differ, a checkpoint is made first. That saves most of the"
            " checkpoints that a fixed interval (as in Remus) would make. If the first host dies, the second copy is"
            " in a state that agrees with everything the outside has seen.",
            "Limosa does not set COLO up: this handout moves guests on purpose and measures that.",
        ),
        (
            (
                "QEMU, docs/COLO-FT.txt and docs/colo-proxy.txt",
                "https://gitlab.com/qemu-project/qemu/-/tree/master/docs",
            ),
            (
                "Y. Dong et al., COLO: COarse-grained LOck-stepping virtual machines for non-stop service, SoCC 2013",
                "",
            ),
            (
                "B. Cully et al., Remus: High Availability via Asynchronous Virtual Machine Replication, NSDI 2008",
                "https://www.usenix.org/conference/nsdi-08/"
                "remus-high-availability-asynchronous-virtual-machine-replication",
            ),
        ),
    ),
    Answer(
        "Why must the disk be shared?",
        (
            "A migration of this kind sends memory and the state of devices, not the disk: the target opens the same"
            " image as the source. So both hosts must see the file at the same path, and only one QEMU may write at a"
            " time; QEMU's image locks go over with the guest. (A disk can be copied along, but then the time of the"
            " move is that of the disk.)",
        ),
        (("QEMU, Migration framework", "https://www.qemu.org/docs/master/devel/migration/main.html"),),
    ),
)

QEMU_ARGUMENTS = (
    ("-enable-kvm", "-accel", "KVM where it really runs a guest, else -accel tcg: emulation."),
    ("-cpu host", "-cpu", "A named model that both hosts have; host itself cannot be promised to another machine."),
    ("-m 1G, -smp 1", "-m, -smp", "Memory and virtual CPUs: the same on the target."),
    (
        "-drive if=virtio,format=raw,file=/mnt/nfs/alpine.img",
        "-blockdev, -device virtio-blk-pci",
        "The same disk, with the image's file, its format and the guest's device named apart.",
    ),
    (
        "-curses -nographic",
        "-display none, -chardev socket, -serial",
        "Both ask for a text screen, and the later one wins; here the console is a serial line on a socket, which can"
        " be left and joined again.",
    ),
    (
        "-netdev tap,id=tap0,ifname=tap0,script=no,downscript=no",
        "-netdev",
        "The host's end of the card is an existing TAP; QEMU runs no script to make one.",
    ),
    ("-device virtio-net-pci,netdev=tap0", "-device virtio-net-pci", "The guest's end, with a MAC that stays."),
)
"""(the document's argument, ours, what it is for and why they differ)"""

MONITOR = (
    ("migrate_set_capability events on", "migrate-set-capabilities"),
    ("migrate_set_parameter downtime-limit 300", "migrate-set-parameters"),
    ("migrate_incoming tcp:HOST:PORT (on the target)", "migrate-incoming"),
    ("migrate -d tcp:HOST:PORT", "migrate"),
    ("info migrate", "query-migrate"),
    ("info status", "query-status"),
    ("migrate_cancel", "migrate_cancel"),
    ("quit", "quit"),
)
"""(what a person types at the monitor's prompt, the QMP command that does the same)"""
