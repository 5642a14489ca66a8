"""Whether a compiled model is worth it: measured beside the model as it is."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from pipelines.tuning import WORTH_WHILE

_TRIES = 5


def compiled_is_faster(infer: Callable[[bool], object], *, clock: Callable[[], float] = perf_counter) -> bool:
    """Whether a batch takes clearly less time compiled (`infer(True)`) than not, the best of a few tries each, in turns.

    The first of each, which compiles, is not timed. `clock` counts seconds. Raises what `infer` raises.
    """
    best = {True: float("inf"), False: float("inf")}
    for attempt in range(_TRIES + 1):
        for compiled, before in best.items():
            started = clock()
            infer(compiled)
            if attempt:
                best[compiled] = min(before, clock() - started)
    return best[True] < WORTH_WHILE * best[False]
