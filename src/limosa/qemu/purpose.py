"""What each argument of our command lines and each QMP command of our migrations is for, one sentence each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping

from limosa.events import Event, QmpExchanged
from limosa.qemu.argv import Argument
from limosa.spec.migration_options import OPTIONS

ARGUMENTS = {
    "name": "Names the guest and its threads, so that ps and top show which guest and which virtual CPU is at work.",
    "uuid": "The guest's identity in its firmware tables, derived from the names of lab and guest: "
    "it is the same on every host, and a move does not change it.",
    "nodefaults": "Leaves out every device that QEMU would add by itself: what is not written here does not exist, "
    "so source and target cannot differ by a default.",
    "no-user-config": "Ignores configuration files on the host, which could make one host's guest unlike another's.",
    "display": "QEMU opens no window: the console is the serial line, and a screen, where there is one, is looked at "
    "through a monitor.",
    "sandbox": "Lets the kernel refuse system calls that a running QEMU never needs: becoming another user, starting "
    "programs, changing priorities. A guest that breaks out of QEMU finds little there.",
    "msg": "Puts the time in front of each of QEMU's messages, so that its log can be laid beside the events.",
    "pidfile": "Where QEMU writes its process id and holds a lock: a later command finds the process again, "
    "and a second QEMU cannot start in the same place.",
    "launch": "A device that does nothing: it bears the id of this launch, on record before QEMU started, so that a "
    "command can never end another process than the one that is meant.",
    "firmware": "A folder to look for firmware in, for a QEMU that is not installed in the usual place.",
    "machine": "The virtual mainboard by its versioned name, so that another QEMU builds the very same one. Left out: "
    "HPET (its model changed between QEMU versions, and each reading of it is slow), system management mode, "
    "SATA, SMBus and the VMware port, which nothing here uses: less to emulate, less state to move.",
    "machine-sata": "The virtual mainboard by its versioned name, so that another QEMU builds the very same one, with "
    "its SATA controller. Left out: HPET, system management mode, SMBus and the VMware port, which nothing here uses.",
    "accel-kvm": "The host's processor runs the guest's instructions itself, through KVM.",
    "accel-tcg": "QEMU translates the guest's instructions, one thread a virtual CPU: it works everywhere, "
    "much slower than KVM.",
    "cpu": "A named CPU model that the QEMUs of all hosts give in full: the guest must find the same "
    "instructions after the move.",
    "cpu-host": "The host's own CPU less what cannot be moved; only where all hosts share one machine and one QEMU.",
    "smp": "How many virtual CPUs, and that they are cores of one socket; written out, because defaults have changed.",
    "memory": "The size of the guest's memory, in KiB. Where QEMU emulates, it may be 8 KiB more than the lab file "
    "says: there are QEMUs that lose writes when they move a guest whose memory is a multiple of 256 KiB.",
    "memory-backend": "The guest's memory, under the name that the machine type itself would give it (memory is moved "
    "by name). It is not merged with equal pages of other guests, which would falsify what is measured, and is left "
    "out of core dumps.",
    "rtc": "The battery clock shows UTC and follows the host's clock. The guest's running clock stands still during a "
    "blackout and this one does not, so the difference is what the guest lost, and the guest can set itself right.",
    "control-socket": "The socket of the first monitor, which gives orders; QEMU does not wait for a listener.",
    "control-monitor": "The first monitor speaks QMP: every command of a migration goes through it.",
    "observe-socket": "The socket of the second monitor, which only looks.",
    "observe-monitor": "The second monitor: somebody who watches the guest never makes the first one wait.",
    "console-socket": "The serial console as a socket; all that the guest prints is appended to the log, "
    "whether somebody is connected or not.",
    "console": "The serial port that the guest sees as ttyS0: it needs no driver, so it speaks from the first moment.",
    "video": "A VGA card, for a guest that shows something before its own drivers run, or on a screen only. Its 16 MiB "
    "of memory move with the guest. Fixed place, and a fixed size for its BIOS, which differs between packages.",
    "screen-socket": "The socket of the third monitor, which serves limosa screen.",
    "screen-monitor": "The third monitor: pictures of the screen and keys; whoever looks there is in nobody's way.",
    "agent-bus": "A virtio controller for channels between host and guest that need no network.",
    "agent-socket": "The host's end of the channel to the agent in the guest.",
    "agent": "The channel to the agent, found in the guest by its name.",
    "rng-source": "Random numbers from the host's kernel.",
    "rng": "A random number generator in the guest: without it, SSH would wait for entropy after the start.",
    "netdev": "The host's end of the network card: a TAP interface that is a port of the host's bridge. QEMU runs no "
    "script for it, and handles the packets itself (vhost-net would need a kernel module and a second owner).",
    "net": "The network card, with a fixed address on the PCI bus and a fixed MAC, so that network and guest see "
    "the same card after a move. It has no boot ROM, whose size could differ between two hosts' firmware packages.",
    "netdev-vhost": "The host's end of the network card: a TAP interface that is a port of the host's bridge. The "
    "host's kernel handles the packets (vhost-net), so that they need not pass through QEMU.",
    "net-e1000": "An emulated Intel 82540EM, a card of 2002: every descriptor and interrupt costs the guest a trap, "
    "which virtio saves. Fixed address and MAC, no boot ROM.",
    "net-rtl8139": "An emulated Realtek 8139C+, a 100 Mbit/s card: simple, and slow to emulate. Fixed address and MAC, "
    "no boot ROM.",
    "disk-file-direct": "The image file, locked while this QEMU may write it, read and written past the host's page "
    "cache (O_DIRECT): what is measured is the device, not the host's memory.",
    "scsi": "A virtio controller for SCSI disks: one more layer than virtio-blk, many disks on one PCI slot.",
    "disk-scsi": "The root disk on that controller.",
    "disk-sata": "The root disk on the AHCI controller of the mainboard, as real machines have it; each command is "
    "emulated register by register.",
    "disk-file": "The image file, locked while this QEMU may write it: the locks move with the guest, and a second "
    "QEMU that wants to write is refused. Flushes reach the disk; freed blocks are given back.",
    "disk-raw": "The image is raw: block n of the disk is block n of the file.",
    "disk-qcow2": "The image is in QEMU's qcow2 format: it grows as it is filled. No other file stands behind it, "
    "whatever is written in its header.",
    "disk-base": "What the disk is laid over: the image as it was installed or published, which is only read, so that "
    "many guests share it. It is named here, so that QEMU need not believe what is written in a file.",
    "disk-overlay": "The guest's own part of the disk, in QEMU's qcow2 format: all that it has written since it was "
    "first started. What it never wrote is read from the base.",
    "seed-file": "A small read-only disk that was made for this guest.",
    "seed": "From it cloud-init learns the guest's name, address and keys at the first boot (its data source NoCloud).",
    "firmware-code": "UEFI's program (OVMF), as the flash chip of a mainboard; it is only read.",
    "firmware-vars": "UEFI's settings, boot entries above all: the guest's own copy, which moves with it.",
    "disk": "The disk that the guest sees as /dev/vda, at a fixed place. It is served by QEMU's main loop: a thread "
    "of its own would compete with the virtual CPUs on small hosts, and has to be stopped at each hand-over.",
    "bios": "QEMU's own minimal firmware: it does nothing but start the kernel, so the guest is there at once.",
    "kernel": "The kernel is started directly, without a boot loader: that saves seconds under emulation.",
    "initrd": "The initial file system that the kernel unpacks into memory.",
    "append": "What the kernel, and the programs that it starts, are told.",
    "boot": "Boot from what is named here or stop with an error, without showing a menu.",
    "incoming": "This QEMU is the target: it does not start the guest, but waits for migrate-incoming, so that "
    "capabilities can be set first.",
}

QMP = {
    "qmp_capabilities": "Ends the greeting: from here on the monitor takes commands.",
    "query-status": "Asks whether the virtual CPUs run, and if not, why; the answers of both ends decide who keeps "
    "the guest.",
    "migrate-set-capabilities": "Switches on how to migrate (progress events, multifd, post-copy); both ends agree "
    "before the stream begins.",
    "migrate-set-parameters": "Tells QEMU all that it can be told, so that nothing stays set from an earlier move.",
    "migrate-incoming": "Tells the target to listen; it answers with the address, so the port is free for certain.",
    "query-migrate": "Asks how the move goes: what remains, how fast memory changes, how fast it is sent.",
    "migrate": "Starts the move on the source: memory is sent while the guest runs on.",
    "migrate_cancel": "Gives the move up: the guest runs on where it is.",
    "migrate-continue": "Lets a source that waits before the hand-over go on.",
    "migrate-start-postcopy": "Moves the guest at once: what memory is missing follows on demand.",
    "migrate-pause": "Interrupts a post-copy stream whose link has failed, so that it can be taken up again.",
    "migrate-recover": "Tells the target of an interrupted post-copy to listen again.",
    "announce-self": "Sends the guest's MAC into the network once more, so that switches learn the new place.",
    "cont": "Lets the virtual CPUs run.",
    "stop": "Halts the virtual CPUs.",
    "quit": "Ends this QEMU: on the source after the hand-over, on the target after a failure.",
    "query-version": "Asks for the version, to label results with.",
    "query-machines": "Asks which machine types this QEMU can build.",
    "query-cpu-definitions": "Asks which CPU models this QEMU knows, and what each would lack here.",
    "query-migrate-capabilities": "Asks which ways of migrating this QEMU knows.",
    "query-migrate-parameters": "Asks for the limits as they are set.",
    "screendump": "Writes what the screen shows into a file.",
    "pmemsave": "Writes a part of the guest's memory into a file: the font in its VGA BIOS.",
    "send-key": "Presses keys on the guest's keyboard.",
    "query-block": "Asks which disks are open, and whether this QEMU may write them.",
}

WORDS = {
    "console=ttyS0": "sends its messages to the serial port",
    "root=/dev/vda": "names the disk that it lives on",
    "rw": "mounts that disk for writing at once",
    "quiet": "leaves out the messages of a good start, each of which costs time on a serial line",
    "panic=1": "starts anew a second after it gave up, so that a broken guest does not look like a silent one",
    "mitigations=off": "leaves out costly defences between programs: the guest runs its owner's alone",
    "no_timer_check": "leaves out a check of the timer that can fail on a busy host",
    "tsc=reliable": "believes the processor's clock, so that every start measures time by the same one",
    "nokaslr": "gives it the same layout in each start",
    "cryptomgr.notests": "leaves out self-tests of ciphers, the largest single cost of the start",
    "random.trust_cpu=on": "takes randomness from the processor, so that nothing waits for it",
    "audit=0": "records no system calls",
    "apparmor=0": "leaves out an access control that has no rules here",
    "net.ifnames=0": "calls the network card eth0",
    "mode=": "is the guest's work: writing memory, or counting primes",
    "memory_mib=": "is its working set in MiB",
    "lines=": "is how many of a page's 64 cache lines it writes",
    "report=": "is the number of passes or events between two reports",
    "limit=": "is how far one event counts primes",
}
"""The words of our kernels' command lines; a word that ends with ``=`` stands for all its values."""

