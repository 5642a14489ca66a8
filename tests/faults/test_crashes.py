"""A run that dies loses nothing and counts nothing twice, whatever the moment, and whatever the disk had not got yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Tally
from tests.faults.planted import BUGS

ROOT = Path(__file__).parents[2]
TRIALS, SOAK_TRIALS = 200, 2_000


@contextmanager
def trials(program: str, *arguments: object) -> Iterator[Iterator[dict[str, Any]]]:
    """What a program of trials says, one after the other. It must end well, unless nobody reads on."""
    command = [sys.executable, "-m", f"tests.faults.{program}", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        yield _said(process)
        process.kill()


def _said(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    yield from map(json.loads, process.stdout)
    assert process.wait() == 0, "the program of trials has failed"


def wrong(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those trials after which something was wrong."""
    return [trial for trial in found if trial["wrong"]]


@pytest.mark.timeout(1800)
def test_killed_at_any_moment_the_next_run_finishes_exactly_what_is_missing(tmp_path: Path, tally: Tally) -> None:
    """SIGKILL at random moments: each row is there once, the counters equal the rows on disk, nothing else stays."""
    count = SOAK_TRIALS if tally.soak else TRIALS
    with trials("killed_runs", tmp_path, count, tally.seed) as said:
        found = list(said)
    tally.add("SIGKILL at a random moment", tries=len(found), losses=len(wrong(found)))
    assert wrong(found) == [], f"seed {tally.seed}"
    assert len(found) == count
    assert sum(trial["killed"] for trial in found) >= count // 2, "most kills must hit a run that is still going"


@pytest.mark.timeout(600)
def test_power_that_is_cut_at_any_point_costs_nothing(tmp_path: Path, tally: Tally) -> None:
    """At every point between making, flushing, renaming and committing: as above. Unflushed content and names are lost."""
    with trials("cut_runs", tmp_path) as said:
        found = list(said)
    tally.add("power cut at every named point", tries=len(found), losses=len(wrong(found)))
    assert wrong(found) == []
    points = {trial["point"].split(" ")[0] for trial in found}
    assert points == {"begin", "commit", "go", "make", "flush", "rename", "remove"}
    assert {trial["kind"] for trial in found} == {"first", "again"}


@pytest.mark.parametrize(
    ("bug", "words"),
    [
        ("never_flushed", "not whole"),
        ("renamed_before_flushed", "not whole"),
        ("committed_before_renamed", "counters say"),
        ("counters_in_memory", "counters say"),
    ],
)
def test_a_planted_bug_is_seen(tmp_path: Path, bug: str, words: str) -> None:
    """A suite that doesn't fail for these would promise nothing."""
    with trials("cut_runs", tmp_path, bug) as said:
        first = next(trial for trial in said if trial["wrong"])
    assert words in "; ".join(first["wrong"])


def test_every_bug_that_can_be_planted_is_tried() -> None:
    """The table above has them all."""
    tried = [mark for mark in test_a_planted_bug_is_seen.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert [bug for bug, _ in tried[0].args[1]] == list(BUGS)
