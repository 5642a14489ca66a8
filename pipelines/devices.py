"""Where a model computes: on the host, in step with it, or on a CUDA device that works on one batch while the next is prepared.

A batch is submitted and later collected. What lies between is the device's: only collecting waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from pipelines.errors import ModelError

Array = np.ndarray[Any, Any]
Inputs = tuple[torch.Tensor, ...] | dict[str, torch.Tensor]
Call = Callable[[Inputs], torch.Tensor]
"""The model: inputs on the device to output on the device."""


class Computed(NamedTuple):
    """A batch's output, on the host, and the seconds that it took to copy it there and back and to compute it."""

    output: torch.Tensor
    seconds: float


class Pending(Protocol):
    """A batch that was submitted."""

    def collect(self) -> Computed:
        """Wait for it. Raises whatever went wrong on the device."""


class Device(Protocol):
    """A device, shared by all threads. `torch` is its name there; so many batches are submitted `ahead` of one's collecting."""

    torch: torch.device
    ahead: int

    def staging(self, dtype: np.dtype[Any]) -> Staging:
        """Memory to prepare batches in. One for a device: submitting keeps the block that its thread filled last."""

    def submit(self, call: Call, inputs: Inputs) -> Pending:
        """Begin with inputs that lie on the host; they may be overwritten once their block can be had again.

        Raises whatever the model raises, and torch's errors where memory can't be had.
        """

    def free_memory(self) -> None:
        """Give back what is kept for later batches, after one that didn't fit."""

    def memory_peak_bytes(self) -> int | None:
        """The most memory that this process had allocated there; None where nobody counts it."""


_CACHED_VALUES = 2**17
"""As many as a core's own cache holds beside what the model works with: half a megabyte of float32."""


class Staging(threading.local):
    """Memory that each thread uses for one batch after the other. A model may write to it: it is nobody's data.

    A block may hold several small batches: so many as have `together` values.
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        *,
        blocks: int = 1,
        together: int = 0,
        allocate: Callable[[int, np.dtype[Any]], Array] = np.empty,
    ) -> None:
        self.dtype = dtype
        self.together = together
        self._allocate = allocate
        self._blocks = [_Block(np.empty(0, dtype)) for _ in range(blocks)]

    def shaped(self, rows: int, columns: int) -> Array:
        """A [rows, columns] block, with whatever was in it: the one that was filled longest ago, when nothing reads it."""
        block = self._blocks.pop(0)
        self._blocks.append(block)
        block.wait()
        if block.flat.size < rows * columns:
            block.flat = self._allocate(rows * columns, self.dtype)
        return block.flat[: rows * columns].reshape(rows, columns)

    def keep_until(self, wait: Callable[[], object]) -> None:
        """The block that this thread filled last is being read; `wait` returns when that is over."""
        self._blocks[-1].reader = wait


class _Block:
    def __init__(self, flat: Array) -> None:
        self.flat = flat
        self.reader: Callable[[], object] | None = None

    def wait(self) -> None:
        if self.reader is not None:
            self.reader()
            self.reader = None


def find(name: str) -> Device:
    """The device that a job names. Raises `ModelError` when this machine doesn't have it."""
    if name == "auto":
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    else:
        device = torch.device(name)
        count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
        if (device.index or 0) >= count:
            raise ModelError(
                f"model.device is {name!r}, but this machine has {count} {device.type} devices; use 'auto' or 'cpu'"
            )
    return Cuda(device) if device.type == "cuda" else Host(device)


class Host:
    """The CPU, and accelerators that torch drives in step with it: a batch is computed when it is submitted."""

    ahead = 0

    def __init__(self, device: torch.device) -> None:
        self.torch = device

    def staging(self, dtype: np.dtype[Any]) -> Staging:
        """As `Device.staging` promises: one block, so that it stays in the cache."""
        return Staging(dtype, together=_CACHED_VALUES)

    def submit(self, call: Call, inputs: Inputs) -> Pending:
        """As `Device.submit` promises."""
        started = perf_counter()
        there = inputs if self.torch.type == "cpu" else mapped(lambda tensor: tensor.to(self.torch), inputs)
        output = call(there).to("cpu")
        return _Done(Computed(output, perf_counter() - started))

    def free_memory(self) -> None:
        """As `Device.free_memory` promises; nothing is kept on the CPU."""
        if self.torch.type != "cpu":
            torch.accelerator.empty_cache()

    def memory_peak_bytes(self) -> int | None:
        """As `Device.memory_peak_bytes` promises."""
        return None


