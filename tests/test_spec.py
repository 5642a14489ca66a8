"""The job file: validated once, every error in words for the person who wrote it."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.environment import Environment, read
from jobs.spec import JobSpec, load
from pipelines.errors import SpecError
from tests.tiny_job import SPEC


def write(folder: Path, text: str = SPEC) -> Path:
    file = folder / "job.toml"
    file.write_text(text)
    return file


def error_of(folder: Path, old: str, new: str) -> str:
    assert old in SPEC
    with pytest.raises(SpecError) as caught:
        load(write(folder, SPEC.replace(old, new)))
    return str(caught.value)


def test_paths_are_absolute_under_the_root(tmp_path: Path) -> None:
    """Relative paths start at the job file's folder, or at job.root; the current folder never matters."""
    spec = load(write(tmp_path))
    assert spec.input.path == f"{tmp_path}/inbox/date={{date}}"
    assert spec.model.weights == f"{tmp_path}/tiny.safetensors"
    rooted = load(write(tmp_path, SPEC.replace('name = "tiny"', 'name = "tiny"\nroot = "../data"')))
    assert rooted.output.path == f"{tmp_path.parent}/data/scored/date={{date}}"
    assert rooted.folder == tmp_path


def test_the_date_is_put_into_every_path(tmp_path: Path) -> None:
    """`{date}` is the logical date, in ISO form or as a format says."""
    text = SPEC.replace('path = "labelled"', 'path = "labelled/{date:%Y/%m/%d}"')
    spec = load(write(tmp_path, text)).for_date(date(2026, 3, 1))
    assert spec.input.path == f"{tmp_path}/inbox/date=2026-03-01"
    assert spec.output.path == f"{tmp_path}/scored/date=2026-03-01"
    assert spec.holdout[0].path == f"{tmp_path}/labelled/2026/03/01"


