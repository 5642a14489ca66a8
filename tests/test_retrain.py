"""One turn of the loop, with real training processes: whatever goes wrong, the champion stays and the ledger says why."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.dead_runs import settled_state
from jobs.delivery import forget_job
from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.retrain.loop import IN_PROGRESS, retrain
from jobs.retrain.request import RetrainRequest, RetrainResult
from jobs.retrain.rollback import roll_back
from jobs.retrain.settling import DEAD
from jobs.retrain.workplace import KEEP_LOGS
from jobs.run import run
from jobs.spec import load
from monitoring.ledger import Cause, Ledger, ModelId, RetrainOutcome, RetrainRecord
from monitoring.servers import Server
from pipelines import versions
from pipelines.cancellation import Cancellation
from pipelines.errors import LedgerError, ModelError, SpecError
from tests.conftest import poll
from tests.retrained_job import DAY, GOOD, WORSE, RetrainedJob


@pytest.fixture
def job(tmp_path: Path) -> RetrainedJob:
    return RetrainedJob(tmp_path / "job")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return read({"BATCHGAUGE_LEDGER": str(tmp_path / "state" / "ledger.db")})


def go(
    job: RetrainedJob,
    environment: Environment,
    *,
    day: date = DAY,
    dry_run: bool = False,
    cancellation: Cancellation | None = None,
) -> RetrainRecord:
    result = go_or_not(job, environment, day=day, dry_run=dry_run, cancellation=cancellation)
    assert result.record is not None, result.reason
    assert job.leftovers() == []
    with Ledger.open(environment.ledger) as ledger:
        assert ledger.retrains("tiny", limit=1) == (result.record,)
    return result.record


def go_or_not(
    job: RetrainedJob,
    environment: Environment,
    *,
    day: date = DAY,
    dry_run: bool = False,
    cancellation: Cancellation | None = None,
) -> RetrainResult:
    request = RetrainRequest(load(job.spec), environment, day, dry_run)
    return retrain(request, cancellation=cancellation or Cancellation(), term_seconds=0.2)


def sha(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def counted(environment: Environment, outcome: str) -> float:
    with Ledger.open(environment.ledger) as ledger:
        return ledger.state("tiny").counters["model_retrains_total", (outcome,)]


def test_a_better_candidate_is_put_in_place_and_the_old_model_kept(job: RetrainedJob, environment: Environment) -> None:
    """With a name of its own, the reason and its figures in the ledger, and the count pushed with the rest."""
    old = sha(job.model)
    record = go(job, environment)
    new = sha(job.model)
    assert (record.outcome, record.cause) == (RetrainOutcome.PROMOTED, Cause.HAND)
    assert (record.before, record.after) == (("v1", old), (f"v1+{DAY}.{new[:8]}", new))
    assert old != new
    assert "accuracy on labelled: candidate 1, champion 0.7" in (record.reason or "")
    assert "better with confidence, and the champion is below its threshold" in (record.reason or "")
    assert record.figures["holdouts"][0]["candidate"][0] == 1.0
    assert record.figures["judged_from"] == str(DAY)
    assert sha(versions.kept(job.model, old)) == old
    assert (counted(environment, "promoted"), counted(environment, "refused")) == (1, 0)


def test_a_promotion_is_judged_at_once(job: RetrainedJob, environment: Environment) -> None:
    """The comparison has judged the new model already: its figures stand, just as a run would find them, and the alert ends."""
    job.write_input(DAY.isoformat(), 100)
    request = RunRequest(load(job.spec), environment, logical_date=DAY)
    run(request, observer=Silent(), cancellation=Cancellation())
    record = go(job, environment)
    with Ledger.open(environment.ledger) as ledger:
        state = ledger.state("tiny")
        run(request, observer=Silent(), cancellation=Cancellation())
        later = ledger.state("tiny")
    assert state.model == later.model
    assert state.model is not None
    assert record.after == (state.model.version, state.model.sha256)
    at_once, found = state.quality["labelled"], later.quality["labelled"]
    assert at_once.accuracy is not None
    assert at_once.accuracy.value == 1.0
    assert replace(at_once, evaluated_at=found.evaluated_at, seconds=found.seconds) == found


def test_a_comparison_on_an_older_day_does_not_pass_for_the_newest(job: RetrainedJob, environment: Environment) -> None:
    """Labels come late: the newest labelled day is older than the last run's. And of a refused candidate nothing is shown."""
    job.write_input(DAY.isoformat(), 100)
    run(RunRequest(load(job.spec), environment, logical_date=DAY), observer=Silent(), cancellation=Cancellation())
    with Ledger.open(environment.ledger) as ledger:
        before = ledger.state("tiny").quality
        go(job, environment, day=DAY - timedelta(days=2))
        assert ledger.state("tiny").quality == before
        job.write_trainer(WORSE)
        go(job, environment)
        assert ledger.state("tiny").quality == before


