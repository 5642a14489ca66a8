"""Entrypoints: files and modules, their names, their failures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipelines.entrypoint import load
from pipelines.errors import SpecError


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test appends to the import path is gone after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_file_is_relative_to_the_folder_and_two_of_one_name_do_not_clash(tmp_path: Path) -> None:
    """Each job's `model.py` is its own module."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.py").write_text(f"def build():\n    return {name!r}\n")
    assert [load("model.py:build", tmp_path / name)() for name in ("one", "two", "one")] == ["one", "two", "one"]


def test_a_file_is_run_once_until_it_changes(tmp_path: Path) -> None:
    """Two entrypoints of one file share its module; an edited file is another module."""
    path = tmp_path / "model.py"
    path.write_text("made = []\ndef build():\n    made.append(1)\n    return len(made)\nagain = build\n")
    assert [load("model.py:build", tmp_path)(), load("model.py:again", tmp_path)()] == [1, 2]
    path.write_text("def build():\n    return 'new'\n")
    assert load("model.py:build", tmp_path)() == "new"


def test_neighbours_can_be_imported_and_shadow_nothing(tmp_path: Path) -> None:
    """A `jobs` package or a `json.py` beside the file is found last, not first."""
    (tmp_path / "neighbour_of_model.py").write_text("value = 7\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')\n")
    (tmp_path / "pipelines.py").write_text("raise RuntimeError('shadowed')\n")
    source = "import json, pipelines.errors, neighbour_of_model\ndef build():\n    return neighbour_of_model.value\n"
    (tmp_path / "model.py").write_text(source)
    first = sys.path[0]
    assert load("model.py:build", tmp_path)() == 7
    assert sys.path[0] == first
    assert sys.path[-1] == str(tmp_path)


def test_classes_of_a_file_know_their_module(tmp_path: Path) -> None:
    """Dataclasses and pickles look a class's module up by name."""
    source = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Build:\n    x: int = 1\n"
    (tmp_path / "model.py").write_text(source)
    build = load("model.py:Build", tmp_path)
    assert build.__module__ in sys.modules
    assert build().x == 1


def test_a_module_is_found_as_python_finds_it(tmp_path: Path) -> None:
    """`package.module:name` is installed, or beside the job file."""
    assert load("os.path:join", tmp_path)("a", "b") == "a/b"
    (tmp_path / "a_package_of_mine").mkdir()
    (tmp_path / "a_package_of_mine" / "net.py").write_text("def build():\n    return 3\n")
    assert load("a_package_of_mine.net:build", tmp_path)() == 3


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("absent.py:build", r"absent\.py can't be read: No such file"),
        ("model.py:biuld", r"model\.py has no 'biuld'; did you mean 'build'\?"),
        ("model.py:number", "'number' is a int, not a function"),
        ("no_such_package.net:build", "there is no module 'no_such_package'"),
        ("os.no_such_module:build", r"there is no module 'os.no_such_module'"),
        ("broken.py:build", r"broken\.py failed: ZeroDivisionError"),
        ("leaves.py:build", r"leaves\.py failed: SystemExit"),
        ("needy.py:build", r"needy\.py failed: ModuleNotFoundError: No module named 'absent_neighbour'"),
        ("broken:build", "importing it failed: ZeroDivisionError"),
        ("needy:build", "importing it failed: No module named 'absent_neighbour'"),
    ],
)
def test_what_is_wrong_is_named_with_its_cause(tmp_path: Path, reference: str, message: str) -> None:
    """A missing file, name or module, and a failure inside, are SpecErrors that say which; nothing half-made stays."""
    (tmp_path / "model.py").write_text("number = 3\ndef build():\n    return 1\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(1)\n")
    (tmp_path / "needy.py").write_text("import absent_neighbour\n")
    before = set(sys.modules)
    with pytest.raises(SpecError, match=message):
        load(reference, tmp_path)
    assert not [name for name in set(sys.modules) - before if "broken" in name or "needy" in name or "leaves" in name]