def test_the_logical_date_is_that_of_the_latest_scheduled_time(tmp_path: Path) -> None:
    """In the job's time zone, less lag_days; without a schedule, today."""
    before, after = datetime(2026, 11, 22, 2, 14, tzinfo=UTC), datetime(2026, 11, 22, 2, 15, tzinfo=UTC)
    spec = load(write(tmp_path))
    assert (spec.logical_date(before), spec.logical_date(after)) == (date(2026, 11, 21), date(2026, 11, 22))
    lagging = load(write(tmp_path, SPEC.replace("part_rows = 100", "part_rows = 100\nlag_days = 2")))
    assert lagging.logical_date(after) == date(2026, 11, 20)
    tokyo = load(write(tmp_path, SPEC.replace('schedule = "15 2 * * *"', 'timezone = "Asia/Tokyo"')))
    assert tokyo.logical_date(datetime(2026, 11, 22, 16, 0, tzinfo=UTC)) == date(2026, 11, 23)
    assert tokyo.next_expected(after) is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('version = "v1"', 'versoin = "v1"', ["model.versoin: unknown key", "did you mean 'version'?"]),
        (
            'name = "tiny"',
            'name = "tiny"\nkeep_runs = 9223372036854775808',
            ["job.keep_runs", "less than or equal to 1000000000"],
        ),
        ('name = "tiny"', 'name = ".."', ["job.name = '..'", "isn't only dots"]),
        ('label = "truth"', 'lable = "truth"', ["holdout[0].lable", "did you mean 'label'?", "holdout[0].label: missing"]),
        ('schedule = "15 2 * * *"', 'schedule = "15 25 * * *"', ["job.schedule = '15 25 * * *'", "bad hour"]),
        ('schedule = "15 2 * * *"', 'timezone = "Mars/Base"', ["job.timezone = 'Mars/Base'", "time zone"]),
        ('schedule = "15 2 * * *"', 'grace = "soon"', ["job.grace = 'soon'", "duration"]),
        ('schedule = "15 2 * * *"', "grace = 30", ["job.grace = 30", "duration"]),
        ('task = "binary"', 'task = "binry"', ["model.task = 'binry'", "'binary' or 'multiclass'"]),
        ('task = "binary"', 'task = "binary"\nclasses = ["a", "b", "c"]', ["model", "exactly 2"]),
        ('weights = "tiny.safetensors"', "", ["model", "'factory' and 'weights' go together"]),
        ('factory = "tiny.py:build"', 'factory = "tiny.py"', ["model.factory = 'tiny.py'", "file.py:name"]),
        ('version = "v1"', 'precision = "half"', ["model.precision = 'half'", "'float32', 'bfloat16' or 'float16'"]),
        ("rows = 50", "rows = 0", ["batch.rows = 0", "greater than 0", "'auto'"]),
        ("accuracy = 0.9", "accuracy = 90", ["thresholds.accuracy = 90", "less than or equal to 1"]),
        ('path = "inbox/date={date}"', 'path = "inbox/{night}"', ["{night}", "the only field"]),
        ('path = "inbox/date={date}"', 'path = "in\\u0000box/date={date}"', ["input.path", "NUL"]),
        ('path = "inbox/date={date}"', 'path = "inbox/{date.__class__}"', ["the only field"]),
        ('path = "inbox/date={date}"', 'path = "inbox/{date"', ["not a path template"]),
        ('path = "scored/date={date}"', 'path = "scored"', ["each day would replace the day before"]),
        ('path = "scored/date={date}"', 'path = "inbox/date={date}/out"', ["output.path", "lies inside input.path"]),
        ('path = "scored/date={date}"', 'path = "inbox/date={date:%Y-%m-%d}/out"', ["lies inside input.path"]),
        ('path = "inbox/date={date}"', 'path = "scored/date={date}/*.parquet"', ["lies inside input.path"]),
        ('path = "inbox/date={date}"', 'path = "**/date={date}/part-*.parquet"', ["lies inside input.path"]),
        ('path = "scored/date={date}"', 'path = "scored/{date:%Y-%m}"', ["for another day too"]),
        ('path = "inbox/date={date}"', 'path = "scored/*"', ["lies inside input.path"]),
        ('path = "inbox/date={date}"', 'path = "*/date={date}"', ["lies inside input.path"]),
        ('path = "inbox/date={date}"', 'path = "scored/date={date}/*/*.parquet"', ["lies inside input.path"]),
        ('schedule = "15 2 * * *"', 'grace = "999999999999d"', ["ten years"]),
        ('schedule = "15 2 * * *"', 'root = "~nosuchuser/x"', ["home folder of a user"]),
        ("part_rows = 100", "part_rows = 100\nlag_days = 10000000", ["input.lag_days"]),
        ('id = ["id"]', 'id = ["id", "row"]', ["'row'", "written twice"]),
        (
            "[thresholds]",
            '[push]\ngateway = "http://me:hunter2@gw:9091"\n[thresholds]',
            ["push.gateway", "BATCHGAUGE_PASSWORD"],
        ),
        ("[thresholds]", '[push]\ngateway = "gw:9091"\n[thresholds]', ["push.gateway = 'gw:9091'", "http://host:port"]),
        ("[thresholds]", '[push]\nlabels = { job = "x" }\n[thresholds]', ["push.labels", "'job' can't be a label name"]),
        ("[thresholds]", '[push]\nlabels = { severity = "x" }\n[thresholds]', ["'severity' can't be a label name", "alerts"]),
        ('slices = ["side"]', 'slices = [{ column = "x", bins = [2, 1] }]', ["holdout[0].slices[0]", "must rise"]),
        ("[thresholds]", '[push]\npassword = "hunter2"\n[thresholds]', ["push.password: unknown key"]),
        ("[thresholds]", '[push]\ngateway = "http://u:p@hunter2@h"\n[thresholds]', ["push.gateway"]),
        ('path = "labelled"', 'path = "labelled/{date:{x}}"', ["not a format for a date"]),
        ("[thresholds]", '[retrain]\nentrypoint = "a\\u0000.py:b"\n[thresholds]', ["retrain.entrypoint", "NUL"]),
        ("[thresholds]", '[retrain]\nentrypoint = "train"\n[thresholds]', ["retrain.entrypoint = 'train'", "file.py:name"]),
        ("[thresholds]", '[retrain]\nentrypoint = "a.py:b"\nafter = 0\n[thresholds]', ["retrain.after = 0"]),
        ("[thresholds]", '[retrain]\nentrypoint = "a.py:b"\nmargin = 2\n[thresholds]', ["retrain.margin = 2"]),
        ("[thresholds]", '[retrain]\nentrypoint = "a.py:b"\ntimeout = "0s"\n[thresholds]', ["retrain.timeout"]),
        ("[job]", "[jobs]", ["jobs", "did you mean 'job'?", "job: missing"]),
    ],
)
def test_an_error_names_file_key_and_value_and_says_what_to_do(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    """One line for each wrong key."""
    message = error_of(tmp_path, old, new)
    assert str(tmp_path / "job.toml") in message
    assert [word for word in words if word not in message] == []
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("read", "holdout", "written", "inside"),
    [
        ("data/*", "labelled", "data/scored", True),
        ("data/*/*.parquet", "labelled", "data", True),
        ("data/**/[0-9]*.parquet", "labelled", "data/scored", True),
        ("data/**/20[0-9][0-9]-*.parquet", "labelled", "data/scored", True),
        ("inbox", "lab/*/*.parquet", "lab/scored", True),
        ("inbox", "lab", "lab/scored", True),
        ("data/**/features.parquet", "labelled", "data/scored", False),
        ("data/**/*.pq", "labelled", "data/scored", False),
        ("data/part-?.parquet", "labelled", "data", False),
        ("inbox", "data/**/labelled.parquet", "data/scored", False),
        ("data/*.parquet", "labelled", "data/scored", False),
        ("data/in.parquet", "labelled", "data", False),
        ("data/eu/*", "labelled", "data/scored", False),
    ],
)
def test_an_output_must_not_be_found_by_what_is_read(
    tmp_path: Path, *, read: str, holdout: str, written: str, inside: bool
) -> None:
    """Whatever the globs; and what can't be found is nobody's business."""
    text = SPEC.replace('path = "inbox/date={date}"', f'path = "{read}"').replace('path = "labelled"', f'path = "{holdout}"')
    path = write(tmp_path, text.replace('path = "scored/date={date}"', f'path = "{written}"'))
    if inside:
        with pytest.raises(SpecError, match="lies inside"):
            load(path)
    else:
        load(path)


