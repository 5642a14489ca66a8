"""Parts scored: against plain torch, conserved, whatever the split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # it publishes no types
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipelines.cancellation import Cancellation, Cancelled
from pipelines.engines import Function
from pipelines.engines.local import LocalEngine
from pipelines.errors import DataError, ModelError, OutOfMemoryError, UnreadableError
from pipelines.finding import find_files
from pipelines.inputs import Prepared
from pipelines.planning import Part, plan
from pipelines.report import PartReport, Reason, Stage
from pipelines.scoring import Scorer, _fingerprint
from pipelines.settings import BatchSettings, HoldoutSettings, InputSettings, ModelSettings, OutputSettings, PipelineSettings

FACTORY = '''
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 4)

    def forward(self, x):
        return self.layer(x)

class Unsure(Net):
    # Rows whose first feature is negative come out as NaN.
    def forward(self, x):
        return torch.where(x[:, :1] < 0, float("nan"), self.layer(x))

class Greedy(Net):
    """Has memory for 20 rows."""

    most = 20

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.layer(x)

class Greedier(Greedy):
    most = 0

class Scribbling(Net):
    """Writes to its inputs, and once runs out of memory after that."""

    failed = False

    def forward(self, x):
        x.mul_(2)
        if len(x) == 10 and not self.failed:
            self.failed = True
            raise MemoryError
        return self.layer(x)

class Roomy(Greedy):
    most = 3_000

class Enormous(Greedy):
    def forward(self, x):
        if len(x) > self.most:
            torch.empty(2**60, device=x.device)
        return self.layer(x)

class Listing(Greedy):
    def forward(self, x):
        if len(x) > self.most:
            raise MemoryError
        return self.layer(x)
'''


def net() -> torch.nn.Linear:
    torch.manual_seed(3)
    return torch.nn.Linear(3, 4).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job's folder, with its model."""
    path = tmp_path_factory.mktemp("job")
    (path / "net.py").write_text(FACTORY)
    save_file({f"layer.{name}": value for name, value in net().state_dict().items()}, path / "net.safetensors")
    return path


def make(folder: Path, base: Path, **changes: Any) -> Scorer:
    """A scorer from `<base>/in` to `<base>/out`; changes as `section_key`."""

    def section(name: str, **defaults: Any) -> dict[str, Any]:
        prefix = f"{name}_"
        return {**defaults, **{key.removeprefix(prefix): value for key, value in changes.items() if key.startswith(prefix)}}

    settings = PipelineSettings(
        model=ModelSettings(
            **section("model", factory="net.py:Net", weights=str(folder / "net.safetensors"), task="multiclass", device="cpu")
        ),
        input=InputSettings(**section("input", path=str(base / "in"), features=("x*",), id=("id",))),
        output=OutputSettings(**section("output", path=str(base / "out"))),
        batch=BatchSettings(**section("batch", rows=64)),
        **section("pipeline"),
    )
    return Scorer(settings, folder)


def rows(count: int, *, start: int = 0) -> pa.Table:
    values = np.random.default_rng(start).normal(size=(count, 3)).astype(np.float32)
    return pa.table({"id": np.arange(start, start + count), **{f"x{i}": values[:, i] for i in range(3)}})


def with_flaws(table: pa.Table) -> pa.Table:
    """Every seventh row has a null, the one after it NaN, the next infinity."""
    position = np.arange(len(table)) % 7
    values = table["x1"].to_numpy().copy()
    values[position == 1], values[position == 2] = np.nan, np.inf
    return table.set_column(2, "x1", pa.array(values, mask=position == 0))


def write(base: Path, table: pa.Table, name: str = "a.parquet", group: int = 100) -> None:
    (base / "in").mkdir(parents=True, exist_ok=True)
    pq.write_table(table, base / "in" / name, row_group_size=group)


def parts_of(scorer: Scorer, base: Path, part_rows: int = 1_000) -> tuple[Part, ...]:
    found = plan(find_files(str(base / "in")), check_schema=scorer.check_schema, part_rows=part_rows)
    assert found.rejections == ()
    return found.parts


def score(scorer: Scorer, base: Path, part_rows: int = 1_000, workers: int = 1) -> list[PartReport]:
    parts = parts_of(scorer, base, part_rows)
    engine = LocalEngine(workers, threads_per_worker=1)
    function: Function[Part, PartReport] = scorer.score
    return list(chain.from_iterable(engine.map(function, parts, Cancellation())))


