"""A run that dies loses nothing and counts nothing twice, whatever the moment, and whatever the disk had not got yet."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.faults.conftest import Tally
from tests.faults.planted import BUGS

ROOT = Path(__file__).parents[2]
ROOM_BYTES = 256 * 2**20
TRIALS, SOAK_TRIALS = 200, 2_000
FIRST_FILE = 25
"""About the first point at which there are files: bugs need not be looked for before it."""


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


def together(program: str, *calls: Sequence[object]) -> list[dict[str, Any]]:
    """All that several calls of it say, made at the same time."""

    def said(arguments: Sequence[object]) -> list[dict[str, Any]]:
        with trials(program, *arguments) as found:
            return list(found)

    with ThreadPoolExecutor() as pool:
        return [trial for found in pool.map(said, calls) for trial in found]


def wrong(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those trials after which something was wrong."""
    return [trial for trial in found if trial["wrong"]]


@pytest.fixture
def quick(tmp_path: Path, tally: Tally) -> Iterator[Path]:
    """A folder in memory, if there is room: flushing takes no time there. The long form flushes to a disk."""
    shared = Path("/dev/shm")  # noqa: S108  the folder inside has a name of its own
    if tally.soak or not shared.is_dir() or shutil.disk_usage(shared).free < ROOM_BYTES:
        yield tmp_path
        return
    with TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.mark.timeout(3600)
def test_killed_at_any_moment_the_next_run_finishes_exactly_what_is_missing(quick: Path, tally: Tally) -> None:
    """SIGKILL at random moments: each row is there once, the counters equal the rows on disk, nothing else stays."""
    count = SOAK_TRIALS if tally.soak else TRIALS
    halves = [(quick / str(half), count // 2, tally.seed + half) for half in range(2)]
    found = together("killed_runs", *halves)
    killed = [trial for trial in found if trial["killed"]]
    tally.add("SIGKILL at a random moment of a run", tries=len(killed), losses=len(wrong(found)))
    assert wrong(found) == [], f"seed {tally.seed}"
    assert len(killed) == count
    assert max(trial["unclaimed"] for trial in killed) >= 2, "some must hit while several parts wait for one commit"


@pytest.mark.timeout(600)
def test_power_that_is_cut_at_any_point_costs_nothing(quick: Path, tally: Tally) -> None:
    """At every point between making, flushing, renaming and committing: as above. Unflushed content and names are lost."""
    found = together("cut_runs", *((quick / str(half), 1 + half, 2) for half in range(2)))
    tally.add("power cut at every named point", tries=len(found), losses=len(wrong(found)))
    assert wrong(found) == []
    points = {trial["point"].split(" ")[0] for trial in found}
    assert points == {"begin", "commit", "go", "make", "flush", "rename", "remove"}
    assert {trial["kind"] for trial in found} == {"first", "again"}
    assert max(trial["unclaimed"] for trial in found) >= 2, "some must hit while several parts wait for one commit"


@pytest.mark.timeout(600)
def test_a_run_that_is_asked_to_stop_says_so_and_the_next_one_finishes(tmp_path: Path, tally: Tally) -> None:
    """Signals, a second one, `job.timeout`, at whatever moment: recorded with its reason, and as above after that."""
    with trials("stopped_runs", tmp_path, *(["all"] if tally.soak else [])) as said:
        found = list(said)
    tally.add("asked to stop: signals and time-out", tries=len(found), losses=len(wrong(found)))
    assert wrong(found) == []
    assert {trial["kind"] for trial in found} == {"SIGTERM", "SIGINT", "SIGTERM twice", "timeout"}
    for trial in found:
        assert trial["recorded"] in recorded(trial["kind"], trial["moment"]), trial


def recorded(kind: str, moment: str) -> set[str]:
    """How such a run may be in the ledger: one that had only its push left has stopped nothing.

    Nobody holds a run up that is to reach its push in time, but a busy machine may.
    """
    stopped = f"failed: {TIMED_OUT if kind == 'timeout' else f'stopped by {kind.split(maxsplit=1)[0]}'}"
    if moment != "pushing":
        return {stopped}
    return {"partial: None", stopped} if kind == "timeout" else {"partial: None"}


TIMED_OUT = "timeout: the run took longer than job.timeout (0.05 s)"


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
    with trials("cut_runs", tmp_path, FIRST_FILE, 1, bug) as said:
        first = next(trial for trial in said if trial["wrong"])
    assert words in "; ".join(first["wrong"])


def test_every_bug_that_can_be_planted_is_tried() -> None:
    """The table above has them all."""
    tried = [mark for mark in test_a_planted_bug_is_seen.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert [bug for bug, _ in tried[0].args[1]] == list(BUGS)
