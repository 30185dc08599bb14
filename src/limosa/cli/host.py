"""``limosa host power-off|cut|restore``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from limosa.cli.options import HostArgument, JsonOption, LabOption

if TYPE_CHECKING:
    from limosa.lab import Lab


def _do(lab: str, host: str, state: str, as_json: bool, act: Callable[[Lab, str], Awaitable[None]]) -> None:
    from limosa.cli.face import face, run, show_result
    from limosa.hosts.kind import HostState
    from limosa.lab import Lab

    async def work() -> None:
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                await act(opened, host)

    run(work)
    if as_json:
        show_result({"host": host, "state": HostState(state)})


def power_off(host: HostArgument, lab: LabOption = "", as_json: JsonOption = False) -> None:
    """Pull the plug: everything that runs on the host ends at once."""
    _do(lab, host, "off", as_json, lambda opened, name: opened.hosts.power_off(name))


def cut(host: HostArgument, lab: LabOption = "", as_json: JsonOption = False) -> None:
    """Take the host's network links down; what runs on it goes on."""
    _do(lab, host, "cut", as_json, lambda opened, name: opened.hosts.cut(name))


def restore(host: HostArgument, lab: LabOption = "", as_json: JsonOption = False) -> None:
    """Switch the host on again and join it to the network."""
    _do(lab, host, "on", as_json, lambda opened, name: opened.hosts.restore(name))
