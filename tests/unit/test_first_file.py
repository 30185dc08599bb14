"""The lab files to begin with: one for each kind of host, right as it is; and nothing is ever overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from limosa import spec
from limosa.errors import LimosaError, MachineError, SpecError, StateError
from limosa.spec import first_file, host_kinds
from limosa.spec.written import check_lab_name


def test_every_kind_of_host_has_one() -> None:
    assert list(first_file.FILES) == list(host_kinds.KINDS)


@pytest.mark.parametrize("kind", host_kinds.KINDS)
def test_each_is_right_as_it_is(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "My Lab_2.yaml"
    assert first_file.write(file, kind) == "my-lab-2"
    lab = spec.load(file)
    assert lab.name == "my-lab-2"
    assert [host.kind for host in lab.hosts.values()] == [kind, kind]
    assert [guest.image for guest in lab.guests.values()] == ["micro"]
    text = file.read_text()
    for word in ("NAME", "ADDRESS", "KIND", "PROGRAM", "BRIDGE", "{{", "}}}"):
        assert word not in text, word
    comments = sum(line.lstrip().startswith("#") for line in text.splitlines())
    assert comments >= 8, "each part says what it is for"
    assert max(map(len, text.splitlines())) <= 125
    edit = [line for line in text.splitlines() if first_file.MARK in line]
    assert all(line.partition(first_file.MARK)[2].startswith(": ") for line in edit), edit
    assert bool(edit) == host_kinds.KINDS[kind].own_system


@pytest.mark.parametrize(("file", "name"), [
    ("a/limosa.yaml", "a"), ("a/two.yaml", "two"), ("a/123.yaml", "lab-123"), ("a/null.yaml", "lab-null"),
    ("a/---.yaml", "lab"), ("Größe/limosa.yaml", "gr-e"), (f"a/{'x' * 60}.yaml", "x" * 28), ("a/true.yml", "lab-true"),
])  # fmt: skip
def test_the_lab_is_called_as_its_file_or_folder_is(file: str, name: str, tmp_path: Path) -> None:
    assert first_file.lab_name(Path(file)) == name
    assert check_lab_name(name) == name
    path = tmp_path / file
    path.parent.mkdir()
    first_file.write(path, "namespaces")
    assert spec.load(path).name == name


@pytest.mark.parametrize(("file", "kind", "error", "said", "hint"), [
    ("there.yaml", "ssh", StateError, "there.yaml is there already", "limosa check"),
    (".", "ssh", StateError, "is there already", "name a file in it"),
    ("no/x.yaml", "ssh", SpecError, "there is no folder", "mkdir -p"),
    ("/proc/x.yaml", "ssh", MachineError, "cannot be written", "a folder of yours"),
    ("new.yaml", "inkus", SpecError, "did you mean 'incus'", "namespaces, incus"),
])  # fmt: skip
def test_what_cannot_be_written(
    file: str, kind: str, error: type[LimosaError], said: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "there.yaml").write_text("mine")
    with pytest.raises(error, match=said) as refused:
        first_file.write(tmp_path / file, kind)
    assert hint in refused.value.hint
    assert (tmp_path / "there.yaml").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["there.yaml"]


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    real = Path.open

    def onto_a_full_disk(path: Path, mode: str) -> object:
        real(path, mode).close()
        return real(Path("/dev/full"), "wb")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", onto_a_full_disk)
        with pytest.raises(MachineError, match="No space left"):
            first_file.write(file, "namespaces")
    assert not file.exists()