def scored(base: Path) -> pa.Table:
    return pq.read_table(base / "out").sort_by("id")


def valid(table: pa.Table) -> np.ndarray[Any, np.dtype[np.bool_]]:
    finite: np.ndarray[Any, np.dtype[np.bool_]] = np.isfinite(table.select(["x0", "x1", "x2"]).to_pandas().to_numpy())
    return np.asarray(finite.all(axis=1), np.bool_)


def oracle(table: pa.Table) -> torch.Tensor:
    """Plain torch on the whole array at once: probabilities [N, 4]."""
    values = np.stack([table[name].to_numpy() for name in ("x0", "x1", "x2")], axis=1)
    with torch.no_grad():
        return torch.softmax(net()(torch.from_numpy(values)), dim=1)


def test_predictions_are_those_of_plain_torch(folder: Path, tmp_path: Path) -> None:
    """Class names, scores and probabilities, beside their ids, in order; the report has the counts."""
    table = rows(1_000)
    write(tmp_path, table)
    names = ("a", "b", "c", "d")
    columns = ("probabilities", "score", "prediction")
    scorer = make(folder, tmp_path, model_classes=names, output_columns=columns)
    (report,) = score(scorer, tmp_path)
    found, expected = scored(tmp_path), oracle(table)
    assert found.column_names == ["id", *columns]
    assert found["id"].to_pylist() == list(range(1_000))
    assert found["prediction"].to_pylist() == [names[index] for index in expected.argmax(dim=1).tolist()]
    np.testing.assert_allclose(np.array(found["probabilities"].to_pylist()), expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(found["score"].to_numpy(), expected.amax(dim=1).numpy(), rtol=1e-5)
    assert (report.name, report.rows_read, report.rows_scored) == ("a-0-9.parquet", 1_000, 1_000)
    assert (report.source, report.output) == (str(tmp_path / "in/a.parquet"), str(tmp_path / "out/a-0-9.parquet"))
    assert (report.rows_rejected, report.error, report.model) == ({}, None, scorer.fingerprint)


@settings(max_examples=25, deadline=None)
@given(
    group=st.integers(20, 90),
    sizes=st.tuples(st.integers(1, 400), st.integers(1, 200), st.integers(0, 700)),
    workers=st.integers(1, 3),
)
def test_no_split_changes_the_result(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, group: int, sizes: tuple[int, int, int], workers: int
) -> None:
    """Row groups, parts, batches, those prepared at once, and workers give the same predictions and the same counts."""
    part_rows, batch_rows, together = sizes
    base = tmp_path_factory.mktemp("split")
    table = with_flaws(rows(211))
    write(base, table, group=group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.devices._CACHED_VALUES", together)
        reports = score(make(folder, base, batch_rows=batch_rows), base, part_rows, workers)
    kept = table.filter(pa.array(valid(table)))
    found, expected = scored(base), oracle(kept)
    assert found["id"].to_pylist() == kept["id"].to_pylist()
    assert found["prediction"].to_pylist() == expected.argmax(dim=1).tolist()
    np.testing.assert_allclose(found["score"].to_numpy(), expected.amax(dim=1).numpy(), rtol=1e-5)
    rejected: Counter[Reason] = sum((Counter(report.rows_rejected) for report in reports), Counter())
    assert rejected == {Reason.NULL: 31, Reason.NAN: 30, Reason.INFINITY: 30}
    assert sum(report.rows_scored for report in reports) == len(kept)
    records = list(chain.from_iterable(report.batches for report in reports))
    assert sum(record.rows for record in records) == len(kept)
    assert max(record.rows for record in records) <= batch_rows


def test_rejected_rows_are_kept_with_reason_and_place(folder: Path, tmp_path: Path) -> None:
    """Ids, reason, file and row number in the file (from 0), also in a part that doesn't begin at row 0."""
    write(tmp_path, with_flaws(rows(20)), group=10)
    score(make(folder, tmp_path), tmp_path, part_rows=10)
    found = pq.read_table(tmp_path / "out" / "_rejects").sort_by("row").to_pylist()
    source = str(tmp_path / "in" / "a.parquet")
    expected = [(row, ["null", "nan", "infinity"][row % 7]) for row in range(20) if row % 7 < 3]
    assert found == [{"id": row, "reason": reason, "source": source, "row": row} for row, reason in expected]


def test_rows_without_an_id_are_rejected_too(folder: Path, tmp_path: Path) -> None:
    """There is nothing of a rejected row then but where it is, and why."""
    write(tmp_path, with_flaws(rows(20)).drop(["id"]))
    (report,) = score(make(folder, tmp_path, input_id=()), tmp_path)
    assert report.rows_scored == 11
    found = pq.read_table(tmp_path / "out" / "_rejects")
    assert found.column_names == ["reason", "source", "row"]
    assert found["row"].to_pylist() == [row for row in range(20) if row % 7 < 3]


def test_pandas_reads_what_was_made_of_its_frames(folder: Path, tmp_path: Path) -> None:
    """What pandas writes about its columns' names is not true of other columns."""
    table = with_flaws(rows(20))
    frame = table.to_pandas().set_axis([0, 1, 2, 3], axis=1)
    (tmp_path / "in").mkdir()
    frame.to_parquet(tmp_path / "in" / "a.parquet")
    (report,) = score(make(folder, tmp_path, input_id=("0",), input_features=("1", "2", "3")), tmp_path)
    assert pd.read_parquet(tmp_path / "out" / "a-0-0.parquet")["prediction"].size == report.rows_scored == 11
    assert pd.read_parquet(tmp_path / "out" / "_rejects")["reason"].size == 9


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view()])
def test_ids_of_the_newer_kind_of_text_are_kept_with_and_without_flaws(folder: Path, tmp_path: Path, kind: pa.DataType) -> None:
    """Arrow can't choose rows of it."""
    table = with_flaws(rows(20))
    texts = pa.array([f"row {row}" for row in range(20)]).cast(kind)
    write(tmp_path, table.set_column(0, "id", texts))
    (report,) = score(make(folder, tmp_path), tmp_path)
    assert report.rows_scored == 11
    kept = pq.read_table(tmp_path / "out" / "a-0-0.parquet")["id"].to_pylist()
    rejected = pq.read_table(tmp_path / "out" / "_rejects")["id"].to_pylist()
    assert sorted([*kept, *rejected]) == sorted(texts.to_pylist())


