"""One turn of the loop: train a candidate, compare it with the champion, put it in place or say why not, record, deliver.

A run that goes on meanwhile needs no lock: it has read the model file once, whole, when it began, and what it read is
what it reports and scores with to its end.
"""

from __future__ import annotations

import hashlib
import shutil
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic_core import to_jsonable_python

from jobs.retrain.contract import Task, Training
from jobs.retrain.evidence import gather
from jobs.retrain.labelled import Split, split
from jobs.retrain.policy import Decision, decide
from jobs.retrain.request import RetrainRequest, RetrainResult, delivered
from jobs.retrain.settling import settle_under_lock
from jobs.retrain.switching import Move, prune, put_in_place
from jobs.retrain.training import TERM_SECONDS, train
from jobs.retrain.workplace import workplace
from jobs.settings import RetrainSettings
from jobs.time_limit import time_limit
from monitoring.ledger import Cause, InPlace, Ledger, LockHeld, ModelId, RetrainOutcome, RetrainRecord
from monitoring.resources import available_cores
from pipelines import versions
from pipelines.cancellation import Cancellation, Cancelled
from pipelines.errors import BatchgaugeError, LedgerError, ModelError, SpecError, storable
from pipelines.versions import Version

if TYPE_CHECKING:
    from pipelines.comparison import Verdict

IN_PROGRESS = "the job's model is being retrained already"


def retrain(request: RetrainRequest, *, cancellation: Cancellation, term_seconds: float = TERM_SECONDS) -> RetrainResult:
    """Retrain the job's model once, and leave the truth in the ledger, whatever happens.

    What goes wrong in training, in the models or in the data makes the outcome `failed`, with its words as the reason, and
    the champion stays. Raises `SpecError` for a job without [retrain], `LedgerError` when the truth can't be recorded.
    """
    spec, environment = request.spec, request.environment
    settings = spec.retrain
    if settings is None:
        raise SpecError(f"{spec.path}: has no [retrain] section; give it one with an entrypoint that trains")
    now = datetime.now(UTC)
    with environment.open_ledger() as ledger:
        ledger.register(spec.definition(environment), now=now.timestamp(), next_expected_at=spec.next_expected(now))
        try:
            with ledger.lock("retrain", spec.job.name):
                settle_under_lock(ledger, spec.job.name)
                decision = _decision(request, ledger, now)
                if decision is not None and not decision.retrain:
                    return RetrainResult(None, decision.reason)
                record = _Turn(request, settings, ledger, decision, now).go(cancellation, term_seconds)
        except LockHeld:
            return RetrainResult(None, IN_PROGRESS)
        return delivered(ledger, record, environment)


def _decision(request: RetrainRequest, ledger: Ledger, now: datetime) -> Decision | None:
    """What the policy says of this job; None when no alert asks."""
    if request.message is None:
        return None
    job = request.spec.job.name
    facts = gather(ledger, request.spec)
    decisions = decide(request.message, lambda name: facts if name == job else None, now=now.timestamp())
    about_it = [decision for decision in decisions if decision.job == job]
    return about_it[0] if about_it else Decision(job, retrain=False, reason="no alert of the message is about this job")


