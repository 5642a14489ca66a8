"""Ray Data's `map_batches` as a contender, in processes of its own: `python -m benchmarks.ray_data FOLDER ROWS OUTPUT`.

Settings, as tried on two cores: an actor for each core with one kernel thread; half a core asked for each, since Ray Data
reads with what is left, and waits for ever if nothing is (asking for none was a third slower: more readers than cores);
whole blocks as zero-copy numpy batches, scored in slices of 4,096 (a `batch_size` of 4,096 took two thirds longer, one of
16,384 as long); a block for each row group (the four that it takes by itself were a quarter slower); zstd as everybody;
files flushed to disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.rounds import Contender, RunFailed, Timing
from benchmarks.workload import FEATURES, Workload
from monitoring.resources import available_cores

RAY_DATA, BESIDE_RAY = "Ray Data", "batchgauge, beside Ray Data"
BATCH_ROWS = 4096
_START_SECONDS = 120


def ray_data(workload: Workload) -> Contender:
    """All rows by `map_batches`, timed from when its actors are ready: Ray's start, imports and model are not in it."""
    settings = (
        f"{available_cores()} actors of one kernel thread, whole blocks as zero-copy numpy, slices of 4,096, a block for each "
        "row group, write_parquet, fsync; timed from when the actors are ready"
    )
    missing = "" if find_spec("ray") else "not measured: Ray is not installed; pip install 'batchgauge[ray]'"
    return Contender(RAY_DATA, settings, lambda: _run(workload), missing=missing)


def _run(workload: Workload) -> Timing:
    output = workload.output(RAY_DATA)
    output.mkdir(parents=True, exist_ok=True)
    for file in output.iterdir():
        file.unlink()
    started = perf_counter()
    arguments = (workload.folder, workload.rows, workload.group_rows, output)
    command = [sys.executable, "-m", "benchmarks.ray_data", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RunFailed(f"Ray Data: {done.stderr.strip()[-2_000:]}")
    return Timing(json.loads(done.stdout.splitlines()[-1]), perf_counter() - started, BATCH_ROWS)


class _Score:
    """An actor: the model, and one block after another. Says in a file when it was ready."""

    def __init__(self, workload: Workload, ready: Path) -> None:
        torch.set_num_threads(1)
        self._model = workload.model()
        (ready / str(os.getpid())).write_text(str(monotonic()))

    def __call__(self, block: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Id, prediction and score of a block's rows."""
        scores = np.empty(len(block["id"]), np.float32)
        columns = [block[name] for name in FEATURES]
        with torch.inference_mode():
            for first in range(0, len(scores), BATCH_ROWS):
                batch = slice(first, first + BATCH_ROWS)
                features = np.stack([column[batch] for column in columns], axis=1)
                scores[batch] = torch.softmax(self._model(torch.from_numpy(features)), dim=1)[:, 1].numpy()
        return {"id": block["id"], "prediction": (scores >= 0.5).astype(np.int64), "score": scores}  # noqa: PLR2004


def main(workload: Workload, output: Path) -> float:
    """The seconds from when all actors were ready to the last file's flush."""
    import ray  # noqa: PLC0415  only this process needs it
    from ray.data import ActorPoolStrategy, DataContext  # noqa: PLC0415

    cores = available_cores()
    ready = output.parent / f"{output.name} ready {os.getpid()}"
    ready.mkdir()
    ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.wait_for_min_actors_s = _START_SECONDS  # nothing is read before they are ready
    blocks = -(-workload.rows // workload.group_rows)
    dataset = ray.data.read_parquet(str(workload.folder / "input"), override_num_blocks=blocks)
    dataset = dataset.map_batches(
        _Score,
        fn_constructor_args=(workload, ready),
        batch_size=None,
        batch_format="numpy",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(size=cores),
        num_cpus=0.5,
    )
    dataset.write_parquet(str(output), compression="zstd")
    for file in output.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    ended = monotonic()
    return ended - max(float(mark.read_text()) for mark in ready.iterdir())


if __name__ == "__main__":
    folder, rows, group_rows, output = sys.argv[1:]
    print(json.dumps(main(Workload(Path(folder), int(rows), int(group_rows)), Path(output))))