@pytest.mark.parametrize("classes", [None, ("a", "b", "c", "d")])
def test_a_part_of_invalid_rows_alone_writes_an_empty_file(
    folder: Path, tmp_path: Path, classes: tuple[str, ...] | None
) -> None:
    """With the very schema that the other parts have, so the folder reads as one dataset."""
    table = rows(20)
    write(tmp_path, table.set_column(1, "x0", pa.array([float("nan")] * 10 + [1.0] * 10, pa.float32())), group=10)
    columns = ("prediction", "score", "probabilities")
    reports = score(make(folder, tmp_path, model_classes=classes, output_columns=columns), tmp_path, part_rows=10)
    assert [report.rows_rejected for report in reports] == [{Reason.NAN: 10}, {}]
    assert reports[0].batches == ()
    empty, full = (pq.read_table(tmp_path / "out" / f"a-{group}-{group}.parquet") for group in (0, 1))
    assert (len(empty), len(full)) == (0, 10)
    assert empty.schema == full.schema


def test_rows_that_the_model_cannot_say_anything_of_are_rejected(folder: Path, tmp_path: Path) -> None:
    """NaN in the output is reason `output`, and hurts no other row."""
    table = rows(300)
    write(tmp_path, table)
    (report,) = score(make(folder, tmp_path, model_factory="net.py:Unsure"), tmp_path)
    kept = table.filter(pa.array(table["x0"].to_numpy() >= 0))
    assert report.rows_rejected == {Reason.OUTPUT: 300 - len(kept)}
    assert scored(tmp_path)["id"].to_pylist() == kept["id"].to_pylist()
    assert scored(tmp_path)["prediction"].to_pylist() == oracle(kept).argmax(dim=1).tolist()


