"""Where a model computes: what is submitted ahead, and memory that is still being read.

Where there is no accelerator, nothing here shows that CUDA does as it is told: only what it is told, and in which order.
The last tests are for machines that have one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from pipelines import devices
from pipelines.devices import Call, Computed, Cuda, Host, Inputs, Staging, find, mapped, tensors
from pipelines.errors import ModelError
from tests.test_scoring import folder, make, oracle, rows, score, scored, valid, with_flaws, write

__all__ = ["folder"]


SECONDS = 1_000.0
"""What each batch takes, by the clock of the device below."""


class Late:
    """A device that does nothing until it must: inputs are copied when their block is wanted, or the batch is collected."""

    torch = torch.device("cpu")
    ahead = 1

    def __init__(self, *, blocks: int = 2, keeps: bool = True, most: int = 1_000_000, fails: bool = False) -> None:
        self.calls: defaultdict[int, list[str]] = defaultdict(list)
        self.freed = 0
        self._blocks, self._keeps, self._most, self._fails = blocks, keeps, most, fails

    def staging(self, dtype: np.dtype[Any]) -> Staging:
        self._staging = Staging(dtype, blocks=self._blocks)
        return self._staging

    def submit(self, call: Call, inputs: Inputs) -> LateBatch:
        count = len(tensors(inputs)[0])
        if count > self._most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        calls = self.calls[get_ident()]
        calls.append(f"submit {count}")
        batch = LateBatch(call, inputs, lambda: calls.append(f"collect {count}"), fails=self._fails)
        if self._keeps:
            self._staging.keep_until(batch.copy)
        return batch

    def free_memory(self) -> None:
        self.freed += 1

    def memory_peak_bytes(self) -> int | None:
        return None


class LateBatch:
    def __init__(self, call: Call, inputs: Inputs, collected: Callable[[], None], *, fails: bool) -> None:
        self._call, self._inputs, self._collected, self._fails = call, inputs, collected, fails
        self._there: Inputs | None = None

    def copy(self) -> Inputs:
        if self._there is None:
            self._there = mapped(torch.clone, self._inputs)
        return self._there

    def collect(self) -> Computed:
        if self._fails:
            raise RuntimeError("CUDA error: device-side assert triggered")
        self._collected()
        return Computed(self._call(self.copy()), SECONDS)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[devices.Device], None]:
    """Have models run on this device."""
    return lambda device: monkeypatch.setattr(devices, "find", lambda _: device)


def test_the_next_batch_is_submitted_before_this_one_is_waited_for(
    folder: Path, tmp_path: Path, on: Callable[[devices.Device], None]
) -> None:
    """One is under way while another is collected, never more; the seconds are the device's."""
    on(late := Late())
    write(tmp_path, rows(230))
    (report,) = score(make(folder, tmp_path), tmp_path)
    (calls,) = late.calls.values()
    assert calls == [
        *("submit 64", "submit 64", "collect 64", "submit 64", "collect 64", "submit 38", "collect 64", "collect 38")
    ]
    assert [batch.rows for batch in report.batches] == [64, 64, 64, 38]
    assert all(SECONDS <= batch.latency_seconds < 2 * SECONDS for batch in report.batches)


