"""A homework on a lab of one's own: which guest moves, how long it is said to take, and what its pages say of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from limosa import process, spec
from limosa.bench.benches import chapters
from limosa.bench.entry import fitted
from limosa.capabilities import Finding
from limosa.errors import LimosaError, MachineError, SpecError
from limosa.experiment.route import route
from limosa.homework import Homework, PartResult, expected, handout, own_lab, steps
from limosa.lab.fitness import Examined
from limosa.results import store
from limosa.results.store import RunDirectory
from limosa.spec import resolved
from tests import run_sample

OWN = """
name: mine
hosts: {left: {}, right: {}, third: {}}
guests:
  tiny: {image: bare, host: left}
  web: {host: right, memory: 256 MiB}
"""
CONTAINERS = """
name: course
networks: {lan: {subnet: 10.83.0.0/24, bridge: incusbr0, client: 10.83.0.1}}
storage: {nfs: {kind: volume, pool: default, volume: nfs, mount: /mnt/nfs}}
hosts:
  a: {kind: incus, image: "images:alpine/3.23"}
  b: {kind: incus, adopt: b}
guests: {vm: {host: a, network: lan, address: 10.83.0.100, image: my-alpine}}
"""


def test_the_first_guest_with_a_system_moves() -> None:
    found = route(spec.loads(OWN), "it")
    assert (found.guest.name, found.back, found.there) == ("web", "right", "left")


@pytest.mark.parametrize(
    "text",
    [
        "hosts: {only: {}}\nguests: {web: {host: only}}\n",
        "hosts: {left: {}, right: {}}\nguests: {tiny: {image: bare, host: left}}\n",
        "hosts: {left: {}, right: {}}\n",
    ],
)
def test_a_lab_that_it_cannot_be_done_on(text: str) -> None:
    with pytest.raises(SpecError, match="the homework needs two hosts and a guest with an operating system"):
        route(spec.loads(f"name: mine\n{text}"), "the homework")


def test_how_long_it_takes_is_a_range_that_holds_what_was_seen() -> None:
    """Seen on two cores without KVM: `limosa homework --quick` took 213 s."""
    guest = spec.loads(OWN).guests["web"]
    quick = expected.range_s(chapters().values(), guest, quick=True)
    whole = expected.range_s(chapters().values(), guest, quick=False)
    assert quick[0] < 213 < quick[1]
    assert whole[0] > 3 * quick[0] and whole[1] > quick[1]
    installed = spec.loads(CONTAINERS).guests["vm"]
    assert expected.range_s(chapters().values(), installed, quick=True)[1] > quick[1]
    assert re.fullmatch(r"some \d+ to \d+ minutes", expected.told(quick))
    assert expected.told((20.0, 61.0)) == "some 1 to 2 minutes"


class FakeLab:
    """What is asked of a lab here; its hosts have these *findings*."""

    def __init__(self, lab: resolved.Lab, findings: list[Finding] | None = None) -> None:
        self.spec, self._findings = lab, findings or []
        self.guests = SimpleNamespace(ssh=lambda guest, argv: ["ssh", guest, *argv])
        self.guest = lab.guests.__getitem__
        self.hosts = SimpleNamespace(examine=self._examine)

    async def _examine(self) -> list[Examined]:
        return [Examined("a", "incus", self._findings)]


PROGRAMS = ("sysbench", "iperf3")


async def missing(monkeypatch: pytest.MonkeyPatch, text: str, guest: str, said: bytes | LimosaError) -> list[str]:
    async def run(argv: list[str], **_: object) -> process.Completed:
        if isinstance(said, LimosaError):
            raise said
        return process.Completed(tuple(argv), 0, said, b"", 0.1)

    monkeypatch.setattr(process, "run", run)
    lab: Any = FakeLab(spec.loads(text))
    return await own_lab.missing(lab, guest, PROGRAMS)


async def test_a_built_guest_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await missing(monkeypatch, OWN, "web", LimosaError("it is not asked")) == []


@pytest.mark.parametrize(
    ("said", "lacking", "loads"),
    [
        (b"/usr/bin/sysbench\n/usr/bin/iperf3\n", [], []),
        (b"/usr/bin/iperf3\n", ["sysbench"], ["receive", "latency"]),
        (b"", ["sysbench", "iperf3"], ["latency"]),
        (LimosaError("nobody may log in"), ["sysbench", "iperf3"], ["latency"]),
    ],
)
async def test_an_installed_guest_is_asked(
    monkeypatch: pytest.MonkeyPatch, said: bytes | LimosaError, lacking: list[str], loads: list[str]
) -> None:
    assert await missing(monkeypatch, CONTAINERS, "vm", said) == lacking
    own = chapters()["during"].own_lab
    assert own is not None
    assert [word for word in fitted(own, 1 << 30, lacking) if word != "--load"] == loads
    assert fitted(own, 256 << 20, []) == ("--memory", "128 MiB")
    assert fitted(own, 192 << 20, []) == ("--memory", "80 MiB"), "the system of a small guest takes more than half"
    assert own_lab.note("vm", ["sysbench", "iperf3"]).startswith("vm has no sysbench and iperf3:")


async def test_what_a_host_lacks_is_said_before_anything_is_made() -> None:
    lacking = Finding("QEMU", False, "qemu-system-x86_64 is not there", "on a: apk add qemu-system-x86_64")
    optional = Finding("KVM", False, "cannot be opened", "", False)
    lab: Any = FakeLab(spec.loads(CONTAINERS), [optional, lacking])
    with pytest.raises(MachineError, match="a: QEMU: qemu-system-x86_64 is not there") as caught:
        await own_lab.require_ready(lab)
    assert caught.value.hint == "on a: apk add qemu-system-x86_64"
    await own_lab.require_ready(FakeLab(spec.loads(CONTAINERS), [optional]))  # type: ignore[arg-type]
    await own_lab.require_ready(FakeLab(spec.loads(OWN), [lacking]))  # type: ignore[arg-type]


def test_the_steps_are_those_of_the_lab() -> None:
    lab = spec.loads(CONTAINERS)
    told = " ".join(" ".join(step) for step in steps.steps(lab, lab.guests["vm"]))
    launched, volume = "incus: launch images:alpine/3.23 NAME", "the volume nfs of the pool default"
    for wanted in (launched, volume, "an existing container", "at /mnt/nfs", "limosa image install"):
        assert wanted in told
    assert "unshare" not in told
    assert "installed disk starts" in steps.boot(lab.guests["vm"])[2]
    ours = spec.loads(OWN)
    told = " ".join(" ".join(step) for step in steps.steps(ours, ours.guests["web"]))
    assert told.count("unshare --net") == 1 and "packages" in told
    assert "kernel starts" in steps.boot(ours.guests["web"])[2]


def test_the_page_is_of_that_lab(tmp_path: Path) -> None:
    run = RunDirectory.open(run_sample.demo(tmp_path / "run"))
    run.write(store.SPEC, spec.loads(CONTAINERS))
    run.write(store.RUN, replace(run.read(store.RUN), guest="vm"))
    note = "vm has no sysbench: what it measures is left out."
    parts = [PartResult(name="lab", title="Two hosts", run=str(run.path))]
    html = handout.page(run, Homework(quick=True, lab="/home/me/course.yaml", notes=[note], parts=parts))
    assert note in html and "The lab is that of course.yaml." in html and "images:alpine/3.23" in html