STATES = {
    "setup": "The move begins: the two ends connect.",
    "active": "Memory is being sent while the guest runs on.",
    "device": "The guest stands still; what is left of its memory, and the state of its devices, follows.",
    "pre-switchover": "The guest stands still, and the move waits for leave to hand over.",
    "postcopy-active": "The guest runs on the target; memory that it misses follows on demand.",
    "postcopy-paused": "The link failed while memory was missing: the guest waits for it.",
    "completed": "This end has done its part of the move.",
    "failed": "This end has given the move up.",
    "cancelling": "The move is being given up because somebody asked for it.",
    "cancelled": "The move was given up because somebody asked for it.",
}
"""What each state means of which the event MIGRATION tells."""

EVENTS = {
    "MIGRATION": "The move has entered a new state; seen on both ends.",
    "MIGRATION_PASS": "The source begins another pass over memory that changed meanwhile.",
    "STOP": "The virtual CPUs of the source stand still: the blackout begins.",
    "RESUME": "The virtual CPUs run: on the target, the blackout ends.",
    "SHUTDOWN": "This QEMU is about to end.",
    "RESET": "The guest started anew.",
    "VSERPORT_CHANGE": "The agent in the guest opened or closed its channel.",
    "NIC_RX_FILTER_CHANGED": "The guest changed what its network card listens to.",
    "RTC_CHANGE": "The guest set its battery clock.",
    "GUEST_PANICKED": "The guest's kernel gave up.",
    "BLOCK_IO_ERROR": "The disk image could not be read or written.",
    "UNPLUG_PRIMARY": "A network card that cannot be moved is taken out before the move.",
    "JOB_STATUS_CHANGE": "A background task on a disk has entered a new state.",
}