class _Turn:
    """One retraining, under the job's retrain lock."""

    def __init__(
        self, request: RetrainRequest, settings: RetrainSettings, ledger: Ledger, decision: Decision | None, now: datetime
    ) -> None:
        self._spec = request.spec
        self._file = request.spec.model_file
        self._settings = settings
        self._ledger = ledger
        self._dry_run = request.dry_run or (decision is not None and settings.dry_run)
        self._record = RetrainRecord(
            retrain_id=uuid4().hex,
            job=request.spec.job.name,
            cause=Cause.HAND if decision is None else Cause.ALERT,
            logical_date=request.logical_date or request.spec.logical_date(now),
            model_path=str(self._file),
            started_at=now.timestamp(),
            alerts=() if decision is None else decision.alerts,
        )
        self._in_place: InPlace | None = None
        self._late = ""
        self._place = workplace(ledger, self._record.job, self._record.retrain_id)

    def go(self, cancellation: Cancellation, term_seconds: float) -> RetrainRecord:
        """From the start to the end, in the ledger."""
        began = monotonic()
        self._ledger.start_retrain(self._record)
        limit = self._settings.timeout
        self._late = f"timeout: training and comparing took longer than retrain.timeout ({limit:g} s)"
        try:
            with time_limit(limit, cancellation, reason=self._late):
                self._execute(cancellation, term_seconds)
        finally:
            self._place.remove()
        self._look_at_the_model()
        # Not the wall clock: it may have stepped back since the start.
        ended = replace(self._record, finished_at=self._record.started_at + monotonic() - began)
        self._ledger.finish_retrain(ended, self._in_place)
        if ended.outcome is RetrainOutcome.PROMOTED:
            prune(self._ledger, ended.job, self._file, keep=self._settings.keep)
        return ended

    def _execute(self, cancellation: Cancellation, term_seconds: float) -> None:
        try:
            self._attempt(cancellation, term_seconds)
        except LedgerError:
            raise  # there is nowhere to record a failure
        except Cancelled as error:
            late = cancellation.reason == self._late  # that is the training's own doing; to be stopped is not
            self._end(RetrainOutcome.FAILED if late else RetrainOutcome.STOPPED, str(error))
        except BatchgaugeError as error:
            self._end(RetrainOutcome.FAILED, str(error))
        except OSError as error:
            self._end(RetrainOutcome.FAILED, f"{error.filename or self._place.folder}: {error.strerror or error}")
        except SystemExit as error:
            self._end(RetrainOutcome.FAILED, f"the model's code called sys.exit({error.code!r}); it must raise an error")
        except MemoryError:
            self._end(RetrainOutcome.FAILED, "out of memory while the models were compared")
        except Exception:  # noqa: BLE001  a model's code may raise anything, and the retraining must still be recorded
            self._end(RetrainOutcome.FAILED, f"unexpected error:\n{traceback.format_exc()}")

    def _look_at_the_model(self) -> None:
        """Say so if it was changed though nothing was put in place."""
        before, outcome = self._record.before, self._record.outcome
        if before is None or outcome is None or outcome is RetrainOutcome.PROMOTED:
            return
        try:
            unchanged = versions.digest(self._file) == before.sha256
        except BatchgaugeError:
            unchanged = False
        if not unchanged:
            culprit = "by the training function itself, unless somebody has replaced it"
            self._end(outcome, f"{self._record.reason}\nmodel {self._file} was changed meanwhile: {culprit}")

    def _end(self, outcome: RetrainOutcome, reason: str) -> None:
        self._record = replace(self._record, outcome=outcome, reason=storable(reason))

    def _attempt(self, cancellation: Cancellation, term_seconds: float) -> None:
        # What can be known before training is asked before training.
        versions.check_replaceable(self._file)
        data = split(self._spec, self._settings, self._record.logical_date)
        self._place.make()
        training = self._training(data)
        champion = self._champion(training.champion)
        self._record = replace(self._record, before=champion)
        self._ledger.update_retrain(self._record)
        task = Task(self._settings.entrypoint, self._spec.folder, training)
        train(task, log=self._place.log, cancellation=cancellation, term_seconds=term_seconds)
        if versions.digest(training.candidate) == champion.sha256:
            self._end(RetrainOutcome.REFUSED, "training wrote the champion again, bit by bit: there is nothing to compare")
            return
        self._judge(training.candidate, champion, data, cancellation)

    def _training(self, data: Split) -> Training:
        name = f"{self._record.job}\0{self._record.logical_date}".encode(errors="surrogatepass")
        return Training(
            job=self._record.job,
            root=self._spec.root,
            logical_date=self._record.logical_date,
            labelled=data.learn,
            champion=self._place.folder / f"champion{self._file.suffix}",
            candidate=self._place.scratch / f"candidate{self._file.suffix}",
            seed=int.from_bytes(hashlib.sha256(name).digest()[:4]),
        )

    def _champion(self, copy: Path) -> ModelId:
        """Which model is in use, and a copy of it for training: a function that writes there by mistake does no harm."""
        shutil.copyfile(self._file, copy)
        sha256 = versions.digest(copy)
        known = versions.version_of(self._file, sha256)
        return ModelId(known.version if known else self._spec.model.version, sha256)

    def _judge(self, candidate: Path, champion: ModelId, data: Split, cancellation: Cancellation) -> None:
        """Compare, and put the candidate in place if it is better."""
        from pipelines.comparison import Limits, judge  # noqa: PLC0415  training is started before torch is
        from pipelines.trial import compare  # noqa: PLC0415

        trial = compare(
            self._spec, candidate, data.exams, folder=self._spec.folder, cores=available_cores(), cancellation=cancellation
        )
        if trial.champion.sha256 != champion.sha256:
            raise ModelError(f"model {self._file}: was replaced by somebody else while the candidate was trained, and stays")
        thresholds = self._spec.thresholds
        verdict = judge(trial.contests, Limits(thresholds.accuracy, thresholds.recall), margin=self._settings.margin)
        called = f"{self._spec.model.version}+{self._record.logical_date}.{trial.candidate.sha256[:8]}"
        after = ModelId(called, trial.candidate.sha256)
        reason = "\n".join(verdict.reasons)
        self._record = replace(self._record, figures=_figures(verdict, data), reason=reason)
        if verdict.promote and not self._dry_run:
            if cancellation.requested:
                raise Cancelled(cancellation.reason or "cancelled")
            put_in_place(self._ledger, self._record, Move(candidate, champion, after, self._description(champion, after)))
            self._in_place = InPlace(replace(trial.candidate, version=after.version), trial.judged)
        self._record = replace(self._record, after=after)
        if self._dry_run:
            self._end(RetrainOutcome.DRY_RUN, f"would be {'promoted' if verdict.promote else 'refused'}: {reason}")
        else:
            self._end(RetrainOutcome.PROMOTED if verdict.promote else RetrainOutcome.REFUSED, reason)

    def _description(self, champion: ModelId, after: ModelId) -> Version:
        return Version(
            version=after.version,
            sha256=after.sha256,
            parent_version=champion.version,
            parent_sha256=champion.sha256,
            trained_at=datetime.now(UTC),
            retrain_id=self._record.retrain_id,
        )


def _figures(verdict: Verdict, data: Split) -> dict[str, Any]:
    """What the verdict rests on, as JSON has it."""
    figures: dict[str, Any] = to_jsonable_python({"holdouts": verdict.wholes, "harmed": verdict.harmed})
    judged_from = None if data.judged_from is None else str(data.judged_from)
    learned = sum(map(len, data.learn.values()))
    return figures | {"slices": verdict.slices, "judged_from": judged_from, "labelled_files_learned_from": learned}
