"""The findings of doctor: quick, complete, and with the fix that fits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from limosa import capabilities, paths, remembered, requirements
from limosa.cli import doctor
from limosa.errors import LimosaError
from limosa.requirements import DEBIAN, IMAGE, LAB, REQUIREMENTS


async def test_examine_names_every_program_and_is_quick() -> None:
    started = time.monotonic()
    findings = await capabilities.examine()
    assert time.monotonic() - started < 5  # a second on an idle machine
    names = [finding.name for finding in findings]
    assert len(names) == len(set(names))
    assert set(REQUIREMENTS) <= set(names)
    assert [f.required for f in findings] == sorted((f.required for f in findings), reverse=True)


async def test_failed_check_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken_thing() -> capabilities.Finding:
        raise LimosaError("it broke", hint="mend it")

    found = await capabilities._settle(broken_thing)
    assert found == capabilities.Finding("broken thing", False, "it broke", "mend it")


async def test_namespace_trial_reports_what_the_kernel_said() -> None:
    said = await capabilities._in_namespaces("ip link add v0 type no-such-kind", "--net")
    assert said
    assert said != "exit status 0"


async def test_disk_space_is_looked_for_where_limosa_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cache", "state"):
        monkeypatch.setattr(paths, name, lambda: tmp_path / "not" / "yet")
    monkeypatch.setattr(capabilities, "DISK_NEEDED_BYTES", 1)
    assert (await capabilities._disk()).ok
    monkeypatch.setattr(capabilities, "DISK_NEEDED_BYTES", 2**70)
    finding = await capabilities._disk()
    assert not finding.ok
    assert "make room" in finding.fix


async def test_memory_has_a_fix_only_when_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "MEMORY_NEEDED_BYTES", 1)
    assert (await capabilities._memory()).fix == ""
    monkeypatch.setattr(capabilities, "MEMORY_NEEDED_BYTES", 2**70)
    assert "needed for the demo" in (await capabilities._memory()).fix


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has the programs which labs need, and no other that limosa asks for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in (*LAB, "sh", "true", "apt-get", "id", "stat", "grep"):
        if real := requirements.find(program):
            (folder / program).symlink_to(real)
    (folder / "apt-get").unlink(missing_ok=True)
    base = {**requirements.process.base_environment(), "PATH": str(folder)}
    monkeypatch.setattr(requirements.process, "base_environment", lambda *_: base)
    return folder


async def test_what_only_images_need_leaves_a_machine_ready(bare_machine: Path) -> None:
    findings = {finding.name: finding for finding in await capabilities.examine()}
    for name in {*IMAGE, *DEBIAN} - {*LAB, requirements.DEBIAN_KEYRING}:
        assert not findings[name].ok and not findings[name].required, name
        assert findings[name].needed_for and findings[name].fix, name
    assert all(findings[name].required and findings[name].ok for name in LAB)
    assert "image build debian" in findings["mmdebstrap"].needed_for
    assert "PDF" in findings["Chromium"].needed_for


def test_the_last_line_says_what_is_absent_and_for_what() -> None:
    fine = capabilities.Finding("ip", True, "")
    absent = capabilities.Finding("zstd", False, "", "install it", False, "building images")
    lacks = capabilities.Finding("tc", False, "")
    assert doctor._verdict([fine]) == "this machine is ready"
    assert doctor._verdict([fine, absent]) == "this machine is ready; what is absent is only for: building images"
    assert "not ready" in doctor._verdict([fine, absent, lacks])


async def test_every_finding_is_required_or_says_what_it_is_for() -> None:
    for finding in await capabilities.examine():
        assert finding.required != bool(finding.needed_for), finding
        assert finding.ok or finding.fix, finding


@pytest.mark.parametrize(
    ("kinds", "ok"), [([], True), (["kvm"], True), (["tcg"], False), (["kvm", "tcg"], False), (["tcg", "kvm"], False)]
)
def test_kvm_is_what_the_last_guests_have_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: list[str], ok: bool
) -> None:
    monkeypatch.setattr(paths, "cache", lambda: tmp_path)
    for number, kind in enumerate(kinds):
        answer = capabilities._Accel(kind, f"proof {number}", time.time() + number)
        remembered.write(remembered.place("accel", str(number)), answer)
    remembered.write(remembered.place("accel", "old"), capabilities._Accel("tcg", "of an earlier boot", 1.0))
    found, detail, fix = capabilities._proved_kvm()
    assert found is ok and "earlier" not in detail
    assert bool(fix) is not ok and (ok or "nested" in fix)
    assert detail == f"proof {kinds.index('tcg' if 'tcg' in kinds else 'kvm')}" if kinds else "makes a VM" in detail
