"""Which configurations are measured, in which order, and for how long: a few seconds must do.

Here is no model and no thread: a `Try` runs one configuration for a while, and a clock says what time it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipelines.errors import ModelError
from pipelines.measuring import SIZES, Comparison, Configuration, Measurement, Trial, fastest
from pipelines.report import exact_quantiles
from pipelines.tuning import WORTH_WHILE

Try = Callable[[Configuration, float], Trial]
"""Runs a configuration for about so many seconds, but each of its workers for one batch at least."""

_MOST_ROUNDS = 15
_FEW_ROUNDS = 3
"""What is measured in rounds is chosen so that there is time for as many as these."""
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.05, 0.4
"""What one try gets, unless one batch takes longer."""
_FELL_BEHIND = 0.8
"""A larger batch this much slower than the best so far ends the climb at once: the next might not even fit into memory."""
_PATIENCE = 2
"""So many larger batches in succession that don't pay end the climb."""


@dataclass(frozen=True, slots=True)
class Climb:
    """Configurations that differ in their rows alone; `most_rows` is as many as a batch can have on the job's data."""

    device: str
    workers: int
    kernel_threads: int
    most_rows: int

    def steps(self) -> tuple[Configuration, ...]:
        """`SIZES`, fewest rows first; where there are fewer rows than the first size, all of them are one batch."""
        return tuple(map(self.step, [size for size in SIZES if size <= self.most_rows] or [self.most_rows]))

    def step(self, rows: int) -> Configuration:
        """The one with so many rows to a batch."""
        return Configuration(self.device, rows, self.workers, self.kernel_threads)