def test_an_invalid_row_fails_the_run_where_it_should(folder: Path, tmp_path: Path) -> None:
    """File, row, column and reason are named, and nothing is written."""
    table = rows(300)
    values = table["x2"].to_numpy().copy()
    values[290] = np.nan
    write(tmp_path, table.set_column(3, "x2", pa.array(values)))
    scorer = make(folder, tmp_path, input_invalid_rows="fail")
    with pytest.raises(DataError, match=r"a\.parquet, row 290 \(from 0\), column 'x2': nan; mend the row"):
        score(scorer, tmp_path, part_rows=100)
    assert not (tmp_path / "out" / "a-2-2.parquet").exists()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4:600] = b"\xff" * 596
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [damage, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-30])])
def test_a_part_that_cannot_be_read_is_reported_whole(folder: Path, tmp_path: Path, harm: Callable[[Path], object]) -> None:
    """All its rows are rejected as unreadable, the file is named, and nothing is written."""
    write(tmp_path, rows(50))
    scorer = make(folder, tmp_path)
    (part,) = parts_of(scorer, tmp_path)
    harm(Path(part.source))
    report = scorer.score(part, Cancellation()).finish()
    assert (report.rows_read, report.rows_scored, report.rows_rejected) == (50, 0, {Reason.UNREADABLE: 50})
    assert report.error is not None
    assert str(tmp_path / "in" / "a.parquet") in report.error
    assert not (tmp_path / "out").exists()
    with pytest.raises(UnreadableError):
        scorer.predict(part, ("id",), Cancellation())
    with pytest.raises(DataError):
        scorer.warm_up(part, Cancellation())


def test_a_ragged_list_rejects_its_part_alone(folder: Path, tmp_path: Path) -> None:
    """The other part is scored."""
    column = pa.array([[1.0, 2.0, 3.0]] * 10 + [[1.0]] * 10)
    write(tmp_path, pa.table({"id": np.arange(20), "x": column}), group=10)
    good, bad = score(make(folder, tmp_path, input_shape=(3,)), tmp_path, part_rows=10)
    assert (good.rows_scored, bad.rows_rejected) == (10, {Reason.UNREADABLE: 10})
    assert bad.error is not None
    assert "a list of 1 values, not 3" in bad.error


def test_an_output_that_cannot_be_written_is_no_rejection(folder: Path, tmp_path: Path) -> None:
    """It is the run's trouble, not the part's."""
    write(tmp_path, rows(10))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match=r"output .*a-0-0\.parquet"):
        score(make(folder, tmp_path), tmp_path)


def test_a_dropped_part_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """Once the grace has passed, the part stops between two batches."""
    write(tmp_path, rows(10))
    scorer = make(folder, tmp_path)
    cancellation = Cancellation()
    cancellation.request("SIGTERM", grace_seconds=0)
    with pytest.raises(Cancelled, match="SIGTERM"):
        scorer.score(parts_of(scorer, tmp_path)[0], cancellation).finish()
    assert not (tmp_path / "out").exists()


def test_a_part_in_hand_is_dropped_between_two_batches(folder: Path, tmp_path: Path) -> None:
    """The grace ends while the part is being scored: it stops there, after the first of its batches."""
    write(tmp_path, rows(200))
    scorer = make(folder, tmp_path)
    (part,) = parts_of(scorer, tmp_path)
    ticks = count()
    cancellation = Cancellation(clock=lambda: float(next(ticks)))
    cancellation.request("SIGTERM", grace_seconds=2.5)
    with pytest.raises(Cancelled):
        scorer.score(part, cancellation).finish()
    assert next(ticks) == 4
    assert not (tmp_path / "out").exists()


def test_batches_and_seconds_are_accounted_for(folder: Path, tmp_path: Path) -> None:
    """A record for each batch, whose times add up to the part's."""
    write(tmp_path, with_flaws(rows(211)))
    (report,) = score(make(folder, tmp_path), tmp_path)
    assert [batch.batch for batch in report.batches] == [0, 1, 2, 3]
    assert sum(batch.rows for batch in report.batches) == report.rows_scored
    assert {batch.part for batch in report.batches} == {report.name}
    seconds = report.stage_seconds
    assert set(seconds) == {Stage.READ, Stage.PREPARE, Stage.INFER, Stage.WRITE}
    keys = ("read_seconds", "prepare_seconds", "latency_seconds", "write_seconds")
    for stage, key in zip((Stage.READ, Stage.PREPARE, Stage.INFER, Stage.WRITE), keys, strict=True):
        assert sum(getattr(batch, key) for batch in report.batches) == pytest.approx(seconds[stage])
        assert seconds[stage] > 0


