"""What programs on hosts and in guests say in another shape than expected ends in a sentence."""

from __future__ import annotations

from typing import Any, cast

import pytest

from limosa import process
from limosa.errors import LimosaError, MachineError
from limosa.experiment.session import SshSession
from limosa.hosts.host import Host
from limosa.network import attachment, guard, ip
from limosa.process import Completed
from limosa.spec import resolved


class Says:
    """A host on which every program says one and the same thing."""

    name = "host1"

    def __init__(self, said: bytes) -> None:
        self.said = said

    async def run(self, argv: list[str], **_: Any) -> Completed:
        return Completed(tuple(argv), 0, self.said, b"", 0.0)


@pytest.mark.parametrize(
    "said",
    [b"\xff", b"{}", b"7", b"[7]", b"[" * 100_000, b"no JSON", b'[{"ifname": "a", "addr_info": 7}]', b"9" * 5000,
     b'[{"ifname": "a", "linkinfo": [1]}]', b'[{"ifname": "a", "addr_info": [{"family": "inet"}]}]'],
)  # fmt: skip
async def test_an_ip_that_lies(said: bytes) -> None:
    with pytest.raises(MachineError, match="ip on host1 gives an answer that is none"):
        await attachment.interfaces(cast("Host", Says(said)))
    with pytest.raises(MachineError, match="ip on host1"):
        await attachment.towards(cast("Host", Says(said)), "10.0.0.1")


@pytest.mark.parametrize("said", [b"\xff", b"{}", b"7", b"[7]", b"no JSON", b"", b"[{}, {}]", b'[{"master": 7}]'])
async def test_an_ip_that_lies_of_one_interface(said: bytes) -> None:
    with pytest.raises(MachineError, match="ip on host1 gives an answer that is none"):
        await ip.wait_up(cast("Host", Says(said)), "lan.up")
    with pytest.raises(MachineError, match="ip on host1 gives an answer that is none"):
        await attachment.master(cast("Host", Says(said)), "tap0")


@pytest.mark.parametrize("said", [b"\xff", b"{}", b"7", b"[7]", b"no JSON", b"[{}]", b'[{"priority": "first"}]'])
async def test_an_ip_that_lies_of_rules(said: bytes) -> None:
    lab = resolved.Lab("lab", {"lan": resolved.Network("lan", "10.0.0.0/24", "10.0.0.9")}, {}, {}, {})
    lab.hosts["host1"] = resolved.Host("host1", addresses={"lan": "10.0.0.1"})
    told = await guard.apply(lab, [cast("Host", Says(said))], {"host1": "10.0.0.1"})
    assert told == {"host1": "ip on host1 gives an answer that is none"}


@pytest.mark.parametrize(
    "talk", ["head -c 200000 /dev/zero | tr '\\0' x; exec sleep 60", "printf '\\377\\n'; exec sleep 60"]
)
async def test_a_session_that_answers_without_end(talk: str) -> None:
    session = SshSession(await process.start(["sh", "-c", talk]))
    try:
        with pytest.raises(LimosaError, match="something else"):
            await session.exchange()
    finally:
        await session.close()