def test_a_path_that_cannot_be_written_down_is_refused(tmp_path: Path) -> None:
    """It would be in the ledger, and in every message."""
    path = write(tmp_path).rename(tmp_path / "job\udcff.toml")
    with pytest.raises(SpecError, match=r"job\\xff\.toml: its path is not UTF-8, so it can't be written down; rename the file"):
        load(path)


def test_a_lower_precision_needs_inputs_that_it_applies_to(tmp_path: Path) -> None:
    """torch's autocast leaves float64 alone, in silence."""
    text = SPEC.replace('version = "v1"', 'precision = "bfloat16"').replace("part_rows = 100", 'dtype = "float64"')
    with pytest.raises(SpecError, match=r"model\.precision = 'bfloat16' does nothing for input\.dtype = 'float64'"):
        load(write(tmp_path, text))


def test_a_model_can_be_retrained_only_if_it_can_be_judged_and_replaced(tmp_path: Path) -> None:
    """A pin and a new model are a contradiction; so is a new model that nobody can compare."""
    retrain = '[retrain]\nentrypoint = "a.py:b"\n'
    pinned = SPEC.replace('version = "v1"', f'sha256 = "{"ab" * 32}"') + retrain
    with pytest.raises(SpecError, match=r"\[retrain\] puts other models in place, and model\.sha256 pins one"):
        load(write(tmp_path, pinned))
    unlabelled = SPEC[: SPEC.index("[[holdout]]")] + retrain
    with pytest.raises(SpecError, match=r"\[retrain\] needs a \[\[holdout\]\]"):
        load(write(tmp_path, unlabelled))
    assert load(write(tmp_path, SPEC + retrain)).definition(read({})).retrains


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    """Nobody mends a file one error a run."""
    text = SPEC.replace('task = "binary"', 'task = "x"').replace("rows = 50", 'rows = "many"')
    with pytest.raises(SpecError) as caught:
        load(write(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    """With the line where TOML ends to be TOML."""
    with pytest.raises(SpecError, match=r"absent\.toml: can't read the job file: No such file"):
        load(tmp_path / "absent.toml")
    with pytest.raises(SpecError, match=r"not TOML: .*line 1"):
        load(write(tmp_path, "= 3"))
    (tmp_path / "job.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="can't read the job file"):
        load(tmp_path / "job.toml")


def test_a_folder_with_braces_in_its_name_is_no_template(tmp_path: Path) -> None:
    """Only what the job file says is."""
    folder = tmp_path / "a{b}{date}"
    folder.mkdir()
    spec = load(write(folder)).for_date(date(2026, 3, 1))
    assert spec.input.path == f"{folder}/inbox/date=2026-03-01"
    assert spec.model.weights == f"{folder}/tiny.safetensors"


def test_an_output_beside_a_glob_is_fine(tmp_path: Path) -> None:
    """Only what the glob would find again is refused."""
    text = SPEC.replace("inbox/date={date}", "*/in-{date}.parquet")
    assert load(write(tmp_path, text)).output.path.startswith(str(tmp_path))


def test_a_spec_is_frozen(tmp_path: Path) -> None:
    """Nothing changes after validation."""
    spec = load(write(tmp_path))
    with pytest.raises(ValidationError, match="frozen"):
        spec.batch.rows = 3  # type: ignore[misc]  # that it must not is the point


def test_the_environment_overrides_where_things_are(tmp_path: Path) -> None:
    """And an empty variable means nowhere."""
    spec = load(write(tmp_path, SPEC + '\n[push]\ngateway = "http://a:1"\n'))

    def gateway(variables: dict[str, str]) -> str | None:
        environment: Environment = read(variables)
        return spec.destination(environment).gateway

    assert gateway({}) == "http://a:1"
    assert gateway({"BATCHGAUGE_GATEWAY": "http://b:2"}) == "http://b:2"
    assert gateway({"BATCHGAUGE_GATEWAY": ""}) is None


def test_the_json_schema_accepts_what_the_loader_accepts(tmp_path: Path) -> None:
    """An editor that completes from `batchgauge schema` agrees with the command."""
    schema = JobSpec.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    raw = json.loads(json.dumps(tomllib.loads(SPEC)))
    validator.validate(raw)
    load(write(tmp_path))
    raw["model"]["versoin"] = "x"
    assert not validator.is_valid(raw)


REQUIRED = ("job", "model", "input", "output")
JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(section=st.sampled_from([*REQUIRED, "batch", "holdout", "thresholds", "retrain", "push"]), value=JSONISH)
def test_rubbish_is_refused_in_words(section: str, value: object) -> None:
    """Whatever stands in a section, the loader answers with a list of wrong keys, never with a traceback."""
    from jobs.spec_errors import explain  # noqa: PLC0415  only this test needs it

    raw = {**tomllib.loads(SPEC), section: value}
    try:
        JobSpec.model_validate(raw)
    except ValidationError as error:
        message = explain(error, raw, Path("job.toml"), JobSpec)
        assert all(line.startswith("job.toml: ") for line in message.split("\njob.toml: ")[:1])
