"""``limosa down --all``: what the summary and the exit code say when some labs do not go."""

from __future__ import annotations

from pathlib import Path

import pytest

from limosa import spec
from limosa.cli import down
from limosa.errors import BusyError, LimosaError, StateError
from limosa.lab import lab as lab_module
from limosa.lab.record import LabDirectory, Record

FAILURES: list[tuple[list[LimosaError], int]] = [
    ([], 0),
    ([BusyError("lab two is busy", hint="wait")], 5),
    ([BusyError("lab two is busy"), BusyError("lab one is busy")], 5),
    ([BusyError("lab two is busy"), StateError("it runs on another machine")], 1),
]


@pytest.mark.parametrize(("failures", "exit_code"), FAILURES)
def test_the_exit_code_is_theirs_where_they_agree(
    failures: list[LimosaError],
    exit_code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("one", "two", "three"):
        directory = LabDirectory.named(name)
        directory.create(spec.loads(f"name: {name}\nhosts: {{host1: {{}}}}\n"))
        directory.save(Record(claimed=[]))
    left = dict(zip(("two", "one"), failures, strict=False))

    async def taken(what: LabDirectory, **options: object) -> bool:
        if what.name in left:
            raise left[what.name]
        return True

    monkeypatch.setattr(lab_module, "take_down", taken)
    code = 0
    try:
        down.down(every=True, yes=True)
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        code = ended.code
    said = capsys.readouterr()
    assert code == exit_code
    gone = [name for name in ("one", "three", "two") if name not in left]
    assert f"down: {', '.join(gone)}\n" in said.out
    for name, error in left.items():
        assert name in said.out.partition("not wholly down: ")[2]
        assert f"{error.message}\n" in said.err
    assert ("lab one: it runs on another machine" in said.err) == (exit_code == 1), "whose it is, where it does not say"
