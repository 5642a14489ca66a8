"""Switching the model: at any instant the old one or the new one is in place, and the ledger comes to know which."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

from jobs.retrain.switching import Move, chain, prune, put_in_place
from monitoring.ledger import Cause, Ledger, ModelId, RetrainOutcome, RetrainRecord
from pipelines import versions
from pipelines.durable import flush_folder
from pipelines.errors import ModelError
from tests.killed_switches import NEW, OLD, model
from tests.reports import JOB, definition

ROOT = Path(__file__).parent.parent
A, B, C, D = (ModelId(name, name * 64) for name in "abcd")


def test_killed_before_any_of_its_steps_one_model_is_in_place_and_the_ledger_says_which(tmp_path: Path) -> None:
    """SIGKILL before each file operation of a switch in turn: never none, never half, never a temporary file that stays."""
    command = [sys.executable, "-m", "tests.killed_switches", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    *killed, whole = (json.loads(line) for line in done.stdout.splitlines())
    assert len(killed) > 15
    assert (whole["killed"], whole["model"], whole["outcome"]) == (False, "new", "promoted")
    models = [trial["model"] for trial in killed]
    assert set(models) == {"old", "new"}
    assert models == sorted(models, reverse=True), "once the new one is in place it stays"
    for trial in killed:
        assert trial["leftovers"] == []
        assert trial["kept"] in (None, True), "what is kept is whole"
        assert trial["outcome"] == ("promoted" if trial["model"] == "new" else "stopped")
        assert trial["stopped"] == (trial["model"] == "old")
        if trial["model"] == "new":
            assert (trial["kept"], trial["described"]) == (True, True)


def moved(number: int, before: ModelId, after: ModelId, outcome: RetrainOutcome = RetrainOutcome.PROMOTED) -> RetrainRecord:
    cause = Cause.ROLLBACK if outcome is RetrainOutcome.ROLLED_BACK else Cause.HAND
    begun = RetrainRecord(str(number), JOB, cause, date(2026, 11, 22), "/m", float(number))
    return replace(begun, finished_at=number + 0.5, outcome=outcome, before=before, after=after)


def test_promotions_lie_on_top_of_each_other_and_a_rollback_takes_the_topmost_away() -> None:
    """What was refused or failed is not in the chain."""
    history = [
        moved(1, A, B),
        moved(2, B, C, RetrainOutcome.REFUSED),
        moved(3, B, C),
        moved(4, C, B, RetrainOutcome.ROLLED_BACK),
        moved(5, B, D),
        moved(6, D, A, RetrainOutcome.DRY_RUN),
    ]
    assert [record.retrain_id for record in chain(reversed(history))] == ["1", "5"]
    assert chain([]) == []
    assert chain([moved(1, B, A, RetrainOutcome.ROLLED_BACK)]) == []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(OLD)
    return path


def started(ledger: Ledger, file: Path) -> RetrainRecord:
    ledger.register(definition(), now=0.0, next_expected_at=None)
    record = RetrainRecord("id", JOB, Cause.HAND, date(2026, 11, 22), str(file), 1000.0)
    ledger.start_retrain(record)
    return record


def test_a_model_that_somebody_else_has_replaced_stays(ledger: Ledger, file: Path, tmp_path: Path) -> None:
    """What was compared is not what would be replaced."""
    (tmp_path / "candidate").write_bytes(NEW)
    record = started(ledger, file)
    file.write_bytes(b"by hand")
    with pytest.raises(ModelError, match="was replaced by somebody else"):
        put_in_place(ledger, record, Move(tmp_path / "candidate", model("v1", OLD), model("v2", NEW), None))
    assert file.read_bytes() == b"by hand"


@pytest.mark.parametrize(("renamed", "found"), [(False, OLD), (True, NEW)])
def test_an_error_before_the_rename_is_one_and_after_it_the_new_model_is_in_place(
    ledger: Ledger, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, renamed: bool, found: bytes
) -> None:
    """A disk that fails while it flushes: what is said of the switch is what is there."""
    (tmp_path / "candidate").write_bytes(NEW)
    record = started(ledger, file)

    def fail(folder: Path) -> None:
        if folder == file.parent:
            raise OSError(errno.EIO, "Input/output error")
        flush_folder(folder)

    if renamed:
        monkeypatch.setattr("pipelines.versions.flush_folder", fail)
        put_in_place(ledger, record, Move(tmp_path / "candidate", model("v1", OLD), model("v2", NEW), None))
    else:
        with pytest.raises(ModelError, match="has changed meanwhile"):
            put_in_place(ledger, record, Move(tmp_path / "candidate", model("v1", OLD), model("v2", b"another"), None))
    assert file.read_bytes() == found


def test_only_so_many_old_models_are_kept(ledger: Ledger, file: Path, tmp_path: Path) -> None:
    """Those that the newest promotions replaced."""
    ledger.register(definition(), now=0.0, next_expected_at=None)
    contents = [OLD, *(bytes([65 + number]) * 100 for number in range(4))]
    for number, (before, after) in enumerate(pairwise(contents)):
        (tmp_path / "candidate").write_bytes(after)
        record = RetrainRecord(str(number), JOB, Cause.HAND, date(2026, 11, 22), str(file), float(number))
        ledger.start_retrain(record)
        move = Move(tmp_path / "candidate", model("old", before), model("new", after), None)
        put_in_place(ledger, record, move)
        ledger.finish_retrain(replace(moved(number, move.before, move.model), model_path=str(file)))
        prune(ledger, JOB, file, keep=2)
    kept = [versions.kept(file, model("", content).sha256).exists() for content in contents]
    assert kept == [False, False, True, True, False]
    assert file.read_bytes() == contents[-1]
