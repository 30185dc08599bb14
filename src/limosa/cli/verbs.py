"""The table of verbs: where each is, and in a line what it does, as its own function begins (a test compares them).

So that help and a wrong verb import none of them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

Place = tuple[str, str, str]
"""Of a verb: its module in ``limosa.cli``, the function there, and what it does."""

PARTS: dict[str, dict[str, Place]] = {
    "To begin": {
        "demo": ("demo", "demo", "Build a two-host lab, boot a guest, move it there and back under load, and report "
                 "what that cost."),
        "doctor": ("doctor", "doctor", "Try everything that limosa needs of this machine, and say how to mend what is "
                   "amiss."),
    },
    "The lab": {
        "init": ("init", "init", "Write a lab file to begin with: it works as it is, and says what each line is for."),
        "check": ("check", "check", "Read a lab file: whether it is right, and what it makes; nothing is touched."),
        "up": ("up", "up", "Make the lab's hosts and start its guests; what is there already is kept, what died is "
               "made again."),
        "down": ("down", "down", "End everything the lab runs, prove that nothing is left, and delete its disks."),
        "ls": ("ls", "ls", "List all labs: which is up and which down, where each came from, since when."),
        "status": ("status", "status", "Say which hosts are on and what each guest does where."),
        "logs": ("logs", "logs", "Show what guests printed on their consoles, and what QEMU and the hosts said."),
        "host power-off": ("host", "power_off", "Pull the plug: everything that runs on the host ends at once."),
        "host cut": ("host", "cut", "Take the host's network links down; what runs on it goes on."),
        "host restore": ("host", "restore", "Switch the host on again and join it to the network."),
        "exec": ("inside", "execute", "Run a command on a host (or on `client`), as: limosa exec host1 -- ip addr."),
        "schema": ("schema", "schema", "Print the JSON schema of a lab file, for editors."),
    },
    "Guests": {
        "start": ("start", "start", "Start a guest on its host."),
        "stop": ("stop", "stop", "Shut a guest down."),
        "migrate": ("migrate", "migrate", "Move a running guest to another host."),
        "predict": ("predict", "predict", "Say beforehand what moving a guest would take by each way: whether it "
                    "completes, how long, what users notice."),
        "policy": ("policy", "list_policies", "List the policies that can steer a migration: what each does, and "
                   "whose it is."),
        "policy replay": ("policy", "replay", "Have every policy steer a recorded migration again: who would have done "
                          "what, and when."),
        "watch": ("watch", "watch", "Watch a migration that another command makes, until it is over. QEMU is not asked "
                  "anything."),
        "switch": ("switch", "switch", "Have a migration that is under way become post-copy now: the guest goes on at "
                   "the target, its memory follows."),
        "recover": ("recover", "recover", "Go on with a post-copy whose command has ended, and wait for its link while "
                    "that is cut."),
        "console": ("console", "console", "Attach the terminal to a guest's serial console, also across migrations."),
        "screen": ("screen", "screen", "Show a guest's screen in the terminal and type on its keyboard, also across "
                   "migrations."),
        "ssh": ("inside", "ssh", "Log in to a guest as root, by the lab's own key."),
        "image install": ("image_install", "install", "Install a system from its own installer on a text console, "
                          "unattended; the image boots by itself."),
        "image build": ("image_build", "build", "Build a whole Debian on a disk that boots by itself, with BIOS and "
                        "UEFI, without being root."),
        "image list": ("image_list", "list_images", "List what is kept: what it is, how much room it takes, how old it "
                       "is, which labs use it."),
        "image show": ("image_list", "show", "Show all that is known of an image: where it is from, its checksum, how "
                       "it was made, how to log in."),
        "image remove": ("image_list", "remove", "Remove images."),
    },
    "Measurements": {
        "calibrate": ("calibrate", "calibrate", "Pause a guest for 5, 20, 100 and 500 ms and show the error of each "
                      "clock."),
        "bench cpu": ("bench", "cpu", "Run the same prime search on the host, in a guest with KVM and in a guest "
                      "without."),
        "bench network": ("bench", "network", "Throughput, loss, jitter and round trips between a client and a guest, "
                          "for each network card."),
        "bench disk": ("bench", "disk", "Random and sequential reads and writes of a guest, for each bus and each "
                       "cache mode."),
        "bench during-migration": ("bench_during", "during_migration", "Measure CPU, throughput and round trips "
                                   "before, during and after a live migration."),
        "homework": ("homework", "homework", "Run the whole course recipe, from two hosts to the benches, and write "
                     "the model answer as HTML and PDF."),
        "runs": ("runs", "list_runs", "List what was measured, the newest first."),
        "runs show": ("runs", "show", "Show what a run found: its figures, how it ended, where it is."),
        "runs open": ("runs", "open_report", "Open a run's report in the browser; it is made if there is none."),
        "runs prune": ("runs", "prune", "Remove old runs; one that is being written stays."),
        "report": ("report", "report", "Make a run's report again, from its raw data."),
        "explain": ("explain", "explain", "Explain a guest's real command line, a migration's QMP commands "
                    "(--migration), or a bench's figures (--bench)."),
    },
}  # fmt: skip

GROUPS = {
    "host": "Do to a host what can happen to a machine.",
    "image": "Images of guests: install, build, list, show, remove.",
    "bench": "Measure what virtualisation costs: CPU, network, disk, and all of it during a migration.",
}
"""Words with verbs of their own behind them."""

VERBS = {verb: place for part in PARTS.values() for verb, place in part.items()}

ROOT_OPTIONS = {
    "--version": "Print the version.",
    "--install-completion": "Install completion for the shell that limosa is called from, or for the one named.",
    "--show-completion": "Print what completes for that shell, to look at it or to put it elsewhere.",
}


def children(path: str) -> dict[str, str]:
    """The words that may follow *path*, each with what it does."""
    before = f"{path} " if path else ""
    found: dict[str, str] = {}
    for verb in VERBS:
        if verb.startswith(before):
            word = verb.removeprefix(before).split(" ")[0]
            found[word] = VERBS[before + word][2] if before + word in VERBS else GROUPS[word]
    return found


def ends(path: str, rest: Sequence[str]) -> bool:
    """Whether *path* is the verb that is meant, before *rest*: one that has verbs behind it is, when none is named."""
    return path in VERBS and not (children(path) and rest and not rest[0].startswith("-"))
