"""The sections of a job file that say what to compute. Imports no torch, pandas or pyarrow.

Validated once, frozen after. Every field's description is the reference that a user reads. Paths here are as
written in the job file until `jobs.spec` resolves them: a pipeline sees absolute paths only, with `{date}`
already replaced.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictStr,
    model_validator,
)

from pipelines.values import Auto, ClassName, Entrypoint, Location, Text


class Settings(BaseModel):
    """A frozen section: unknown keys are refused, nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


REJECTS_COLUMNS = ("reason", "source", "row")
"""What a rejects file has beside the id columns."""


class ModelSettings(Settings):
    """The model: a factory with weights, or one file."""

    factory: Entrypoint | None = Field(
        None,
        description="Function without arguments that returns the `torch.nn.Module`: `file.py:name` (relative to the job "
        "file) or `package.module:name`. Goes with `weights`.",
    )
    weights: Location | None = Field(
        None, description="The factory's weights: `.safetensors`, or a `.pt`/`.pth` state dict (loaded with `weights_only`)."
    )
    path: Location | None = Field(
        None,
        description='Instead of factory and weights: a `torch.export` program (`.pt2`). With `trust = "code"` also a '
        "pickled module (`.pt`, `.pth`).",
    )
    sha256: Annotated[StrictStr, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = Field(
        None, description="Pin: the SHA-256 of `weights` or `path`, checked before anything in the file is read."
    )
    version: Text = Field(
        "unversioned",
        description="What this model is called in metrics and reports. One that a retraining put in place is called by this, "
        "the day and the start of its SHA-256: `cnn-1+2026-11-22.92cc1aea`.",
    )
    device: Annotated[StrictStr, Field(pattern=r"^(auto|cpu|cuda|cuda:\d+|mps)$")] = Field(
        "auto", description="`cpu`, `cuda`, `cuda:1`, `mps`, or `auto`: the first accelerator, else the CPU."
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="`float32`: the model computes as it is. `bfloat16`, `float16`: under `torch.autocast`, for speed on "
        "hardware that has it. Predictions change by rounding, so parts are scored again; rows that overflow (float16: beyond "
        "65,504) are rejected.",
    )
    compile: StrictBool = Field(
        False,
        description="Also try the model under `torch.compile`, and use that where it measures faster. Compiling takes a minute "
        "or two, less once torch has it in its cache, and needs a C++ compiler; where it fails, the model runs as it is, with "
        "a warning.",
    )
    trust: Literal["weights", "code"] = Field(
        "weights", description="`weights`: a model file may not run code on load. `code`: it may; you vouch for it."
    )
    task: Literal["binary", "multiclass"] = Field(description="`binary` or `multiclass`.")
    output: Literal["logits", "probabilities"] = Field(
        "logits",
        description="What the model returns. Binary: shape `[N]`, `[N, 1]` or `[N, 2]`; multiclass: `[N, classes]`.",
    )
    classes: tuple[ClassName, ...] | None = Field(
        None,
        description="Class names in the order of the model's outputs; binary: `[negative, positive]`. These are the "
        "values of `prediction`, and of the holdouts' label column. Default: 0, 1, 2, …",
    )
    decision_threshold: float = Field(
        0.5, ge=0, le=1, description="Binary: the positive class is predicted when its probability is at least this."
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.path is None) == (self.factory is None):
            message = "give either 'factory' with 'weights', or 'path'"
            raise ValueError(message)
        if (self.factory is None) != (self.weights is None):
            message = "'factory' and 'weights' go together"
            raise ValueError(message)
        if self.classes is not None:
            _check_classes(self.task, self.classes)
        return self


def _check_classes(task: str, classes: tuple[ClassName, ...]) -> None:
    if len({type(name) for name in classes}) > 1:
        message = "'classes' must all be of one type"
        raise ValueError(message)
    if len(set(classes)) != len(classes):
        message = "'classes' must differ from each other"
        raise ValueError(message)
    if len(classes) < 2 or (task == "binary" and len(classes) != 2):  # noqa: PLR2004  two classes is what binary means
        message = f"'classes' has {len(classes)} names; {'binary takes exactly' if task == 'binary' else 'it takes at least'} 2"
        raise ValueError(message)


class InputSettings(Settings):
    """What is scored."""

    path: Location = Field(
        description="Parquet file, folder (searched recursively), or glob; like the other paths of data and models it may be a "
        "URI (`s3://`, `gs://`, `az://`). `{date}` is the run's logical date "
        "(`{date:%Y/%m/%d}` formats it)."
    )
    features: tuple[Text, ...] = Field(
        min_length=1,
        description="Feature columns in the model's order; a glob (`px_*`) stands for all matching columns, sorted by "
        "name with numbers as numbers (`px_2` before `px_10`), whatever the file's order; `id` columns and holdouts' "
        "labels match none. With `shape`: one fixed-size-list column.",
    )
    shape: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        None, description="Shape of one row when `features` is one fixed-size-list column, e.g. `[1, 8, 8]`."
    )
    dtype: Literal["float32", "float64", "int64"] = Field("float32", description="What features are cast to, once.")
    collate: Entrypoint | None = Field(
        None,
        description="For anything else: function that takes a `pyarrow.RecordBatch` of the feature columns and returns "
        "a tensor, or a tuple or dict of tensors (the model's arguments), with one row for each row.",
    )
    id: tuple[Text, ...] = Field((), description="Columns copied to the output, so that a prediction can be joined back.")
    invalid_rows: Literal["reject", "fail"] = Field(
        "reject",
        description="A row with a null, NaN or infinity in a feature: `reject` it into a rejects file (the run is "
        "`partial`), or `fail` the run.",
    )
    empty: Literal["fail", "allow"] = Field(
        "fail", description="No files or no rows: `fail` the run (an empty drop is usually a broken upstream), or `allow` it."
    )
    part_rows: int = Field(
        131_072,
        gt=0,
        lt=2**63,
        description="A part is consecutive row groups of one file, up to this many rows (at least one group).",
    )
    lag_days: int = Field(0, ge=0, le=36_500, description="The default logical date is the scheduled day less this many days.")