def test_the_host_has_one_batch_at_a_time(
    folder: Path, tmp_path: Path, on: Callable[[devices.Device], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gains nothing by more, and one block stays in its cache. Through the very same code."""
    late = Late(blocks=1, keeps=False)
    monkeypatch.setattr(late, "ahead", Host.ahead, raising=False)
    on(late)
    table = rows(230)
    write(tmp_path, table)
    score(make(folder, tmp_path), tmp_path)
    (calls,) = late.calls.values()
    assert calls == [word for size in (64, 64, 64, 38) for word in (f"submit {size}", f"collect {size}")]
    assert scored(tmp_path)["prediction"].to_pylist() == oracle(table).argmax(dim=1).tolist()


@pytest.mark.parametrize(("blocks", "keeps", "right"), [(2, True, True), (2, False, True), (1, True, True), (1, False, False)])
@pytest.mark.parametrize("kind", ["scalars", "lists"])
def test_memory_is_not_overwritten_while_it_is_read(
    folder: Path, tmp_path: Path, on: Callable[[devices.Device], None], kind: str, blocks: int, *, keeps: bool, right: bool
) -> None:
    """Two blocks, or one that is waited for, with several threads; what would be if neither held is seen here."""
    on(Late(blocks=blocks, keeps=keeps))
    table = rows(4_000)
    columns = [table[name].to_numpy() for name in ("x0", "x1", "x2")]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.stack(columns, axis=1).reshape(-1)), 3)
    write(tmp_path, table if kind == "scalars" else table.select(["id"]).append_column("x", lists), group=200)
    score(make(folder, tmp_path), tmp_path, part_rows=200, workers=4)
    assert scored(tmp_path)["id"].to_pylist() == [*range(4_000)]
    assert (scored(tmp_path)["prediction"].to_pylist() == oracle(table).argmax(dim=1).tolist()) == right


def test_rows_without_a_prediction_are_told_apart_on_a_device_too(
    folder: Path, tmp_path: Path, on: Callable[[devices.Device], None]
) -> None:
    """Batches of nothing but invalid rows never reach it, and stay in their place."""
    on(late := Late())
    table = with_flaws(rows(230))
    empty = table.slice(64, 64).set_column(1, "x0", pa.nulls(64, pa.float32()))
    table = pa.concat_tables([table.slice(0, 64), empty, table.slice(128)])
    write(tmp_path, table)
    (report,) = score(make(folder, tmp_path), tmp_path)
    kept = table.filter(pa.array(valid(table)))
    assert scored(tmp_path)["id"].to_pylist() == kept["id"].to_pylist()
    assert scored(tmp_path)["prediction"].to_pylist() == oracle(kept).argmax(dim=1).tolist()
    (calls,) = late.calls.values()
    assert sum(word.startswith("submit") for word in calls) == len(report.batches) == 3


def test_what_is_under_way_is_collected_before_a_batch_that_did_not_fit_is_tried_again(
    folder: Path, tmp_path: Path, on: Callable[[devices.Device], None]
) -> None:
    """Its memory is needed; predictions stay in order."""
    on(late := Late(most=20))
    table = rows(120)
    holes = pa.array(table["x0"].to_numpy(), mask=(np.arange(120) < 60) & (np.arange(120) % 2 == 0))
    table = table.set_column(1, "x0", holes)
    write(tmp_path, table)
    (report,) = score(make(folder, tmp_path, batch_rows=30), tmp_path)
    (calls,) = late.calls.values()
    # 15 of 30 rows are valid, twice; then 30 are, which is too many.
    assert calls[:6] == ["submit 15", "submit 15", "collect 15", "collect 15", "submit 15", "submit 15"]
    kept = table.filter(pc.is_valid(table["x0"]))
    assert scored(tmp_path)["id"].to_pylist() == kept["id"].to_pylist()
    assert scored(tmp_path)["prediction"].to_pylist() == oracle(kept).argmax(dim=1).tolist()
    assert (late.freed, report.batches_out_of_memory, len(report.batches)) == (1, 1, 6)


def test_an_error_that_a_device_reports_late_is_the_models(
    folder: Path, tmp_path: Path, on: Callable[[devices.Device], None]
) -> None:
    """With where to look for it."""
    on(Late(fails=True))
    write(tmp_path, rows(10))
    with pytest.raises(ModelError, match=r"failed on cpu: RuntimeError: CUDA error: .*CUDA_LAUNCH_BLOCKING=1"):
        score(make(folder, tmp_path), tmp_path)


def test_each_thread_has_blocks_of_its_own_that_grow() -> None:
    """The one that was filled longest ago is given out, once its reader has said that it's over."""
    said: list[str] = []
    staging = Staging(np.dtype(np.float32), blocks=2)
    first = staging.shaped(2, 3)
    staging.keep_until(lambda: said.append("first"))
    second = staging.shaped(4, 5)
    assert (first.shape, second.shape, said) == ((2, 3), (4, 5), [])
    again = staging.shaped(1, 6)
    assert np.shares_memory(again, first)
    assert said == ["first"]
    assert not np.shares_memory(staging.shaped(4, 5), again)
    assert said == ["first"]


class Recorder:
    """Stands in for CUDA's streams and events on a machine without: it notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._events = 0

    def stream(self, name: str) -> Stream:
        return Stream(self, name)

    def event(self, *, enable_timing: bool, blocking: bool) -> Event:
        assert enable_timing
        assert blocking
        self._events += 1
        return Event(self, self._events)

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        self.told.append(f"on {stream.name}")
        yield
        self.told.append(f"off {stream.name}")

    def to(self, tensor: torch.Tensor, *, non_blocking: bool = False) -> torch.Tensor:
        if not non_blocking:
            return tensor
        self.told.append("copies there")
        return tensor.clone()

    def copy_back(self, host: torch.Tensor, output: torch.Tensor, *, waits: bool) -> None:
        assert not waits
        self.told.append("copies back")
        host[...] = output


class Stream(NamedTuple):
    recorder: Recorder
    name: str

    def wait_event(self, event: Event) -> None:
        self.recorder.told.append(f"{self.name} waits for event {event.number}")


class Event(NamedTuple):
    recorder: Recorder
    number: int

    def record(self, stream: Stream) -> None:
        self.recorder.told.append(f"{stream.name} records event {self.number}")

    def synchronize(self) -> None:
        self.recorder.told.append(f"host waits for event {self.number}")

    def elapsed_time(self, end: Event) -> float:
        assert end.number > self.number
        return 500.0


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: recorder.stream("copying"))
    monkeypatch.setattr(torch.cuda, "Event", recorder.event)
    monkeypatch.setattr(torch.cuda, "stream", recorder.on)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: recorder.stream("computing"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, used: recorder.told.append(f"{used.name} uses inputs"))
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **named: recorder.to(tensor, **named))
    monkeypatch.setattr(
        torch.Tensor, "copy_", lambda *tensors, non_blocking: recorder.copy_back(*tensors, waits=not non_blocking)
    )
    monkeypatch.setattr(devices, "_pinned", np.empty)
    monkeypatch.setattr(devices, "_pinned_like", torch.empty_like)
    return recorder


def test_cuda_is_told_to_copy_beside_computing(recorder: Recorder) -> None:
    """Copied on a stream of its own; computed when the copy is there; waited for only where a batch or its block is wanted."""
    cuda = Cuda(torch.device("cpu"))
    staging = cuda.staging(np.dtype(np.float32))

    def call(inputs: Inputs) -> torch.Tensor:
        recorder.told.append("computes")
        return tensors(inputs)[0] * 2

    def submit(value: float) -> devices.Pending:
        block = staging.shaped(2, 3)
        block[:] = value
        return cuda.submit(call, (torch.from_numpy(block).T,))

    first = submit(1.0)
    assert recorder.told == [
        *("on copying", "copying records event 1", "copies there", "copying records event 2", "off copying"),
        *("computing waits for event 2", "computing uses inputs", "computing records event 3", "computes", "copies back"),
        "computing records event 4",
    ]
    recorder.told.clear()
    second = submit(2.0)
    assert not any(word.startswith("host waits") for word in recorder.told)
    recorder.told.clear()
    output, seconds = first.collect()
    assert (output.tolist(), seconds, recorder.told) == ([[2.0, 2.0]] * 3, 1.0, ["host waits for event 4"])
    recorder.told.clear()
    third = submit(3.0)
    assert recorder.told[0] == "host waits for event 2"  # its block is filled again
    assert [pending.collect().output.tolist() for pending in (second, third)] == [[[4.0, 4.0]] * 3, [[6.0, 6.0]] * 3]


def test_a_device_that_is_not_there_is_named() -> None:
    """The CPU always is."""
    assert isinstance(find("cpu"), Host)
    with pytest.raises(ModelError, match=r"model\.device is 'cuda:99', but this machine has \d+ cuda devices"):
        find("cuda:99")


on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@on_cuda
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_cuda_device_gives_what_the_host_gives(folder: Path, tmp_path: Path, workers: int, precision: str) -> None:
    """For every row, whatever the size of its batch; with a latency, and memory that was used."""
    table = with_flaws(rows(20_000))
    write(tmp_path, table, group=2_000)
    scorer = make(folder, tmp_path, model_device="cuda", model_precision=precision, batch_rows=300)
    reports = score(scorer, tmp_path, part_rows=2_000, workers=workers)
    kept = table.filter(pa.array(valid(table)))
    assert scored(tmp_path)["id"].to_pylist() == kept["id"].to_pylist()
    tolerance = 1e-4 if precision == "float32" else 2e-2
    np.testing.assert_allclose(scored(tmp_path)["score"].to_numpy(), oracle(kept).max(dim=1).values.numpy(), rtol=tolerance)
    assert all(batch.latency_seconds > 0 for report in reports for batch in report.batches)
    assert (scorer.accelerator_memory_peak_bytes() or 0) > 0


@on_cuda
def test_a_cuda_device_that_runs_out_of_memory_goes_on(folder: Path, tmp_path: Path) -> None:
    """For real: the model asks for more than any device has, above a few rows."""
    table = rows(1_000)
    write(tmp_path, table)
    scorer = make(folder, tmp_path, model_device="cuda", model_factory="net.py:Enormous")
    (report,) = score(scorer, tmp_path)
    assert scored(tmp_path)["prediction"].to_pylist() == oracle(table).argmax(dim=1).tolist()
    assert (scorer.batch_rows, report.batches_out_of_memory) == (16, 2)
