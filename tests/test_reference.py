"""The README's generated parts."""

from __future__ import annotations

import pytest

from jobs.reference import README, job_file_markdown, regenerate
from jobs.spec import JobSpec


def test_the_readme_is_up_to_date() -> None:
    """`make docs` mends it."""
    text = README.read_text(encoding="utf-8")
    assert regenerate(text) == text


def test_every_key_is_described() -> None:
    """A key without a description would be a key without a reference."""
    schema = JobSpec.model_json_schema()
    sections = schema["$defs"].values()
    assert all(section["description"] for section in sections)
    keys = [(section["title"], key, field) for section in sections for key, field in section["properties"].items()]
    assert [(title, key) for title, key, field in keys if not field.get("description")] == []
    assert all(f"| `{key}` |" in job_file_markdown() for title, key, _ in keys if title != "BinnedColumn")


def test_a_readme_without_markers_is_refused() -> None:
    """Generating into nowhere would look like success."""
    with pytest.raises(ValueError, match="no markers"):
        regenerate("# batchgauge")