_OPTIONS = {name: option for option in OPTIONS.values() for name in option.qmp_names}
"""The options of migrations by QEMU's names: their purpose is what they are told for."""


def explain(arguments: Iterable[Argument]) -> list[tuple[str, str]]:
    """Each option as it is typed into a terminal, with the sentence that says what it is for."""
    return [(shlex.join([a.option, a.value] if a.value else [a.option]), _sentence(a)) for a in arguments]


def _sentence(argument: Argument) -> str:
    if argument.purpose != "append":
        return ARGUMENTS[argument.purpose]
    said = [f"{word} {WORDS[key]}" for word in argument.value.split() if (key := _known_word(word))]
    return f"{ARGUMENTS['append']} {'; '.join(said)}." if said else ARGUMENTS["append"]


def _known_word(word: str) -> str:
    """The key of *word* in ``WORDS``: the whole word, else its name with ``=``; empty when it is not there."""
    return next((key for key in (word, f"{word.partition('=')[0]}=") if key in WORDS), "")


def of_command(command: str, arguments: Mapping[str, object]) -> str:
    """What a QMP command is for; of what a migration is told, what each thing is for that is not as QEMU has it by
    itself."""
    said = QMP.get(command, "")
    if command == "migrate-set-parameters":
        told = [_OPTIONS[name].purpose for name, value in arguments.items() if _tells(name, value)]
    elif command == "migrate-set-capabilities":
        states = arguments.get("capabilities")
        on = [each.get("capability") for each in states if each.get("state")] if isinstance(states, list) else []
        told = [_OPTIONS[name].purpose for name in on if name in _OPTIONS]
    else:
        told = []
    return " ".join([said, *told])


def _tells(name: str, value: object) -> bool:
    return name in _OPTIONS and _OPTIONS[name].default != value


def explain_exchanges(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Each QMP command and event of a recorded migration, in order and with its host, with its sentence.

    What is asked over and over (``query-status`` while waiting) is told once.
    """
    told: list[tuple[str, str]] = []
    for event in events:
        if not isinstance(event, QmpExchanged) or event.command == "qmp_capabilities":
            continue
        if event.command:
            arguments = {"arguments": event.arguments} if event.arguments else {}
            text = f"{event.host}  {json.dumps({'execute': event.command, **arguments})}"
            pair = (text, of_command(event.command, event.arguments))
        else:
            data = f" {json.dumps(event.data)}" if event.data else ""
            pair = (f"{event.host}  event {event.qmp_event}{data}", _of_event(event))
        if pair not in told[-4:] or not event.command.startswith("query-"):
            told.append(pair)
    return told


def _of_event(event: QmpExchanged) -> str:
    if event.qmp_event == "MIGRATION" and (said := STATES.get(str(event.data.get("status")))):
        return said
    return EVENTS.get(event.qmp_event, "")