def test_a_run_goes_by_the_new_name_and_scores_with_the_new_model(job: RetrainedJob, environment: Environment) -> None:
    """A day that was scored stays as it is until it is run again; then it is another model's."""
    job.write_input(DAY.isoformat(), 100)

    def report() -> tuple[str, float, int]:
        request = RunRequest(load(job.spec), environment, logical_date=DAY)
        done = run(request, observer=Silent(), cancellation=Cancellation()).report
        assert done.model is not None
        assert done.holdouts[0].accuracy is not None
        return done.model.version, done.holdouts[0].accuracy.value, done.rows_scored

    version, accuracy, rows = report()
    assert (version, accuracy < 0.8, rows) == ("v1", True, 100)
    record = go(job, environment)
    assert record.after is not None
    assert report() == (record.after.version, 1.0, 100)
    assert report() == (record.after.version, 1.0, 0)


def test_a_dry_run_changes_nothing(job: RetrainedJob, environment: Environment) -> None:
    """But says what would have been."""
    old = sha(job.model)
    record = go(job, environment, dry_run=True)
    assert (record.outcome, sha(job.model)) == (RetrainOutcome.DRY_RUN, old)
    assert (record.reason or "").startswith("would be promoted: better with confidence")
    assert [path.name for path in job.folder.glob("*.versions")] == []
    job.write_trainer(WORSE)
    assert (go(job, environment, dry_run=True).reason or "").startswith("would be refused: not better")