@pytest.mark.parametrize(("asked", "expected"), [("auto", 256), (17, 17)])
def test_warming_up_settles_the_batch_size_and_the_classes(
    folder: Path, tmp_path: Path, asked: int | str, expected: int
) -> None:
    """`auto` is a size that the data can fill; a number is that number. Nothing is written or counted."""
    write(tmp_path, rows(600), group=600)
    scorer = make(folder, tmp_path, batch_rows=asked)
    (part,) = parts_of(scorer, tmp_path)
    with pytest.raises(ModelError, match="number of classes is not known"):
        _ = scorer.classes
    threads = torch.get_num_threads()
    scorer.warm_up(part, Cancellation())
    assert torch.get_num_threads() == threads
    assert scorer.batch_rows == expected
    assert scorer.classes == (0, 1, 2, 3)
    assert not (tmp_path / "out").exists()


def test_warming_up_needs_a_valid_row(folder: Path, tmp_path: Path) -> None:
    """Another part may do."""
    write(tmp_path, rows(10).set_column(1, "x0", pa.nulls(10, pa.float32())))
    scorer = make(folder, tmp_path)
    with pytest.raises(DataError, match=r"a\.parquet: none of its first 10 rows is valid"):
        scorer.warm_up(parts_of(scorer, tmp_path)[0], Cancellation())


def test_where_no_batch_that_was_timed_had_a_valid_row_the_first_one_counts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said to have been tried is finite: a run's report can't be written down otherwise."""
    monkeypatch.setattr("pipelines.tuning._MOST_SECONDS", 0.0)  # enough for one size
    table = rows(20_000)
    late = np.where(np.arange(20_000) < 100, table["x1"].to_numpy(), np.nan).astype(np.float32)
    write(tmp_path, table.set_column(2, "x1", pa.array(late)), group=20_000)
    scorer = make(folder, tmp_path, batch_rows="auto")
    (trial,) = scorer.warm_up(parts_of(scorer, tmp_path, 20_000)[0], Cancellation())
    assert (trial.rows, scorer.batch_rows) == (1_024, 1_024)
    assert 0 < trial.seconds < 60


def test_text_that_is_a_feature_and_a_slice_reaches_the_model_as_in_a_run(folder: Path, tmp_path: Path) -> None:
    """Slices are counted sooner by a dictionary, which `collate` need not know how to read."""
    (folder / "joined.py").write_text(
        "import pyarrow.compute as pc\nimport torch\n\n"
        "def shout(batch):\n    lengths = pc.utf8_length(pc.utf8_upper(batch.column('side'))).to_numpy().copy()\n"
        "    return torch.from_numpy(lengths).float()[:, None].expand(-1, 3)\n"
    )
    write(tmp_path, rows(10).append_column("side", pa.array(["left", "right"] * 5)))
    scorer = make(folder, tmp_path, input_collate="joined.py:shout", input_features=("side",))
    (part,) = parts_of(scorer, tmp_path)
    found = scorer.predict(part, ("side",), Cancellation(), repeating=("side",))
    scorer.score(part, Cancellation()).finish()
    assert found.predicted.tolist() == scored(tmp_path)["prediction"].to_pylist()


def test_the_label_is_no_feature_of_a_glob(folder: Path, tmp_path: Path) -> None:
    """Whichever schema is seen first: a holdout's has the label, and a model must not be told what it is asked."""
    table = rows(20).append_column("xtruth", pa.array(np.arange(20) % 4))
    write(tmp_path, table)
    holdout = HoldoutSettings(name="labelled", path=str(tmp_path / "in"), label="xtruth")
    scorer = make(folder, tmp_path, pipeline_holdout=(holdout,))
    scorer.check_features(table.schema)
    assert scorer.columns == ("x0", "x1", "x2")
    named = make(folder, tmp_path, pipeline_holdout=(holdout,), input_features=("x0", "xtruth"))
    named.check_features(table.schema)
    assert named.columns == ("x0", "xtruth")


