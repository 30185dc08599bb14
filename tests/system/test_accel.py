"""Proving KVM with a real QEMU and a real kernel, and the choice that follows from it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from limosa import accel
from limosa.accel import Accel, Proof
from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError
from limosa.events import Events
from limosa.guest.bare import build
from limosa.guest.bare.provision import subject as bare_subject
from limosa.guest.micro.provision import subject as linux_subject
from limosa.process import Completed
from tests.local_host import LocalHost
from tests.qemu_versions import machine_qemu
from tests.tiny_linux import TinyLinux, tiny_linux

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def linux() -> TinyLinux:
    found, why = tiny_linux()
    return found or pytest.skip(why)


@pytest.fixture(scope="module")
def qemu() -> str:
    found, why = machine_qemu()
    return found.path if found else pytest.skip(why)


@pytest.fixture
def opens() -> None:
    try:
        Path(accel.DEVICE).open("r+b", buffering=0).close()
    except OSError as error:
        pytest.skip(f"{accel.DEVICE} does not open: {error}")


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.glob("*.sock"))
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert str(tmp_path).encode() not in entry.read_bytes()


class DeviceHost(LocalHost):
    """A host whose /dev/kvm answers as the test says; everything else really runs."""

    def __init__(self, said: str) -> None:
        super().__init__("host1")
        self.said = said

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout_s: float | None = None,
    ) -> Completed:
        if f"of={accel.DEVICE}" not in argv:
            return await super().run(argv, stdin=stdin, env=env, check=check, timeout_s=timeout_s)
        self.ran.append(tuple(argv))
        return Completed(tuple(argv), int(bool(self.said)), b"", self.said.encode(), 0.0)


async def proof(linux: TinyLinux, qemu: str, folder: Path, *, how: str, limit_s: float, kernel: str = "") -> Proof:
    return await accel.prove_kvm(
        LocalHost(),
        qemu=qemu,
        subject=linux_subject(kernel or str(linux.kernel), str(linux.initrd)),
        cpu="qemu64",
        runtime_directory=str(folder),
        limit_s=limit_s,
        accel=how,
    )


async def test_kernel_that_reaches_init_is_a_proof(linux: TinyLinux, qemu: str, tmp_path: Path) -> None:
    """The method itself, tried under TCG, where the kernel is known to run."""
    shown = await proof(linux, qemu, tmp_path, how="tcg", limit_s=60)
    assert shown.works and "reached its init" in shown.reason
    assert 0.5 < shown.duration_s < 60


async def test_kernel_that_never_speaks_is_ended_in_time(linux: TinyLinux, qemu: str, tmp_path: Path) -> None:
    """A kernel too slow for its limit is what a KVM that only emulates looks like."""
    shown = await proof(linux, qemu, tmp_path, how="tcg", limit_s=0.6)
    assert not shown.works and shown.duration_s < 4
    assert "did not reach its init" in shown.reason or "printed nothing within 0.3 s" in shown.reason


async def test_this_machines_kvm_is_judged_truthfully(linux: TinyLinux, qemu: str, tmp_path: Path, opens: None) -> None:
    """Whether KVM works here is not known; that the answer comes in time and agrees with itself is."""
    shown = await proof(linux, qemu, tmp_path, how="kvm", limit_s=4)
    assert shown.duration_s < 8
    assert ("reached its init under KVM" in shown.reason) == shown.works


async def test_bare_guest_is_a_subject_too(qemu: str, tmp_path: Path) -> None:
    """It may run where no Linux does, so a guest of that image is judged by itself."""
    try:
        image = await build(tmp_path / "image", Events())
    except LimosaError as error:
        pytest.skip(f"the bare guest cannot be built: {error}")
    prove = partial(
        accel.prove_kvm,
        LocalHost(),
        qemu=qemu,
        subject=bare_subject(str(image.kernel)),
        cpu="qemu64",
        runtime_directory=str(tmp_path),
    )
    shown = await prove(limit_s=20, accel="tcg")
    assert shown.works and "the bare guest reported under TCG" in shown.reason
    if not await accel.device_refusal(LocalHost()):
        shown = await prove(limit_s=4)
        assert ("the bare guest reported under KVM" in shown.reason) == shown.works


async def test_qemu_that_ends_by_itself_says_why(linux: TinyLinux, qemu: str, tmp_path: Path) -> None:
    shown = await proof(linux, qemu, tmp_path, how="tcg", limit_s=5, kernel="/nowhere/kernel")
    assert not shown.works and "could not open kernel file" in shown.reason
    assert shown.duration_s < 3


async def test_missing_qemu_is_no_judgement_of_kvm(linux: TinyLinux, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no-such-qemu is not installed"):
        await proof(linux, "no-such-qemu", tmp_path, how="kvm", limit_s=2)


async def test_cancelled_proof_leaves_no_qemu(linux: TinyLinux, qemu: str, tmp_path: Path) -> None:
    trying = asyncio.create_task(proof(linux, qemu, tmp_path, how="tcg", limit_s=30))
    async for _ in Deadline.after(10).ticks(0.02):
        if list(tmp_path.glob("*.sock")):
            break
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying


class Trial:
    """Stands for a proof: counts how often it was asked."""

    def __init__(self, works: bool) -> None:
        self.asked, self.works = 0, works

    async def __call__(self) -> Proof:
        self.asked += 1
        return Proof(self.works, "it ran" if self.works else "it did not run", 1.0)


async def test_tcg_never_touches_the_device(tmp_path: Path) -> None:
    host, trial = LocalHost(), Trial(True)
    assert (await accel.choose(host, "tcg", trial, key="k", cache=tmp_path)).kind == "tcg"
    assert (host.ran, trial.asked, list(tmp_path.iterdir())) == ([], 0, [])


@pytest.mark.parametrize("works", [True, False])
async def test_answer_is_proved_once_and_kept(works: bool, tmp_path: Path) -> None:
    host, trial = DeviceHost(""), Trial(works)
    first = await accel.choose(host, "auto", trial, key="k", cache=tmp_path)
    assert first.kind == ("kvm" if works else "tcg") and abs(first.proved_at_s - time.time()) < 5
    assert await accel.choose(host, "auto", trial, key="k", cache=tmp_path) == first
    assert trial.asked == 1
    await accel.choose(host, "auto", trial, key="other", cache=tmp_path)
    await accel.choose(host, "auto", trial, key="k", cache=tmp_path, fresh=True)
    assert trial.asked == 3


async def test_old_refusal_is_tried_again_and_an_old_proof_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, bad, good = DeviceHost(""), Trial(False), Trial(True)
    await accel.choose(host, "auto", bad, key="bad", cache=tmp_path)
    await accel.choose(host, "auto", good, key="good", cache=tmp_path)
    later = time.time() + 8 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    await accel.choose(host, "auto", bad, key="bad", cache=tmp_path)
    await accel.choose(host, "auto", good, key="good", cache=tmp_path)
    assert (bad.asked, good.asked) == (2, 1)


async def test_damaged_cache_is_proved_again(tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text("{")
    assert (await accel.choose(DeviceHost(""), "auto", Trial(True), key="k", cache=tmp_path)).kind == "kvm"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("dd: failed to open '/dev/kvm': No such file or directory", "no /dev/kvm"),
        (
            "dd: failed to open '/dev/kvm': Permission denied",
            "/dev/kvm: permission denied (limosa doctor says what lets this user in)",
        ),
        ("dd: failed to open '/dev/kvm': No such device", "/dev/kvm does not open: No such device"),
    ],
)
async def test_device_that_does_not_open(said: str, reason: str, tmp_path: Path) -> None:
    trial = Trial(True)
    assert await accel.choose(DeviceHost(said), "auto", trial, key="k", cache=tmp_path) == Accel("tcg", reason)
    with pytest.raises(MachineError, match="does not work on host1: ") as caught:
        await accel.choose(DeviceHost(said), "kvm", trial, key="k", cache=tmp_path)
    assert reason in caught.value.message and "accel: auto" in caught.value.hint
    assert trial.asked == 0


async def test_kvm_demanded_but_not_proved(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="it did not run"):
        await accel.choose(DeviceHost(""), "kvm", Trial(False), key="k", cache=tmp_path)
    assert (await accel.choose(DeviceHost(""), "kvm", Trial(True), key="l", cache=tmp_path)).kind == "kvm"


async def test_opening_the_device_for_real() -> None:
    """The very command that asks, against a device node's three states on this machine."""
    refusal = await accel.device_refusal(LocalHost())
    try:
        Path(accel.DEVICE).open("r+b", buffering=0).close()
    except FileNotFoundError:
        assert refusal == "no /dev/kvm"
        assert not Path(accel.DEVICE).exists()
    except OSError:
        assert refusal.startswith("/dev/kvm")
    else:
        assert refusal == ""


async def test_key_depends_on_kernel_qemu_cpu_and_limit(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("a kernel")
    other.write_text("another kernel")
    host = LocalHost()
    keys = [
        await accel.proof_key(host, one, "q", cpu="c"),
        await accel.proof_key(host, other, "q", cpu="c"),
        await accel.proof_key(host, one, "r", cpu="c"),
        await accel.proof_key(host, one, "q", cpu="d"),
        await accel.proof_key(host, one, "q", cpu="c", limit_s=9),
    ]
    assert len(set(keys)) == 5
    shutil.copy(one, other)
    assert await accel.proof_key(host, other, "q", cpu="c") == keys[0]
