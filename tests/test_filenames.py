"""A job may be called anything."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.filenames import of_job


@pytest.mark.parametrize("job", ["..", ".", ".hidden", "a/b", "/etc/passwd", "x" * 5000, "夜" * 200])
def test_no_job_name_leaves_its_folder(job: str) -> None:
    """One plain, visible component of a path, short enough for any file system."""
    name = of_job(job)
    assert PurePosixPath("folder", name).parent == PurePosixPath("folder")
    assert not name.startswith(".")
    assert len(name.encode()) <= 200


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_jobs_have_different_names(one: str, other: str) -> None:
    """Or they would share locks and records."""
    assert (of_job(one) == of_job(other)) == (one == other)
