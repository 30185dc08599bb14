"""The table of what a migration can be told, one row an option.

From a row come the words of ``limosa migrate --set``, the keys of a lab file and their schema, what both QEMUs are
asked for, what is reset, what ``limosa explain`` says, and docs/options.md. Defaults and ranges are QEMU's own: each
was tried on 7.2.22, 10.0.2 and 11.1.3; where one takes more than another, the narrower stands here.

A bandwidth is kept by counting what went out in each 100 ms. The least that goes out is a page of 4 KiB, and since
QEMU 8.1, which counts what left its buffer, a buffer of 32 pages. Less than 10 B/s it takes for no limit at all.
Measured with 32 MiB of random bytes, sent to a socket that takes all: QEMU 7.2.22 sent 33 MiB at once under a limit of
5 B/s, 40 KiB/s under one of 100 B/s and 80 KiB/s under one of 64 KiB/s; QEMU 10.0.13 1.25 MiB/s under each of these.
"""

from __future__ import annotations

from limosa.spec.migration_options.row import TLS, Exclusion, Option
from limosa.spec.migration_options.value_kinds import (
    BytesPerSecond,
    Choice,
    MebibytesPerSecond,
    Milliseconds,
    Number,
    Percent,
    Size,
)

UNLIMITED_BYTES_PER_S = 1 << 50
"""What "no limit" is in QEMU's ``max-bandwidth``: 1 PiB/s. (Its own default is 128 MiB/s.)"""
MOST_DOWNTIME_MS = 2_000_000
"""The largest ``downtime-limit`` that QEMU takes."""
LEAST_BYTES_PER_S = 10 * 4096
"""The least ``max-bandwidth`` that any QEMU keeps."""
LEAST_BUFFERED_BYTES_PER_S = 32 * LEAST_BYTES_PER_S
"""That of one which counts buffers; every QEMU keeps it."""
WHY_MOST = "QEMU takes no more"
WHY_LEAST = "QEMU sends at least a page of 4 KiB in each 100 ms"

_AT_ONCE = {"unlimited": 0}
_RING = "dirty-ring"
_MULTIFD = {"multifd": True}
_LEVELS = "parameter multifd-qatzip-level"
"""QEMU 7.2.22 takes a level of zlib or zstd, answers that all is well, and keeps 1; 10.0.2 and 11.1.3 take it. This
came in between, and is there whatever was built in."""
_THROTTLES = {"auto-converge": True}
_XBZRLE_MULTIFD = "QEMU sends what XBZRLE encodes over one connection only (older ones take both, and spoil the memory)"
_POSTCOPY_MULTIFD = "QEMU loses the guest at the switch, or refuses (mended in 10.2)"

_BANDWIDTH_AND_PAUSE = (
    Option(
        name="downtime-limit",
        kind=Milliseconds(0, MOST_DOWNTIME_MS, WHY_MOST),
        side="source",
        default=300,
        while_moving=True,
        purpose="The pause that QEMU may plan for: it stops the guest as soon as what is left should go over in it.",
        remark="QEMU spends what it is given, even where one more pass would have made the pause shorter. With 0 QEMU "
        "before 8.1 ends after the first pass.",
    ),
    Option(
        name="max-bandwidth",
        kind=BytesPerSecond(LEAST_BYTES_PER_S, UNLIMITED_BYTES_PER_S, WHY_LEAST, {"unlimited": UNLIMITED_BYTES_PER_S}),
        side="source",
        default=128 << 20,
        ours=UNLIMITED_BYTES_PER_S,
        least_with={"capability switchover-ack": LEAST_BUFFERED_BYTES_PER_S},
        while_moving=True,
        purpose="How much may be sent while the guest still runs; once it is stopped, the rest goes as fast as it can.",
        remark="QEMU keeps it badly with multifd: under a limit of 8 MiB/s 7.2.22 sent 10 and 10.0.2 sent 18.",
    ),
    Option(
        name="avail-switchover-bandwidth",
        kind=BytesPerSecond(1, words_for={"measured": 0}),
        side="source",
        default=0,
        while_moving=True,
        purpose="How fast the rest will go once the guest is stopped, for QEMU's estimate of the pause.",
        remark="`measured`: as fast as it sent until then. For a `max-bandwidth` that is less than the link takes: "
        "without it QEMU plans the pause at that limit.",
    ),
    Option(
        name="max-postcopy-bandwidth",
        kind=BytesPerSecond(LEAST_BYTES_PER_S, because=WHY_LEAST, words_for=_AT_ONCE),
        side="source",
        default=0,
        while_moving=True,
        purpose="How much of what the guest has not asked for may be sent once it runs on the target (post-copy).",
    ),
)

