"""Many job files at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.catalogue import check, load_all
from pipelines.errors import SpecError
from tests.tiny_job import SPEC


def test_a_folder_stands_for_its_job_files(tmp_path: Path) -> None:
    """Sorted by name."""
    for name in ("b", "a"):
        (tmp_path / f"{name}.toml").write_text(SPEC.replace('"tiny"', f'"{name}"').replace("scored", f"scored-{name}"))
    assert [item.job for item in check([tmp_path])] == ["a", "b"]


def test_a_name_belongs_to_one_job(tmp_path: Path) -> None:
    """Two files with one name would mix their counters; the same file named twice is harmless."""
    (tmp_path / "a.toml").write_text(SPEC)
    (tmp_path / "b.toml").write_text(SPEC.replace("scored", "elsewhere"))
    with pytest.raises(SpecError, match=r"b\.toml: job\.name = 'tiny': .*a\.toml has the same"):
        load_all([tmp_path])
    assert len(load_all([tmp_path / "a.toml", tmp_path / "a.toml"])) == 2


def test_an_output_folder_belongs_to_one_job(tmp_path: Path) -> None:
    """Or two jobs would replace each other's predictions."""
    (tmp_path / "a.toml").write_text(SPEC)
    (tmp_path / "b.toml").write_text(SPEC.replace('"tiny"', '"other"'))
    with pytest.raises(SpecError, match=r"b\.toml: output\.path = '.*scored.*': .*a\.toml has the same"):
        load_all([tmp_path])


def test_one_wrong_file_does_not_hide_another(tmp_path: Path) -> None:
    """All errors are told."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text("[job]\nnam = 'x'")
    with pytest.raises(SpecError) as caught:
        load_all([tmp_path])
    assert "a.toml" in str(caught.value)
    assert "b.toml" in str(caught.value)


def test_a_folder_without_job_files_is_an_error(tmp_path: Path) -> None:
    """An empty answer would look like success."""
    with pytest.raises(SpecError, match="no job files"):
        check([tmp_path])
