"""Compute-bound jobs on a CUDA device. This code has never run on one: its figures say "not measured" everywhere so far."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch

from benchmarks import job_runs
from benchmarks.forward_only import FORWARD_ONLY
from benchmarks.rounds import Contender, Timing, of
from benchmarks.workload import Shape, Workload
from monitoring.server import Server

DEVICE = "cuda"
SHAPES = (
    Shape("MLP 32-1024-1024-2 on CUDA", model="wide_mlp"),
    Shape("larger transformer on CUDA", model="larger_transformer", images=True, group_rows=16_384, rows_divisor=16),
)
IN_TURN = "copy, then forward"
BATCH_SIZES = (1_024, 4_096, 16_384, 65_536)
_TRIED_BATCHES = 8


def missing() -> str:
    """Why nothing can be measured; empty where there is a device."""
    return "" if torch.cuda.is_available() else "not measured: no CUDA device here"


def contenders(workload: Workload, gateway: Server) -> tuple[Contender, ...]:
    """batchgauge, the model alone on the device, and batches that are copied, inferred and copied back one after the other."""
    name = workload.shape.name
    sizes = ", ".join(f"{size:,}" for size in BATCH_SIZES)
    return (
        job_runs.monitored(workload, gateway, of(job_runs.MONITORED, name), device=DEVICE),
        _contender(workload, FORWARD_ONLY, f"the best of batches of {sizes}, on the device already", _forward),
        _contender(workload, IN_TURN, f"the best of batches of {sizes}, pinned; the device waited for each time", _in_turn),
    )


def absent(shape: Shape) -> tuple[Contender, ...]:
    """The same where there is no device: nothing is made for them, and they say why they can't run."""
    names = (job_runs.MONITORED, FORWARD_ONLY, IN_TURN)
    return tuple(Contender(of(name, shape.name), "", _never, missing=missing()) for name in names)


def _never() -> Timing:
    raise AssertionError("there is no device")


Infer = Callable[[torch.nn.Module, torch.Tensor, int], None]


def _contender(workload: Workload, name: str, settings: str, infer: Infer) -> Contender:
    return Contender(of(name, workload.shape.name), settings, partial(_best, workload, infer))


def _best(workload: Workload, infer: Infer) -> Timing:
    model = workload.model().to(DEVICE)
    sizes = [size for size in BATCH_SIZES if size <= workload.rows] or [workload.rows]
    size = min(sizes, key=lambda size: _seconds(workload, model, infer, size, _TRIED_BATCHES) / size)
    batches = max(1, round(workload.rows / size))
    seconds = _seconds(workload, model, infer, size, batches) * workload.rows / (batches * size)
    return Timing(seconds, seconds, size)


def _seconds(workload: Workload, model: torch.nn.Module, infer: Infer, size: int, batches: int) -> float:
    batch = workload.batch(size).contiguous().pin_memory()
    with torch.inference_mode():
        infer(model, batch, 1)
        torch.cuda.synchronize()
        started = perf_counter()
        infer(model, batch, batches)
        torch.cuda.synchronize()
        return perf_counter() - started


def _forward(model: torch.nn.Module, batch: torch.Tensor, batches: int) -> None:
    ready = batch.to(DEVICE)
    for _ in range(batches):
        model(ready)


def _in_turn(model: torch.nn.Module, batch: torch.Tensor, batches: int) -> None:
    for _ in range(batches):
        model(batch.to(DEVICE)).cpu()