class OutputSettings(Settings):
    """Where predictions go."""

    path: Location = Field(
        description="Folder for predictions, one file a part; rejected rows go to its `_rejects` folder. Takes `{date}`."
    )
    columns: tuple[Literal["prediction", "score", "probabilities"], ...] = Field(
        ("prediction", "score"),
        min_length=1,
        description="After the id columns: `prediction` (class name), `score` (binary: probability of the positive "
        "class; multiclass: of the predicted class), `probabilities` (list, one for each class).",
    )
    compression: Literal["zstd", "snappy", "gzip", "none"] = Field("zstd", description="Parquet compression.")


class BatchSettings(Settings):
    """How the machine is used."""

    rows: Annotated[int, Field(gt=0, lt=2**31)] | Auto = Field(
        "auto",
        description="Rows in a batch, or `auto`: the fastest of a few sizes whose batch takes no longer than "
        "`thresholds.latency_seconds`, measured on the real model and data; it is kept for the model's next runs, for 30 days. "
        "Batches that don't fit into memory are halved.",
    )
    workers: Annotated[int, Field(gt=0, le=1024)] | Auto = Field(
        "auto",
        description="Parts worked on at once, or `auto`: one for each core (one for an accelerator), unless sharing out the "
        "cores in another way was surely faster when it was measured, at the start of a run of some seconds; kept like `rows`. "
        "On Ray: actors; `auto` is as many as the cluster's CPUs and accelerators allow.",
    )
    keep_runs: int = Field(
        60, ge=0, description="Per-batch records are kept for this many runs (Parquet, beside the ledger); 0 keeps none."
    )

    @property
    def open(self) -> bool:
        """Whether anything is left to be measured."""
        return "auto" in (self.rows, self.workers)