def test_predict_says_what_score_writes(folder: Path, tmp_path: Path) -> None:
    """The same rows and classes, with the columns asked for, also when one of them is a feature."""
    table = with_flaws(rows(211))
    write(tmp_path, table.append_column("label", pa.array([str(i) for i in range(211)])))
    scorer = make(folder, tmp_path)
    (part,) = parts_of(scorer, tmp_path)
    found = scorer.predict(part, ("label", "x0"), Cancellation())
    report = scorer.score(part, Cancellation()).finish()
    assert found.table.column_names == ["label", "x0"]
    assert [int(label) for label in found.table["label"].to_pylist()] == scored(tmp_path)["id"].to_pylist()
    assert found.predicted.tolist() == scored(tmp_path)["prediction"].to_pylist()
    assert found.predicted.dtype == np.int64
    assert found.rejected == {"null": 31, "nan": 30, "infinity": 30} == dict(report.rows_rejected)
    assert found.seconds > 0


def test_the_first_schema_settles_what_globs_mean(folder: Path, tmp_path: Path) -> None:
    """A file with its columns in another order, or with more of them, is scored right; one with fewer is refused."""
    table = rows(40)
    write(tmp_path, table.slice(0, 20), "a.parquet")
    other = table.slice(20).select(["x2", "x0", "id", "x1"]).append_column("x9", pa.array([float("nan")] * 20))
    write(tmp_path, other, "b.parquet")
    scorer = make(folder, tmp_path)
    score(scorer, tmp_path)
    assert scored(tmp_path)["prediction"].to_pylist() == oracle(table).argmax(dim=1).tolist()
    with pytest.raises(DataError, match="no column matches feature 'x1'"):
        scorer.check_schema(table.drop(["x1"]).schema)
    with pytest.raises(DataError, match="id column 'id' is there 0 times"):
        scorer.check_schema(table.drop(["id"]).schema)


def test_a_model_of_another_width_says_the_shapes(folder: Path, tmp_path: Path) -> None:
    """Too many features are the model's error, with what it was given."""
    write(tmp_path, rows(10).append_column("x9", pa.array(np.zeros(10))))
    with pytest.raises(ModelError, match=r"failed on inputs torch\.float32 \[10, 4\]"):
        score(make(folder, tmp_path), tmp_path)


def test_the_fingerprint_is_of_what_decides_the_output(folder: Path, tmp_path: Path) -> None:
    """Where things are and how fast they go changes nothing; the model, its meaning and the columns do."""
    base = make(folder, tmp_path).fingerprint
    same: list[dict[str, Any]] = [
        {},
        {"input_path": "elsewhere"},
        {"output_path": "elsewhere"},
        {"output_compression": "gzip"},
        {"batch_rows": 7},
        {"model_precision": "float32"},
        {"model_compile": True},
    ]
    assert {make(folder, tmp_path, **changes).fingerprint for changes in same} == {base}
    other: list[dict[str, Any]] = [
        {"model_version": "2"},
        {"model_factory": "net.py:Unsure"},
        {"model_classes": ("a", "b", "c", "d")},
        {"model_output": "probabilities"},
        {"model_precision": "bfloat16"},
        {"model_precision": "float16"},
        {"input_features": ("x0", "x1", "x2")},
        {"input_dtype": "float64"},
        {"input_id": ()},
        {"output_columns": ("score",)},
    ]
    assert len({base, *(make(folder, tmp_path, **changes).fingerprint for changes in other)}) == len(other) + 1