REFUSED = {
    "worse": (
        WORSE,
        "not better with confidence, and the champion is below its threshold: accuracy on labelled: candidate 0",
    ),
    "the same": ("import shutil; shutil.copy(training.champion, training.candidate)", "training wrote the champion again"),
    "no better": ("write(training, 1, -0.001)", "not better with confidence"),
}
FAILED = {
    "raises": ("raise ValueError('no labels yet')", r"exit code 1\): .*ValueError: no labels yet \(trainer\.py, line 19\)"),
    "exits": ("sys.exit(3)", r"training failed \(exit code 3\) \(it said nothing: .*\.log\)"),
    "exits without an error": ("sys.exit(0)", "wrote no file to training.candidate"),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", r"its process was killed by SIGKILL \(out of memory, or by hand\)"),
    "writes nothing": ("print('almost done')", "wrote no file to training.candidate .*: almost done"),
    "writes a link": ("training.candidate.symlink_to(training.champion)", "wrote no file to"),
    "writes rubbish": ("training.candidate.write_bytes(b'rubbish')", "the candidate: .*isn't a safetensors file"),
    "writes an empty file": ("training.candidate.touch()", "the candidate: .*isn't a safetensors file"),
    "writes another shape": (
        "save_file({'weight': np.zeros((3, 2), np.float32), 'bias': np.zeros(3, np.float32)}, training.candidate)",
        "the candidate: .*another shape weight",
    ),
    "writes NaN": ("write(training, np.nan, 1)", "the candidate: .*NaN or infinity"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_candidate_that_is_not_better_is_refused(job: RetrainedJob, environment: Environment, case: str) -> None:
    """The champion stays, and the reason has figures."""
    body, words = REFUSED[case]
    job.write_trainer(body)
    old = sha(job.model)
    record = go(job, environment)
    assert (record.outcome, sha(job.model)) == (RetrainOutcome.REFUSED, old)
    assert words in (record.reason or "")
    assert counted(environment, "refused") == 1


@pytest.mark.parametrize("case", FAILED)
def test_a_training_that_fails_leaves_the_champion(job: RetrainedJob, environment: Environment, case: str) -> None:
    """And says what it said last."""
    body, words = FAILED[case]
    job.write_trainer(body)
    old = sha(job.model)
    record = go(job, environment)
    assert (record.outcome, sha(job.model)) == (RetrainOutcome.FAILED, old)
    assert re.search(words, record.reason or ""), record.reason
    assert counted(environment, "failed") == 1


def test_a_training_that_writes_over_the_model_in_use_is_found_out(job: RetrainedJob, environment: Environment) -> None:
    """The next run would use it, and nobody would know since when."""
    job.write_trainer(f"(training.root / {job.model.name!r}).write_bytes(b'rubbish')")
    record = go(job, environment)
    assert record.outcome is RetrainOutcome.FAILED
    assert "wrote no file to training.candidate" in (record.reason or "")
    assert f"model {job.model} was changed meanwhile: by the training function itself" in (record.reason or "")


def test_an_entrypoint_that_is_not_there_is_named(job: RetrainedJob, environment: Environment) -> None:
    """As anywhere else."""
    job.edit({"trainer.py:train": "trainer.py:trian"})
    assert "has no 'trian'; did you mean 'train'?" in (go(job, environment).reason or "")


def test_a_slice_that_gets_worse_is_in_the_way(job: RetrainedJob, environment: Environment) -> None:
    """Better on the whole, but wrong wherever the side is right: a model that the sum would let through."""
    job.edit({"accuracy = 0.9": "accuracy = 0.6", "recall = 0.9": "recall = 0.6", 'slices = ["side"]': 'slices = ["kind"]'})
    file = job.folder / "labelled" / f"date={DAY}" / "rows.parquet"
    table = pq.read_table(file, partitioning=None)
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    # Of one kind the truth is what the champion says, of the other (and larger) what the candidate says.
    kind = ["odd" if row % 4 == 0 else "even" for row in range(len(x))]
    truth = [int(a > 0) if one == "odd" else int(a > b) for a, b, one in zip(x, y, kind, strict=True)]
    changed = (
        table.drop_columns(["truth", "side"]).append_column("truth", pa.array(truth)).append_column("kind", pa.array(kind))
    )
    job.write(file, changed)
    record = go(job, environment)
    assert record.outcome is RetrainOutcome.REFUSED
    assert "worse by more than 0.02 with confidence: accuracy on labelled, kind = odd" in (record.reason or "")
    assert [one["value"] for one in record.figures["harmed"] if one["figure"] == "accuracy"] == ["odd"]


def test_a_training_that_takes_too_long_is_stopped(job: RetrainedJob, environment: Environment) -> None:
    """By retrain.timeout."""
    job.edit({'timeout = "60s"': 'timeout = "1s"'})
    job.write_trainer("time.sleep(600)")
    record = go(job, environment)
    assert record.outcome is RetrainOutcome.FAILED
    assert "training was stopped: timeout: training and comparing took longer than retrain.timeout (1 s)" in (
        record.reason or ""
    )


@contextmanager
def cancelled_when(file: Path) -> Iterator[Cancellation]:
    """A cancellation that is requested, as by a signal, once the file has something in it."""
    cancellation = Cancellation()

    def watch() -> None:
        poll(lambda: file.exists() and file.read_text())
        cancellation.request("stopped by SIGTERM", grace_seconds=0.0)

    thread = threading.Thread(target=watch)
    thread.start()
    yield cancellation
    thread.join()


def gone(pid: int) -> bool:
    """Whether the process has ended (who adopts it may not have asked for its exit code yet)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
aside = training.root / "pids.tmp~"
aside.write_text(f"{os.getpid()} {child.pid}")
aside.rename(training.root / "pids")
print("I shall never stop")
sys.stdout.flush()
time.sleep(600)
"""


def test_a_training_that_ignores_every_request_is_killed_with_all_that_it_started(
    job: RetrainedJob, environment: Environment
) -> None:
    """TERM to its group, then KILL."""
    job.write_trainer(STUBBORN)
    with cancelled_when(job.folder / "pids") as cancellation:
        record = go(job, environment, cancellation=cancellation)
    assert record.outcome is RetrainOutcome.STOPPED
    assert "training was stopped: stopped by SIGTERM" in (record.reason or "")
    pids = [int(pid) for pid in (job.folder / "pids").read_text().split()]
    assert len(pids) == 2
    assert poll(lambda: all(map(gone, pids)))


def test_what_training_left_running_ends_with_it(job: RetrainedJob, environment: Environment) -> None:
    """A candidate must not change while it is judged."""
    body = f"""
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(training.root / "pids").write_text(str(child.pid))
{GOOD}
"""
    job.write_trainer(body)
    assert go(job, environment).outcome is RetrainOutcome.PROMOTED
    assert poll(lambda: gone(int((job.folder / "pids").read_text())))


def test_training_is_given_what_the_contract_says(job: RetrainedJob, environment: Environment) -> None:
    """A copy of the champion, labelled days before the judged one, a scratch folder, no secrets."""
    os.environ["BATCHGAUGE_PASSWORD"] = "hunter2"  # noqa: S105  the fixture puts the environment back
    body = """
import json
assert training.champion.read_bytes() == (training.root / "tiny.safetensors").read_bytes()
training.champion.write_bytes(b"by mistake")
facts = {
    "labelled": [str(path.relative_to(training.root)) for path in training.labelled["labelled"]],
    "cwd": Path.cwd() == training.candidate.parent and os.listdir(),
    "job": training.job, "date": str(training.logical_date), "seed": training.seed,
    "secrets": [name for name in os.environ if name.startswith("BATCHGAUGE_")],
    "stdin": sys.stdin.read(),
}
(training.root / "facts.json").write_text(json.dumps(facts))
Path("scratch").write_text("x")
write(training, 1, -1)
"""
    job.write_trainer(body)
    job.edit({'entrypoint = "trainer.py:train"': 'entrypoint = "trainer.py:train"\njudge_days = 2\nlearn_days = 3'})
    assert go(job, environment).outcome is RetrainOutcome.PROMOTED
    facts = json.loads((job.folder / "facts.json").read_text())
    wanted = [f"labelled/date={DAY - timedelta(days=age)}/rows.parquet" for age in (4, 3, 2)]
    assert facts["labelled"] == wanted
    assert (facts["cwd"], facts["job"], facts["date"], facts["stdin"]) == ([], "tiny", str(DAY), "")
    assert facts["secrets"] == []
    assert 0 <= facts["seed"] < 2**32


def test_a_model_that_is_replaced_by_hand_during_training_stays(job: RetrainedJob, environment: Environment) -> None:
    """What was compared is not what would be replaced; the old contract, which wrote there itself, is caught by this too."""
    job.write_trainer(f"{GOOD}\nsave_file(weights(2, 1), training.root / 'tiny.safetensors')")
    record = go(job, environment)
    assert record.outcome is RetrainOutcome.FAILED
    assert "was replaced by somebody else while the candidate was trained" in (record.reason or "")


def test_what_can_be_known_before_training_is_asked_before_training(job: RetrainedJob, environment: Environment) -> None:
    """No labels, no model, a link, a pin."""
    job.write_trainer("(training.root / 'trained').touch()")
    assert "no labelled files in the 91 days up to 2020-01-01" in (go(job, environment, day=date(2020, 1, 1)).reason or "")
    elsewhere = job.folder / "elsewhere.safetensors"
    job.model.rename(elsewhere)
    assert "No such file" in (go(job, environment).reason or "")
    job.model.symlink_to(elsewhere)
    assert "is a link" in (go(job, environment).reason or "")
    job.edit({'version = "v1"': f'version = "v1"\nsha256 = "{sha(elsewhere)}"'})
    with pytest.raises(SpecError, match=r"model\.sha256 pins one"):
        load(job.spec)
    assert not (job.folder / "trained").exists()


def test_one_retraining_at_a_time(job: RetrainedJob, environment: Environment) -> None:
    """The second does nothing and says so; a run is not in the way."""
    with Ledger.open(environment.ledger) as ledger:
        with ledger.lock("retrain", "tiny"):
            result = go_or_not(job, environment)
        assert (result.record, result.reason) == (None, IN_PROGRESS)
        assert ledger.retrains("tiny") == ()
        with ledger.lock("run", "tiny"):
            assert go(job, environment).outcome is RetrainOutcome.PROMOTED


def test_a_job_without_the_section_cannot_be_retrained(job: RetrainedJob, environment: Environment) -> None:
    """It says what is missing."""
    text = job.spec.read_text()
    job.spec.write_text(text[: text.index("[retrain]")])
    with pytest.raises(SpecError, match=r"has no \[retrain\] section"):
        go(job, environment)


def test_a_dead_retraining_is_settled_by_whoever_looks(job: RetrainedJob, environment: Environment) -> None:
    """What it left is removed, and the ledger says that nobody knows how it would have ended."""
    go(job, environment, dry_run=True)
    with Ledger.open(environment.ledger) as ledger:
        (before,) = ledger.retrains("tiny")
        dead = replace(before, retrain_id="dead", outcome=None, finished_at=None, reason=None, after=None)
        ledger.start_retrain(dead)
        (ledger.retrain_folder("tiny") / "dead.work").mkdir()
        (job.folder / ".tiny.safetensors.dead.tmp").touch()
        with ledger.lock("retrain", "tiny"):
            settled_state(ledger, "tiny")
            assert ledger.retrains("tiny", limit=1)[0].outcome is None, "it lives"
        settled_state(ledger, "tiny")
        record = ledger.retrains("tiny", limit=1)[0]
    assert (record.outcome, record.reason) == (RetrainOutcome.STOPPED, DEAD)
    assert job.leftovers() == []
    assert counted(environment, "stopped") == 1


def test_what_became_of_a_dead_one_is_told_by_the_model_that_lies_there(job: RetrainedJob, environment: Environment) -> None:
    """Switched or not; and as long as the model can't be read, it isn't told at all."""
    with Ledger.open(environment.ledger) as ledger:
        ledger.register(load(job.spec).definition(environment), now=0.0, next_expected_at=None)
        there, elsewhere = ModelId("v2", sha(job.model)), ModelId("v3", "ab" * 32)
        for number, (after, cause) in enumerate(((there, Cause.HAND), (there, Cause.ROLLBACK), (elsewhere, Cause.HAND))):
            ledger.start_retrain(
                RetrainRecord(str(number), "tiny", cause, DAY, str(job.model), 1.0, reason="better", after=after)
            )
        content = job.model.read_bytes()
        job.model.unlink()
        job.model.mkdir()  # stands in for a file that this user may not read
        settled_state(ledger, "tiny")
        assert len(ledger.unfinished_retrains("tiny")) == 3
        job.model.rmdir()
        job.model.write_bytes(content)
        settled_state(ledger, "tiny")
        outcomes = [record.outcome for record in ledger.retrains("tiny")]
        assert outcomes == [RetrainOutcome.STOPPED, RetrainOutcome.ROLLED_BACK, RetrainOutcome.PROMOTED]
        assert "better; the process died right after it had switched the model" in str(ledger.retrains("tiny")[-1].reason)


def test_a_model_in_a_folder_that_cannot_be_looked_into_stops_nobody_who_looks(
    job: RetrainedJob, environment: Environment
) -> None:
    """What became of the retraining is left to somebody who may; one that had no candidate yet has failed in any case."""
    unseen = job.folder / ("x" * 300) / "tiny.safetensors"  # too long a name: stands in for a folder without permission
    with Ledger.open(environment.ledger) as ledger:
        ledger.register(load(job.spec).definition(environment), now=0.0, next_expected_at=None)
        for retrain_id, after in (("unknown", ModelId("v2", "ab" * 32)), ("failed", None)):
            ledger.start_retrain(RetrainRecord(retrain_id, "tiny", Cause.HAND, DAY, str(unseen), 1.0, after=after))
        settled_state(ledger, "tiny")
        assert [record.retrain_id for record in ledger.unfinished_retrains("tiny")] == ["unknown"]


def test_only_the_newest_logs_are_kept(job: RetrainedJob, environment: Environment) -> None:
    """What training said is there to be read, for a while."""
    with Ledger.open(environment.ledger) as ledger:
        folder = ledger.retrain_folder("tiny")
    folder.mkdir(parents=True)
    for number in range(KEEP_LOGS + 3):
        (folder / f"{number}.log").touch()
        os.utime(folder / f"{number}.log", (number, number))
    job.write_trainer(f"print('epoch 1')\n{GOOD}")
    record = go(job, environment)
    logs = sorted(path.name for path in folder.glob("*.log"))
    assert len(logs) == KEEP_LOGS
    assert "epoch 1" in (folder / f"{record.retrain_id}.log").read_text()


def test_rolling_back_puts_the_old_model_in_place_and_can_be_done_once_for_each_promotion(
    job: RetrainedJob, environment: Environment
) -> None:
    """Bit by bit and by its old name; then there is nothing to go back to."""
    old = job.model.read_bytes()
    promoted = go(job, environment)
    spec = load(job.spec)
    with Ledger.open(environment.ledger) as ledger:
        record = roll_back(ledger, spec, environment).record
        assert record is not None
        assert (record.outcome, record.cause) == (RetrainOutcome.ROLLED_BACK, Cause.ROLLBACK)
        assert (record.before, record.after) == (promoted.after, promoted.before)
        assert job.model.read_bytes() == old
        shown = ledger.state("tiny").model
        assert shown is not None
        assert record.after == (shown.version, shown.sha256)
        with pytest.raises(ModelError, match="no promotion is in effect"):
            roll_back(ledger, spec, environment)
    assert go(job, environment).outcome is RetrainOutcome.PROMOTED
    assert counted(environment, "rolled_back") == 1
    assert job.leftovers() == []


def test_rolling_back_pushes_to_where_the_environment_says_now(
    job: RetrainedJob, environment: Environment, pushgateway: Server
) -> None:
    """As every other command does."""
    go(job, environment)
    moved = replace(environment, gateways=(pushgateway.url,))
    with Ledger.open(environment.ledger) as ledger:
        result = roll_back(ledger, load(job.spec), moved)
    assert result.delivery is not None, result.push_error
    assert result.delivery.destinations == (pushgateway.url,)


def test_rolling_back_is_refused_when_it_is_not_known_to_what(job: RetrainedJob, environment: Environment) -> None:
    """A model put there by hand, a kept one that is damaged or gone, a retraining in progress."""
    promoted = go(job, environment)
    assert promoted.before is not None
    new, kept = job.model.read_bytes(), versions.kept(job.model, promoted.before.sha256)
    spec = load(job.spec)
    with Ledger.open(environment.ledger) as ledger:
        job.write_weights(3.0, 4.0)
        with pytest.raises(ModelError, match="was put there by hand since"):
            roll_back(ledger, spec, environment)
        job.model.write_bytes(new)
        kept.write_bytes(b"damaged")
        with pytest.raises(ModelError, match="is damaged"):
            roll_back(ledger, spec, environment)
        kept.unlink()
        with pytest.raises(ModelError, match="is no longer kept"):
            roll_back(ledger, spec, environment)
        with ledger.lock("retrain", "tiny"), pytest.raises(LedgerError, match="a retrain is in progress"):
            roll_back(ledger, spec, environment)
        assert job.model.read_bytes() == new
        assert len(ledger.retrains("tiny")) == 1


def test_the_count_is_pushed_and_a_gateway_that_is_down_changes_nothing(
    job: RetrainedJob, tmp_path: Path, pushgateway: Server
) -> None:
    """Zeros first, as for any counter."""
    up = read({"BATCHGAUGE_LEDGER": str(tmp_path / "ledger.db"), "BATCHGAUGE_GATEWAY": pushgateway.url})
    result = go_or_not(job, up)
    assert result.delivery is not None
    text = httpx.get(f"{pushgateway.url}/metrics", trust_env=False).text
    assert 'model_retrains_total{instance="",job="tiny",outcome="promoted"} 1' in text
    assert 'model_retrains_total{instance="",job="tiny",outcome="failed"} 0' in text
    job.edit({"[thresholds]": '[push]\ntimeout = "1s"\n\n[thresholds]'})
    down = read({"BATCHGAUGE_LEDGER": up.ledger, "BATCHGAUGE_GATEWAY": "http://127.0.0.1:9"})
    result = go_or_not(job, down)
    assert result.record is not None
    assert result.record.outcome is RetrainOutcome.REFUSED
    assert "127.0.0.1:9" in (result.push_error or "")


def test_forgetting_a_job_forgets_its_retrainings(job: RetrainedJob, environment: Environment) -> None:
    """And their logs; its models stay where they are."""
    go(job, environment)
    with Ledger.open(environment.ledger) as ledger:
        with ledger.lock("retrain", "tiny"), pytest.raises(LedgerError, match="in progress"):
            forget_job(ledger, "tiny", environment)
        forget_job(ledger, "tiny", environment)
        ledger.register(load(job.spec).definition(environment), now=0.0, next_expected_at=None)
        assert ledger.retrains("tiny") == ()
        assert not ledger.retrain_folder("tiny").exists()


def test_training_is_in_a_group_of_its_own(job: RetrainedJob, environment: Environment) -> None:
    """All of it can be ended together, and we are not in it."""
    job.write_trainer(f"(training.root / 'group').write_text(str(os.getpgrp() == os.getpid()))\n{GOOD}")
    assert go(job, environment).outcome is RetrainOutcome.PROMOTED
    assert (job.folder / "group").read_text() == "True"
