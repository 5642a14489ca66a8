"""The textfile sink."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from monitoring import textfile
from monitoring.exposition import render
from monitoring.servers import find
from pipelines.errors import PushError
from tests.reports import PUSHED_AT, full_state


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """A reader that has the old one open reads it to its end; nothing unfinished is left beside it."""
    first = textfile.write(tmp_path, "digits", b"a 1\n" * 1000)
    with first.open("rb") as reader:
        textfile.write(tmp_path, "digits", b"a 2\n")
        assert reader.read() == b"a 1\n" * 1000
    assert first.read_bytes() == b"a 2\n"
    assert [file.name for file in tmp_path.iterdir()] == ["batchgauge_digits.prom"]


def test_the_collector_may_read_it(tmp_path: Path) -> None:
    """It runs as another user."""
    assert textfile.write(tmp_path, "digits", b"").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("job", ["a/b", "..", "ü 🙂", "x" * 300, "x" * 300 + "y", "%2F", "a b"])
def test_any_job_has_a_file_of_its_own(tmp_path: Path, job: str) -> None:
    """In the folder, whatever it is called, and it can be removed again."""
    others = [textfile.write(tmp_path, other, b"") for other in ("a", "x" * 300 + "z", "a%2Fb")]
    file = textfile.write(tmp_path, job, b"a 1\n")
    assert file.parent == tmp_path
    assert file not in others
    assert file.name.startswith("batchgauge_")
    assert file.suffix == ".prom"
    textfile.remove(tmp_path, job)
    assert sorted(tmp_path.iterdir()) == sorted(others)
    textfile.remove(tmp_path, job)  # once more does no harm


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """A folder in its place can't be replaced: the error names it, and nothing unfinished stays."""
    (tmp_path / "batchgauge_digits.prom").mkdir()
    with pytest.raises(PushError, match=r"batchgauge_digits\.prom: Is a directory; the folder must exist"):
        textfile.write(tmp_path, "digits", b"a 1\n")
    assert [file.name for file in tmp_path.iterdir()] == ["batchgauge_digits.prom"]
    with pytest.raises(PushError, match="No such file"):
        textfile.write(tmp_path / "nowhere", "digits", b"a 1\n")
    with pytest.raises(PushError, match="Is a directory"):
        textfile.remove(tmp_path, "digits")


def test_promtool_takes_the_labelled_file(tmp_path: Path) -> None:
    """With the job's labels on every sample it is as valid as the gateway's body."""
    body = render(full_state(tmp_path), pushed_at=PUSHED_AT, labels={"job": "digits", "env": "prod"})
    file = textfile.write(tmp_path, "digits", body)
    checked = subprocess.run(
        [str(find("promtool")), "check", "metrics"], input=file.read_bytes(), capture_output=True, check=False
    )
    assert b"error" not in checked.stdout + checked.stderr