class _Done(NamedTuple):
    computed: Computed

    def collect(self) -> Computed:
        return self.computed


class Cuda:
    """A CUDA device: inputs are copied there on a stream of their thread's while its own stream computes the batch before.

    The model runs on the device's current stream, as its code may expect; that also keeps batches of several threads apart.
    """

    ahead = 1

    def __init__(self, device: torch.device) -> None:
        self.torch = device
        self._lane = _Lane(device)
        self._staging: Staging | None = None
        torch.cuda.reset_peak_memory_stats(device)  # what is reported is this model's, not its predecessor's

    def staging(self, dtype: np.dtype[Any]) -> Staging:
        """As `Device.staging` promises: pinned, and two blocks, as one is read while the next is filled."""
        self._staging = Staging(dtype, blocks=self.ahead + 1, allocate=_pinned)
        return self._staging

    @torch.inference_mode()
    def submit(self, call: Call, inputs: Inputs) -> Pending:
        """As `Device.submit` promises."""
        started, copied, begun, finished = (_event() for _ in range(4))
        copying, computing = self._lane.copying, torch.cuda.current_stream(self.torch)
        with torch.cuda.device(self.torch):
            with torch.cuda.stream(copying):
                started.record(copying)
                there = mapped(self._copied, inputs)
                copied.record(copying)
            if self._staging is not None:
                self._staging.keep_until(copied.synchronize)
            computing.wait_event(copied)
            for tensor in tensors(there):
                tensor.record_stream(computing)  # allocated on the other stream: not to be used again before this one is done
            begun.record(computing)
            output = call(there).to(self.torch)
            host = _pinned_like(output)
            host.copy_(output, non_blocking=True)
            finished.record(computing)
        return _Running(host, ((started, copied), (begun, finished)))

    def free_memory(self) -> None:
        """As `Device.free_memory` promises."""
        torch.cuda.empty_cache()

    def memory_peak_bytes(self) -> int | None:
        """As `Device.memory_peak_bytes` promises."""
        return torch.cuda.max_memory_allocated(self.torch)

    def _copied(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the device, soon. What is not in a pinned block gets one of torch's, kept by torch for as long as it is read."""
        if tensor.device.type == "cpu" and not tensor.is_pinned():
            tensor = tensor.pin_memory()
        return tensor.to(self.torch, non_blocking=True)


class _Lane(threading.local):
    """What each thread has of a device."""

    def __init__(self, device: torch.device) -> None:
        self.copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own


class _Running(NamedTuple):
    """The copy there and the computing, as pairs of events: what a batch waits for in between is not its own time."""

    output: torch.Tensor
    spans: tuple[tuple[torch.cuda.Event, torch.cuda.Event], ...]

    def collect(self) -> Computed:
        self.spans[-1][-1].synchronize()
        return Computed(self.output, sum(begin.elapsed_time(end) for begin, end in self.spans) / 1000)


def _event() -> torch.cuda.Event:
    """With a clock; who waits for it sleeps, and leaves the core to others."""
    return torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]  # torch's own


def _pinned(size: int, dtype: np.dtype[Any]) -> Array:
    return torch.empty(size, dtype=getattr(torch, dtype.name), pin_memory=True).numpy()


def _pinned_like(output: torch.Tensor) -> torch.Tensor:
    return torch.empty(output.shape, dtype=output.dtype, pin_memory=True)


def tensors(inputs: Inputs) -> tuple[torch.Tensor, ...]:
    """The tensors, without their names."""
    return tuple(inputs.values()) if isinstance(inputs, dict) else inputs


def mapped(function: Callable[[torch.Tensor], torch.Tensor], inputs: Inputs) -> Inputs:
    """The inputs with each tensor put through the function."""
    if isinstance(inputs, dict):
        return {name: function(tensor) for name, tensor in inputs.items()}
    return tuple(function(tensor) for tensor in inputs)