_MANY_CONNECTIONS = (
    Option(
        name="multifd",
        capability=True,
        excludes=(
            Exclusion("xbzrle", _XBZRLE_MULTIFD),
            Exclusion("postcopy-ram", _POSTCOPY_MULTIFD, unless="status postcopy-device"),
        ),
        purpose="Sends memory over several connections, each with a thread of its own, which may compress it.",
    ),
    Option(
        name="multifd-channels",
        kind=Number(1, 255),
        default=2,
        turns_on=_MULTIFD,
        purpose="How many connections carry memory.",
    ),
    Option(
        name="multifd-compression",
        kind=Choice(("none", "zlib", "zstd")),
        default="none",
        turns_on=_MULTIFD,
        purpose="How memory is compressed on the way: zstd wherever the link is slower than the processor, else none.",
    ),
    Option(
        name="multifd-zlib-level",
        kind=Number(0, 9),
        side="source",
        default=1,
        turns_on={**_MULTIFD, "multifd-compression": "zlib"},
        feature=_LEVELS,
        purpose="How hard zlib tries: 1 is fast, 9 is small.",
        remark="An older QEMU takes it in silence and keeps 1.",
    ),
    Option(
        name="multifd-zstd-level",
        kind=Number(0, 20),
        side="source",
        default=1,
        turns_on={**_MULTIFD, "multifd-compression": "zstd"},
        feature=_LEVELS,
        purpose="How hard zstd tries: 1 is fast, 20 is small.",
        remark="An older QEMU takes it in silence and keeps 1.",
    ),
    Option(
        name="zero-page-detection",
        kind=Choice(("none", "legacy", "multifd")),
        default="multifd",
        alone="legacy",
        purpose="Who looks for pages that hold nothing but zeros, which need not be sent: the main thread (legacy), "
        "the threads of multifd, or nobody.",
        remark="With multifd they are told to the target apart, which only a QEMU that has this option understands.",
    ),
    Option(
        name="zero-copy-send",
        capability=True,
        side="source",
        turns_on=_MULTIFD,
        excludes=(
            Exclusion("multifd-compression", "what is compressed is a copy"),
            Exclusion(TLS, "what is encrypted is a copy"),
        ),
        purpose="The kernel sends memory from where it lies (MSG_ZEROCOPY): less work on fast links.",
        remark="The source's QEMU has to lock memory: `ulimit -l` bounds it.",
    ),
)

