"""The findings of doctor: quick, complete, and with the fix that fits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from limosa import capabilities, paths
from limosa.errors import LimosaError
from limosa.requirements import REQUIREMENTS


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


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        (
            {"kernel.apparmor_restrict_unprivileged_userns": "1", "user.max_user_namespaces": "0"},
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({"kernel.unprivileged_userns_clone": "0"}, "sysctl -w kernel.unprivileged_userns_clone=1"),
        ({"user.max_user_namespaces": "0"}, "sysctl -w user.max_user_namespaces=15000"),
        ({"user.max_user_namespaces": "1000"}, "run limosa as root"),
    ],
)
def test_namespaces_fix_names_the_setting(settings: dict[str, str], fix: str) -> None:
    assert fix in capabilities.namespaces_fix(lambda name: settings.get(name, ""))


def test_tun_fix_by_what_is_there(tmp_path: Path) -> None:
    assert "modprobe tun" in capabilities.tun_fix(tmp_path / "tun")
    (tmp_path / "tun").touch()
    assert "namespaces first" in capabilities.tun_fix(tmp_path / "tun")


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