@dataclass(slots=True)
class Survey:
    """Configurations on their way through scouting, rounds and a duel.

    `current` is what is set now. `limit_seconds` bounds what is looked for (see `Measurement.within`). `watch` hears what is
    tried next. `failures` says why the model could not run in a configuration (for want of memory, say); `unaffordable` are
    those that would have taken too long.
    """

    run: Try
    current: Configuration
    clock: Callable[[], float]
    limit_seconds: float | None = None
    watch: Callable[[Configuration], None] = lambda _: None
    failures: dict[Configuration, str] = field(default_factory=dict)
    unaffordable: list[Configuration] = field(default_factory=list)
    _scouted: dict[Configuration, Trial] = field(default_factory=dict)
    _rounds: dict[Configuration, list[Trial]] = field(default_factory=dict)
    _took: dict[Configuration, float] = field(default_factory=dict)  # all of the latest trial, what isn't timed included

    def scout(self, climbs: Sequence[Climb], seconds: float) -> None:
        """Try what is set now, and each climb upwards while that pays and the time allows; then what lies beside the best.

        Raises `ModelError` when the model can't run as it is set now.
        """
        until = self.clock() + seconds
        self._scouted[self.current] = self._run(self.current, _SHORTEST_SECONDS)
        for position, climb in enumerate(climbs):
            now = self.clock()
            self._climb(climb, now + (until - now) / (len(climbs) - position))
        self._shrink()
        best = self.fastest().configuration
        for climb in climbs:
            if climb.step(best.rows) == best:
                self._look_beside(best, climb, until)

    def measure(self, seconds: float) -> None:
        """Run the promising ones in rounds, one after the other in each, so that what slows the machine slows all of them.

        Those for which there is no time in all rounds drop out, the slowest first.
        """
        until = self.clock() + seconds
        chosen = self._promising(seconds / _FEW_ROUNDS)
        spare = seconds / _FEW_ROUNDS - sum(self._took[one] for one in chosen)
        slot = _slot(_SHORTEST_SECONDS + spare / len(chosen))
        for done in range(1, _MOST_ROUNDS + 1):
            for configuration in chosen if done % 2 else reversed(chosen):  # so that none always follows the same
                self._rounds.setdefault(configuration, []).append(self._run(configuration, slot))
            left = until - self.clock()
            chosen = self._promising(left / max(1, _FEW_ROUNDS - done))
            if self._took[self.current] > left:
                return

    def duel(self, challenger: Configuration, seconds: float) -> Comparison:
        """Run the challenger and what is set now in turns, once more."""
        until = self.clock() + seconds
        slot = _slot(seconds / _MOST_ROUNDS / 2)
        ratios: list[float] = []
        for done in range(_MOST_ROUNDS):
            began = self.clock()
            pair = (challenger, self.current) if done % 2 else (self.current, challenger)
            speeds = {configuration: self._run(configuration, slot).rows_per_second for configuration in pair}
            ratios.append(speeds[challenger] / speeds[self.current])
            if self._too_late(began, until):
                break
        return Comparison(tuple(ratios))

    def measurements(self) -> tuple[Measurement, ...]:
        """All that was run, by device, workers and rows; what was in no round counts with the one time that it was tried."""
        found: dict[Configuration, tuple[Trial, ...]] = {one: (trial,) for one, trial in self._scouted.items()}
        found |= {one: tuple(trials) for one, trials in self._rounds.items()}
        ordered = sorted(found, key=lambda one: (one.device, one.workers, one.rows, one.kernel_threads))
        return tuple(Measurement(one, found[one]) for one in ordered)

    def fastest(self) -> Measurement:
        """The best so far; of those that were in more than one round, if any were."""
        found = self.measurements()
        return fastest([one for one in found if len(one.trials) > 1] or found, self.limit_seconds)

    def _run(self, configuration: Configuration, seconds: float) -> Trial:
        self.watch(configuration)
        began = self.clock()
        trial = self.run(configuration, seconds)
        self._took[configuration] = self.clock() - began
        return trial

    def _scout(self, configuration: Configuration) -> Trial | None:
        """Its first trial; None when the model can't run so."""
        if configuration not in self._scouted:
            try:
                self._scouted[configuration] = self._run(configuration, _SHORTEST_SECONDS)
            except ModelError as error:
                self.failures[configuration] = str(error)
                return None
        return self._scouted[configuration]

    def _climb(self, climb: Climb, until: float) -> None:
        best, unpaid = 0.0, 0
        last: Trial | None = None
        for step in climb.steps():
            if last is not None and not self._affordable(step, last, until):
                self.unaffordable.append(step)
                return
            trial = last = self._scout(step)
            if trial is None or trial.rows_per_second < best * _FELL_BEHIND or self._too_slow(trial):
                return
            unpaid = 0 if trial.rows_per_second * WORTH_WHILE > best else unpaid + 1
            best = max(best, trial.rows_per_second)
            if unpaid == _PATIENCE:
                return

    def _look_beside(self, best: Configuration, climb: Climb, until: float) -> None:
        """Half and double the best one's rows."""
        like = self._scouted[best]
        for rows in (best.rows // 2, best.rows * 2):
            neighbour = climb.step(rows)
            if 0 < rows <= climb.most_rows and self._affordable(neighbour, like, until):
                self._scout(neighbour)

    def _shrink(self) -> None:
        """Where even the quickest batch is above the limit: fewer rows, until one is within it or has one row."""
        quickest = self.fastest()
        while self.limit_seconds is not None and not quickest.within(self.limit_seconds) and quickest.configuration.rows > 1:
            one = quickest.configuration
            fitting = int(one.rows * self.limit_seconds / quickest.batch_seconds[1])
            rows = 2 ** (max(1, min(fitting, one.rows // 2)).bit_length() - 1)
            smaller = Configuration(one.device, rows, one.workers, one.kernel_threads)
            trial = self._scout(smaller)
            if trial is None:
                return
            quickest = Measurement(smaller, (trial,))

    def _too_slow(self, trial: Trial) -> bool:
        """Whether larger batches would be even further above the limit."""
        return self.limit_seconds is not None and exact_quantiles(trial.latencies, (0.95,))[0.95] > self.limit_seconds

    def _affordable(self, configuration: Configuration, like: Trial, until: float) -> bool:
        """Whether a try, at the speed of another, would be over by then."""
        return self.clock() + _seconds(configuration, like, _SHORTEST_SECONDS) <= until

    def _promising(self, seconds: float) -> list[Configuration]:
        """What is set now, and as many of the others, the fastest within the limit first, as there is time for."""

        def rank(one: Measurement) -> tuple[bool, bool, float]:
            return one.configuration != self.current, not one.within(self.limit_seconds), -one.rows_per_second

        chosen: list[Configuration] = []
        for one in sorted(self.measurements(), key=rank):
            seconds -= self._took[one.configuration]
            if seconds < 0 and chosen:
                break
            chosen.append(one.configuration)
        return chosen

    def _too_late(self, began: float, until: float) -> bool:
        """Whether another round like the one that began then would last too long."""
        now = self.clock()
        return now + (now - began) > until


def _slot(seconds: float) -> float:
    return min(max(seconds, _SHORTEST_SECONDS), _LONGEST_SECONDS)


def _seconds(configuration: Configuration, like: Trial, slot: float) -> float:
    """What a try will take: a batch that doesn't count, and then the slot or one batch."""
    batch = configuration.rows * configuration.workers / like.rows_per_second
    return batch + max(slot, batch)