class EngineSettings(Settings):
    """Where parts are worked on: here, or on a Ray cluster (`pip install 'batchgauge[ray]'`)."""

    kind: Literal["local", "ray"] = Field(
        "local",
        description="`local`: threads of this process. `ray`: actors of a Ray cluster, which load the model once each; all "
        "nodes must see input, model and output at the same paths. The job's Python files travel with it.",
    )
    address: Annotated[StrictStr, Field(pattern=r"^(auto|[^/\s]+:\d{1,5})$")] = Field(
        "auto", description="Ray: `HOST:PORT` of the cluster's head, or `auto`: the one on this machine, or in `RAY_ADDRESS`."
    )
    cpus_per_worker: float = Field(
        1, gt=0, le=1024, description="Ray: CPUs that a worker reserves, and kernel threads that it uses."
    )
    accelerators_per_worker: float = Field(
        0, ge=0, le=64, description="Ray: accelerators (its `num_gpus`) that a worker reserves; below 1, workers share one."
    )

    @model_validator(mode="after")
    def _rays_own(self) -> Self:
        said = sorted(self.model_fields_set - {"kind"})
        if self.kind == "local" and said:
            message = f"{said[0]!r} goes with kind = 'ray'"
            raise ValueError(message)
        for key in ("cpus_per_worker", "accelerators_per_worker"):
            if getattr(self, key) > 1 and getattr(self, key) % 1:
                message = f"{key!r} above 1 must be a whole number: Ray shares out parts of one only"
                raise ValueError(message)
        return self


class BinnedColumn(Settings):
    """A numeric column cut into slices."""

    column: Text = Field(description="A numeric column of the holdout.")
    bins: tuple[FiniteFloat, ...] = Field(
        min_length=1, description="Inner edges, rising: `[4.5, 5.5]` makes `< 4.5`, `4.5 to 5.5` and `>= 5.5`."
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(low >= high for low, high in zip(self.bins, self.bins[1:], strict=False)):
            message = "'bins' must rise"
            raise ValueError(message)
        return self


Dimension = Text | BinnedColumn | Annotated[tuple[Text | BinnedColumn, ...], Field(min_length=1)]


def dimension_columns(dimension: Dimension) -> tuple[str, ...]:
    """The columns of a dimension; joined by `,` they are its name."""
    parts = dimension if isinstance(dimension, tuple) else (dimension,)
    return tuple(part if isinstance(part, str) else part.column for part in parts)


class HoldoutSettings(Settings):
    """Labelled rows to judge the model on, in whole and by slice. May be repeated."""

    name: Text = Field(description="Names the holdout in metrics.")
    path: Location = Field(description="Labelled Parquet with the input's feature columns. Takes `{date}`.")
    label: Text = Field(description="Column with the true class.")
    slices: tuple[Dimension, ...] = Field(
        (), description="Dimensions to slice by: a column, `{ column, bins }`, or a list of these (every combination)."
    )
    min_examples: int = Field(30, ge=1, description="A slice with fewer examples is shown, but marked as too small to judge.")
    max_slices: int = Field(
        200, ge=1, le=1000, description="The largest slices kept by support; the rest is summed as `__other__`."
    )

    @model_validator(mode="after")
    def _dimensions_differ(self) -> Self:
        names = [",".join(dimension_columns(dimension)) for dimension in self.slices]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            message = f"'slices' has two dimensions called {twice!r}; keep one, or put the other in a holdout of its own"
            raise ValueError(message)
        return self


class PipelineSettings(Settings):
    """All that a pipeline is told: the part of a job file that says what to compute."""

    model: ModelSettings
    input: InputSettings
    output: OutputSettings
    batch: BatchSettings = Field(default_factory=BatchSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    holdout: tuple[HoldoutSettings, ...] = ()

    def with_model(self, **changes: str | None) -> Self:
        """The same settings but for these of the model's, which are not checked."""
        return self.model_copy(update={"model": self.model.model_copy(update=changes)})

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        names = [*self.input.id, *self.output.columns, *REJECTS_COLUMNS]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            message = f"column {twice!r} would be written twice: rename it in input.id or output.columns"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _precision_applies(self) -> Self:
        if self.model.precision != "float32" and self.input.dtype == "float64":
            message = (
                f"model.precision = {self.model.precision!r} does nothing for input.dtype = 'float64'; use dtype = 'float32'"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _workers_have_the_device(self) -> Self:
        if self.engine.kind == "ray" and ":" in self.model.device:
            raise ValueError(f"model.device = {self.model.device!r} on Ray: say 'cuda', Ray decides which one a worker has")
        if self.engine.kind == "ray" and self.model.device == "cuda" and not self.engine.accelerators_per_worker:
            raise ValueError("model.device = 'cuda' on Ray needs engine.accelerators_per_worker: a worker sees none otherwise")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [holdout.name for holdout in self.holdout]
        if len(set(names)) != len(names):
            message = "two holdouts have the same name"
            raise ValueError(message)
        return self