def test_what_was_scored_before_there_were_precisions_stands() -> None:
    """A fingerprint is stored for years: this one was made by the version before."""
    model = ModelSettings(factory="net.py:Net", weights="net.safetensors", task="multiclass")
    inputs = InputSettings(path="in", features=("x*",), id=("id",))
    found = _fingerprint("ab" * 32, PipelineSettings(model=model, input=inputs, output=OutputSettings(path="out")))
    assert found == "ad999d50e17be7d7d9c2cd89b5be82c5742bb69c5e9b286f68c730b816b0ebb3"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_lower_precision_is_decoded_in_float32(folder: Path, tmp_path: Path, precision: str) -> None:
    """Predictions are those of the model under autocast, and probabilities add up as float32 does."""
    table = rows(1_000)
    write(tmp_path, table)
    columns = ("score", "probabilities")
    scorer = make(folder, tmp_path, model_precision=precision, output_columns=columns)
    (report,) = score(scorer, tmp_path)
    with torch.autocast("cpu", dtype=getattr(torch, precision)):
        logits = net()(torch.from_numpy(np.stack([table[name].to_numpy() for name in ("x0", "x1", "x2")], axis=1)))
    assert logits.dtype != torch.float32
    found = np.array(scored(tmp_path)["probabilities"].to_pylist(), np.float32)
    np.testing.assert_allclose(found, torch.softmax(logits.float(), dim=1).detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert (report.rows_scored, scorer.model.precision) == (1_000, precision)


def test_one_scorer_serves_many_threads(folder: Path, tmp_path: Path) -> None:
    """Each thread has memory of its own: eight at once write what one writes."""
    table = rows(4_000)
    write(tmp_path, table, group=50)
    score(make(folder, tmp_path, batch_rows=16), tmp_path, part_rows=50, workers=8)
    assert scored(tmp_path)["prediction"].to_pylist() == oracle(table).argmax(dim=1).tolist()


def test_a_part_keeps_its_name_and_counts_whatever_happens(folder: Path, tmp_path: Path) -> None:
    """A plan that no longer fits the file is unreadable, never a report whose rows don't add up."""
    write(tmp_path, rows(50))
    scorer = make(folder, tmp_path)
    (part,) = parts_of(scorer, tmp_path)
    report = scorer.score(replace(part, rows=60), Cancellation()).finish()
    assert report.rows_rejected == {Reason.UNREADABLE: 60}


@pytest.mark.parametrize("greedy", ["Greedy", "Enormous", "Listing"])
def test_a_batch_that_does_not_fit_into_memory_is_inferred_in_halves(folder: Path, tmp_path: Path, greedy: str) -> None:
    """Nothing is lost, twice or out of order; the next batches are of the size that fits, and what happened is counted."""
    table = with_flaws(rows(1_000))
    write(tmp_path, table)
    scorer = make(folder, tmp_path, model_factory=f"net.py:{greedy}")
    first, *others = score(scorer, tmp_path, part_rows=200)
    kept = table.filter(pa.array(valid(table)))
    assert scored(tmp_path)["id"].to_pylist() == kept["id"].to_pylist()
    assert scored(tmp_path)["prediction"].to_pylist() == oracle(kept).argmax(dim=1).tolist()
    # Of 64 rows 36 or 37 are valid, and of 32 no more than 20, which fit.
    assert scorer.batch_rows == 32
    assert [report.batches_out_of_memory for report in (first, *others)] == [1, 0, 0, 0, 0]
    assert {batch.rows for report in (first, *others) for batch in report.batches} <= {*range(1, 21)}
    assert [batch.batch for batch in first.batches] == [*range(7)]
    assert sum(batch.rows for batch in first.batches) == first.rows_scored
    (warning,) = scorer.warnings
    assert warning == (
        "batches of 64 rows ran out of memory on cpu: their rows were inferred in smaller ones, of 32 in the end; "
        "set batch.rows = 32, or lower batch.workers"
    )


def test_a_batch_that_is_tried_again_has_the_inputs_that_it_had(folder: Path, tmp_path: Path) -> None:
    """A model may have written to them before it ran out of memory."""
    table = rows(100)
    write(tmp_path, table)
    score(make(folder, tmp_path, model_factory="net.py:Scribbling", batch_rows=10), tmp_path)
    doubled = pa.table({"id": table["id"], **{f"x{i}": pa.array(table[f"x{i}"].to_numpy() * 2) for i in range(3)}})
    assert scored(tmp_path)["prediction"].to_pylist() == oracle(doubled).argmax(dim=1).tolist()
    assert scored(tmp_path)["score"].to_numpy() == pytest.approx(oracle(doubled).amax(dim=1).numpy(), abs=1e-6)


def test_workers_that_run_out_of_memory_at_once_settle_on_one_size(folder: Path, tmp_path: Path) -> None:
    """However many fail with the same size, it is halved once for all of them."""
    table = rows(8_000)
    write(tmp_path, table, group=400)
    scorer = make(folder, tmp_path, model_factory="net.py:Greedy", batch_rows=150)
    reports = score(scorer, tmp_path, part_rows=400, workers=8)
    assert scored(tmp_path)["prediction"].to_pylist() == oracle(table).argmax(dim=1).tolist()
    assert scored(tmp_path)["id"].to_pylist() == [*range(8_000)]
    assert 11 <= scorer.batch_rows <= 20  # a part's last batch has fewer rows, and may have been the one that failed
    assert 3 <= sum(report.batches_out_of_memory for report in reports) <= 4 * 8
    assert sum(batch.rows for report in reports for batch in report.batches) == 8_000


def test_not_even_one_row_fits(folder: Path, tmp_path: Path) -> None:
    """Then there is nothing to be done but to say so."""
    write(tmp_path, rows(100))
    scorer = make(folder, tmp_path, model_factory="net.py:Greedier")
    with pytest.raises(
        ModelError, match=r"a batch of 1 row ran out of memory on cpu: free memory .*Tried to allocate 2\.00 GiB"
    ):
        score(scorer, tmp_path)
    assert not (tmp_path / "out").exists()


def test_warming_up_finds_what_fits(folder: Path, tmp_path: Path) -> None:
    """A size that the job sets is halved, with a warning; `auto` has tried out too large ones on purpose."""
    write(tmp_path, rows(20_000), group=20_000)
    asked = make(folder, tmp_path, model_factory="net.py:Greedy")
    auto = make(folder, tmp_path, model_factory="net.py:Roomy", batch_rows="auto")
    for scorer in (asked, auto):
        scorer.warm_up(parts_of(scorer, tmp_path, 20_000)[0], Cancellation())
    assert asked.batch_rows == 16
    assert 256 <= auto.batch_rows <= 3_000
    assert (len(asked.warnings), auto.warnings) == (1, ())
    assert [report.batches_out_of_memory for report in score(asked, tmp_path, 20_000)] == [2]
    assert [report.batches_out_of_memory for report in score(auto, tmp_path, 20_000)] == [0]


class SlowInputs:
    """Any rows, prepared 40 at a time; that takes two seconds by a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0

    def together(self, rows: int) -> int:
        return 40 // rows * rows

    def prepare(self, first: int, last: int) -> Prepared:
        self.now += 2.0
        return Prepared((torch.zeros(last - first, 3),), last - first, None)


def test_what_is_prepared_at_once_is_shared_out_and_counted_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By rows; whatever the sizes of batches."""
    inputs = SlowInputs()
    monkeypatch.setattr("pipelines.inferring.perf_counter", lambda: inputs.now)
    inference = make(folder, tmp_path)._inference
    batches = [batch for _, batch in inference.batches(inputs, 0, 100, 10, Cancellation())]
    assert [batch.prepare_seconds for batch in batches] == [0.5] * 8 + [1.0] * 2  # of 40, 40 and 20 rows
    assert inference.batch(inputs, 0, 7).prepare_seconds == 2.0


def test_rows_held_in_memory_say_that_they_do_not_fit(folder: Path, tmp_path: Path) -> None:
    """Whoever measures a size must not be given the speed of another one."""
    write(tmp_path, rows(100))
    scorer = make(folder, tmp_path, model_factory="net.py:Greedy")
    infer = scorer.held(parts_of(scorer, tmp_path)[0])
    with pytest.raises(OutOfMemoryError, match=r"out of memory on cpu with inputs torch\.float32 \[64, 3\]"):
        infer(0, 64)
    assert infer(0, 20).rows == 20
    assert scorer.batch_rows == 64


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_a_model_is_compiled_where_the_job_asks_for_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers then use what was compiled, for batches of any size; predictions are the model's within rounding."""
    monkeypatch.setattr("pipelines.model.compiled_is_faster", lambda infer: [infer(True), infer(False)] == [None, None])
    table = with_flaws(rows(1_000))
    write(tmp_path, table, group=130)
    scorer = make(folder, tmp_path, model_compile=True)
    (part, *_) = parts_of(scorer, tmp_path)
    scorer.warm_up(part, Cancellation())
    scorer.compile_if_faster(part, Cancellation(), kernel_threads=1)
    score(scorer, tmp_path, part_rows=130, workers=3)
    torch.compiler.set_stance("default")
    assert scorer.warnings == ()
    assert scorer.model.compiled
    kept = table.filter(pa.array(valid(table)))
    assert scored(tmp_path)["prediction"].to_pylist() == oracle(kept).argmax(dim=1).tolist()
    np.testing.assert_allclose(scored(tmp_path)["score"].to_numpy(), oracle(kept).amax(dim=1).numpy(), rtol=1e-5)
