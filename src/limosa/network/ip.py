"""Acting on the plans: one ``ip`` and one ``tc`` per host, whatever the number of links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, overload

import msgspec

from limosa import untrusted
from limosa.deadline import Deadline
from limosa.errors import CommandError, MachineError
from limosa.network import layout
from limosa.process import Runner
from limosa.spec import resolved

T = TypeVar("T")

UP_S = 2.0


class Link(msgspec.Struct, frozen=True):
    """As much of ``ip -json link`` as is asked for."""

    master: str = ""
    operstate: str = ""


async def apply(
    host: Runner, program: str, lines: Sequence[str], *, as_root: bool = False, all_of_them: bool = False
) -> None:
    """Run *lines* in one ``ip -batch`` or ``tc -batch``; *as_root* where the login may not be root's.

    Raises CommandError with the first line that failed. With *all_of_them* a line that fails, as the removal of what
    is gone already does, neither stops the rest nor counts.
    """
    if lines:
        argv = [program, *(["-force"] if all_of_them else []), "-batch", "-"]
        await host.run(argv, stdin="\n".join([*lines, ""]).encode(), check=not all_of_them, as_root=as_root)


async def make_fabric(client: Runner, lab: resolved.Lab) -> None:
    """The client's bridges and addresses."""
    await apply(client, "ip", layout.fabric(lab))


TCP_RETRIES = 6
"""tcp_retries2 of a lab's own hosts: a connection into a dark link ends after some 25 s (the sum of 0.2 s, doubled
six times), not after the kernel's usual 15 min. A source that stands still in one goes on then with its guest. It is
longer than a move with a command waits in silence, so that this gives up first."""

TCP_SYN_RETRIES = 3
"""A connection that is being made is given up after 15 s, not 127 s."""


async def set_patience(host: Runner) -> None:
    """Have *host*, one of the lab's own, give up connections into a link that is dark."""
    lines = f"echo {TCP_RETRIES} >tcp_retries2; echo {TCP_SYN_RETRIES} >tcp_syn_retries"
    await host.run(["sh", "-c", f"cd /proc/sys/net/ipv4 && {lines}"], check=False)


async def join(client: Runner, host: Runner, pid: int, lab: resolved.Lab) -> None:
    """Give *host* its links, bridges, TAPs and shaping. Raises MachineError where the kernel lacks something."""
    await apply(client, "ip", layout.outer_links(lab, host.name, pid))
    await apply(host, "ip", layout.host_links(lab, host.name))
    await set_patience(host)
    await _make_taps(host, lab)
    await _shape(client, layout.outer_shaping(lab, host.name))
    await _shape(host, layout.host_shaping(lab))


async def join_bridge(machine: Runner, client: Runner, pid: int, lab: resolved.Lab, network: str) -> None:
    """Join the fabric, whose first process is *pid* here, with a bridge of this machine. Raises MachineError."""
    await part_bridge(machine, lab, network)
    try:
        await apply(machine, "ip", layout.uplink(lab, network, pid), as_root=True)
    except CommandError as error:
        bridge = lab.networks[network].bridge
        raise MachineError(
            f"the network {network} could not be joined with this machine's bridge {bridge}: {error.stderr.strip()}",
            hint="it takes root; `ip link show type bridge` shows the bridges",
        ) from error
    await apply(client, "ip", layout.uplink_inside(network))
    await wait_up(client, f"{network}.up")
    await wait_up(machine, lab.networks[network].bridge)


async def wait_up(host: Runner, interface: str) -> None:
    """Until *interface* carries packets, or no longer than ``UP_S``: it may have no neighbour yet.

    The kernel may take up to a second to notice that a new link has one, and drops what is sent before.
    """
    async for _ in Deadline.after(UP_S).ticks(0.05):
        if (await shown(host, interface)).operstate in ("UP", "UNKNOWN"):
            return


async def shown(host: Runner, interface: str) -> Link:
    """One interface of *host*. Raises LimosaError's children."""
    found = answer(host, (await host.run(["ip", "-json", "link", "show", "dev", interface])).stdout, type=Link)
    if len(found) != 1:
        raise no_answer(host)
    return found[0]


@overload
def answer(host: Runner, said: bytes) -> list[dict[str, object]]: ...
@overload
def answer(host: Runner, said: bytes, *, type: type[T]) -> list[T]: ...
def answer(host: Runner, said: bytes, *, type: Any = dict[str, object]) -> list[Any]:
    """What ``ip -json`` said on *host*, which has an ``ip`` of its own, as a list of *type*. Raises MachineError."""
    try:
        found: list[Any] = untrusted.decode(said or b"[]", type=list[type])
    except msgspec.DecodeError as error:
        raise no_answer(host) from error
    return found


def no_answer(host: Runner) -> MachineError:
    """The error for an ``ip`` that says what no ``ip`` says."""
    return MachineError(f"ip on {host.name} gives an answer that is none", hint=f"on {host.name}: ip -json address")


async def part_bridge(machine: Runner, lab: resolved.Lab, network: str) -> None:
    """Remove this machine's end of what joined the fabric with its bridge, if the kernel has not done so already."""
    await apply(machine, "ip", layout.uplink_removed(lab, network), as_root=True, all_of_them=True)


async def part(client: Runner, lab: resolved.Lab, host: str) -> None:
    """Remove what is left in the fabric of the links of a *host* that has ended.

    The kernel does so by itself, but later: it clears ended network namespaces away in the background.
    """
    await apply(client, "ip", layout.outer_links_removed(lab, host), all_of_them=True)


async def _make_taps(host: Runner, lab: resolved.Lab) -> None:
    lines = layout.taps(lab)
    if not lines:
        return
    try:
        await apply(host, "ip", lines)
    except CommandError as error:
        if await opens_tun(host):
            raise
        from limosa.remedies import tun_fix

        raise MachineError("/dev/net/tun cannot be opened, so guests can have no network", hint=tun_fix()) from error


async def opens_tun(host: Runner) -> bool:
    """Whether TAPs can be made on *host*: whether /dev/net/tun opens there."""
    # The shell would make a file of that name where there is none.
    opens = "[ -c /dev/net/tun ] && exec 3<>/dev/net/tun"
    return (await host.run(["sh", "-c", opens], check=False)).returncode == 0


async def _shape(host: Runner, lines: Sequence[str]) -> None:
    try:
        await apply(host, "tc", lines)
    except CommandError as error:
        if "netem" in " ".join(lines) and "qdisc kind is unknown" in error.stderr:
            raise MachineError(
                "this kernel cannot delay packets (it has no netem)",
                hint="remove `delay` from the network, or: sudo modprobe sch_netem",
            ) from error
        raise


async def set_own_links(host: Runner, lab: resolved.Lab, state: str) -> None:
    """The same on a host that has links of its own, from inside."""
    lines = [f"link set {link} {state}" for link in dict.fromkeys(lab.hosts[host.name].links.values())]
    await apply(host, "ip", lines, as_root=True)


async def set_link(client: Runner, lab: resolved.Lab, host: str, state: str) -> None:
    """Cut *host* off (``down``) or join it again (``up``)."""
    await apply(client, "ip", layout.link_state(lab, host, state))


async def forget_silence(host: Runner) -> None:
    """Have *host* ask anew for who did not answer: else one that is joined again is "no route to host" still."""
    await apply(host, "ip", [f"neigh flush nud {state}" for state in ("incomplete", "failed")], all_of_them=True)