_LESS_TO_SEND = (
    Option(
        name="xbzrle",
        capability=True,
        purpose="Sends of a page that was sent before what changed in it; it keeps the pages sent in a cache.",
        remark="It helps guests that change little in many pages again and again.",
    ),
    Option(
        name="xbzrle-cache-size",
        kind=Size(4096, because="a page is the least", power_of_two=True),
        side="source",
        default=64 << 20,
        needs={"xbzrle": True},
        while_moving=True,
        purpose="How much memory the source may take for the pages it has sent.",
    ),
    Option(
        name="auto-converge",
        capability=True,
        side="source",
        excludes=(Exclusion("dirty-limit", "both slow the guest down, each in its own way"),),
        purpose="Slows the guest's processors down, step by step, while it writes faster than memory can be sent.",
        remark="It does nothing about a guest that writes by a timer and is idle otherwise.",
    ),
    Option(
        name="cpu-throttle-initial",
        kind=Percent(1, 99),
        side="source",
        default=20,
        needs=_THROTTLES,
        while_moving=True,
        purpose="How much of its time the guest loses at the first step.",
    ),
    Option(
        name="cpu-throttle-increment",
        kind=Percent(1, 99),
        side="source",
        default=10,
        needs=_THROTTLES,
        while_moving=True,
        purpose="How much more it loses at each further step.",
    ),
    Option(
        name="cpu-throttle-tailslow",
        side="source",
        needs=_THROTTLES,
        while_moving=True,
        purpose="Makes the last steps smaller: no more than the rates call for.",
    ),
    Option(
        name="max-cpu-throttle",
        kind=Percent(1, 99),
        side="source",
        default=99,
        not_less_than="cpu-throttle-initial",
        needs=_THROTTLES,
        while_moving=True,
        purpose="How much of its time the guest may lose at most.",
    ),
    Option(
        name="throttle-trigger-threshold",
        kind=Percent(1, 100),
        side="source",
        default=50,
        needs=_THROTTLES,
        while_moving=True,
        purpose="The share of what was sent that the guest may write anew before it is slowed down.",
    ),
    Option(
        name="dirty-limit",
        capability=True,
        side="source",
        guest_needs=_RING,
        purpose="Slows only those of the guest's processors down that write more than a limit.",
    ),
    Option(
        name="vcpu-dirty-limit",
        kind=MebibytesPerSecond(1, 1 << 20),
        side="source",
        default=1,
        needs={"dirty-limit": True},
        while_moving=True,
        purpose="How much each of the guest's processors may write.",
    ),
    Option(
        name="vcpu-dirty-limit-period",
        qmp=("x-vcpu-dirty-limit-period",),
        kind=Milliseconds(1, 1000),
        side="source",
        default=1000,
        needs={"dirty-limit": True},
        while_moving=True,
        purpose="Over how long it is measured what a processor writes.",
    ),
)

_POST_COPY = (
    Option(
        name="postcopy-ram",
        capability=True,
        turns_on={"return-path": True},
        purpose="Lets a move become a post-copy: the guest runs on the target, and what it misses follows on demand.",
    ),
    Option(
        name="postcopy-preempt",
        capability=True,
        needs={"postcopy-ram": True},
        purpose="Pages that the guest waits for go over a connection of their own, past all others.",
    ),
    Option(
        name="postcopy-blocktime",
        capability=True,
        side="target",
        needs={"postcopy-ram": True},
        purpose="Has the target measure how long the guest waited for pages.",
    ),
    Option(
        name="return-path",
        capability=True,
        purpose="The target answers over the stream: the source says `completed` only when the target has loaded all.",
        remark="QEMU's `downtime` then includes what the target takes to load the last of it.",
    ),
    Option(
        name="switchover-ack",
        capability=True,
        needs={"return-path": True},
        purpose="The source waits with the hand-over until the target's devices say that they are ready.",
    ),
)

_ANNOUNCEMENT = (
    Option(
        name="announce-initial",
        kind=Milliseconds(0, 100_000),
        side="target",
        default=50,
        while_moving=True,
        purpose="How long after its first announcement of the guest's address the target repeats it.",
    ),
    Option(
        name="announce-max",
        kind=Milliseconds(0, 100_000),
        side="target",
        default=550,
        while_moving=True,
        purpose="The longest time between two announcements.",
    ),
    Option(
        name="announce-rounds",
        kind=Number(0, 1000),
        side="target",
        default=5,
        while_moving=True,
        purpose="How often the target announces that the guest's address is with it now.",
    ),
    Option(
        name="announce-step",
        kind=Milliseconds(1, 10_000),
        side="target",
        default=100,
        while_moving=True,
        purpose="How much longer each time between two announcements is than the one before.",
    ),
)

_ROWS = (*_BANDWIDTH_AND_PAUSE, *_MANY_CONNECTIONS, *_LESS_TO_SEND, *_POST_COPY, *_ANNOUNCEMENT)
OPTIONS: dict[str, Option] = {option.name: option for option in _ROWS}
"""Every option by its name, in the order in which people read them."""
