"""Jobs whose data and model are in an object store: a real server that speaks S3, whole and misbehaving."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.fs import FileSystem

from jobs.doctor import examine
from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring.ledger import Ledger
from monitoring.server import Server
from pipelines import errors, finding, objects, planning, reading
from pipelines.cancellation import Cancellation
from pipelines.errors import DataError, SpecError
from pipelines.objects import ObjectPath, StoreError, place
from pipelines.report import Outcome, RunReport
from tests.faults.server import Behaviour, Exchange, answer, cut, hang, reset
from tests.object_store import BUCKET, CREDENTIALS, SECRET, StoredJob, StoreProxy, object_store
from tests.tiny_job import TinyJob, rows_table

NIGHT, NEXT = "2026-11-01", "2026-11-02"
HOMES = count()
SLOW_DOWN = answer("503 Slow Down", b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate</Message></Error>")
DENIED = answer("403 Forbidden", b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with object_store() as server:
        yield server


@pytest.fixture
def store(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreProxy]:
    """The store, by way of a proxy that may misbehave; found and opened as a job's process finds it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with StoreProxy(server) as proxy:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        objects._store.cache_clear()
        FileSystem.from_uri(f"{BUCKET}?allow_bucket_creation=true")[0].create_dir(BUCKET.removeprefix("s3://"))
        yield proxy
        objects._store.cache_clear()


@pytest.fixture
def home(store: StoreProxy) -> ObjectPath:  # noqa: ARG001  it has to be there
    """A place of this test's own in it."""
    return ObjectPath(BUCKET, f"home-{next(HOMES)}")


@pytest.fixture
def job(tmp_path: Path, home: ObjectPath) -> StoredJob:
    return StoredJob(tmp_path / "job", home)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return read({"BATCHGAUGE_LEDGER": str(tmp_path / "state" / "ledger.db")})


def go(job: TinyJob, environment: Environment, night: str = NIGHT) -> RunReport:
    request = RunRequest(load(job.spec), environment, logical_date=date.fromisoformat(night))
    return run(request, observer=Silent(), cancellation=Cancellation()).report


def ids(job: TinyJob, night: str = NIGHT) -> list[str]:
    return sorted(job.output(night)["id"].to_pylist())


def scored(environment: Environment) -> float:
    with Ledger.open(environment.ledger) as ledger:
        return ledger.state("tiny").counters["inference_requests_total", ()]


def test_a_store_holds_what_a_disk_would(job: StoredJob, environment: Environment, tmp_path: Path) -> None:
    """Predictions, rejects and figures of a job are the same; what is committed is skipped, what is superseded goes."""
    on_disk, of_disk = TinyJob(tmp_path / "disk"), read({"BATCHGAUGE_LEDGER": str(tmp_path / "disk.db")})
    invalid = rows_table(150, prefix="b", seed=1).set_column(1, "x", pa.array([None] * 50 + [0.5] * 100, pa.float32()))
    for one in (job, on_disk):
        one.write_input(NIGHT, 250, name="a")
        one.write(one.folder / "inbox" / f"date={NIGHT}" / "sub" / "b.parquet", invalid)
        one.write(one.folder / "inbox" / f"date={NIGHT}" / "_hidden.parquet", invalid)
    here, there = go(job, environment), go(on_disk, of_disk)
    assert (here.outcome, here.rows_rejected, here.holdouts[0].accuracy) == (
        Outcome.PARTIAL,
        {"null": 50},
        there.holdouts[0].accuracy,
    )
    assert job.output(NIGHT).sort_by("id") == on_disk.output(NIGHT).filter(
        pa.compute.is_valid(on_disk.output(NIGHT)["prediction"])
    ).sort_by("id")
    assert job.names(f"scored/date={NIGHT}") == [
        "_rejects/sub/b-0-0.parquet",
        *(f"a-{part}-{part}.parquet" for part in range(3)),
        *(f"sub/b-{part}-{part}.parquet" for part in range(2)),
    ]
    again = go(job, environment)
    assert (again.parts_skipped, again.parts_done, again.rows_read) == (5, 0, 0)
    job.write_input(NIGHT, 120, name="a", seed=5, group_rows=200)
    (job.home / "inbox" / f"date={NIGHT}" / "sub" / "b.parquet").unlink()
    assert go(job, environment).parts_done == 1
    assert job.names(f"scored/date={NIGHT}") == ["a-0-0.parquet"]
    assert scored(environment) == 250 + 100 + 120


def test_a_lost_ledger_is_seen_and_doctor_looks_into_the_store(
    job: StoredJob, environment: Environment, tmp_path: Path
) -> None:
    """What else reads a job's paths knows URIs; a place in a store goes to another process."""
    job.write_input(NIGHT, 100)
    assert not go(job, environment).warnings
    another = read({"BATCHGAUGE_LEDGER": str(tmp_path / "another.db")})
    assert f"has written {job.home}/scored/date={NIGHT}/drop-0-0.parquet" in go(job, another, NEXT).warnings[0]
    found = {finding.subject: finding for finding in examine(load(job.spec), environment)}
    assert found["model"].ok
    assert found["output"].ok
    assert str(job.home) in found["input"].detail
    assert not found["input"].ok  # no drop of today
    assert pickle.loads(pickle.dumps(job.home)) == job.home  # noqa: S301  our own


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a",
        "a/x.parquet",
        "*",
        "*/*.parquet",
        "**",
        "**/x.parquet",
        "a*/[xy].p?rq*",
        "**/sub",
        "none",
        "none/*",
        "a/x.parquet/*",
    ],
)
def test_a_uri_finds_what_a_path_finds(home: ObjectPath, tmp_path: Path, pattern: str) -> None:
    """Files, folders and globs of either."""
    for name in (
        "a/x.parquet",
        "a/y.pq",
        "a/sub/z.parquet",
        "ab/x.PARQUET",
        "_a/x.parquet",
        "a/.y.parquet",
        "a/note.txt",
        "x.parquet",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
        (home / name).write_bytes(b"x")
    here = [
        (str(file.path).removeprefix(f"{home}/"), file.relative) for file in finding.find_files(f"{home}/{pattern}".rstrip("/"))
    ]
    there = finding.find_files(str(tmp_path / pattern))
    assert here == [(Path(str(file.path)).relative_to(tmp_path).as_posix(), file.relative) for file in there]


def test_a_file_that_is_replaced_while_it_is_read_is_not_mixed(job: StoredJob) -> None:
    """Also within the second that a store's clock shows."""
    job.write_input(NIGHT, 200)
    files = finding.find_files(f"{job.home}/inbox/date={NIGHT}")
    first, second = planning.plan(files, check_schema=lambda _: None, part_rows=100).parts
    reader = reading.Reader()
    assert reader.read(first, ["x"]).num_rows == 100
    job.write_input(NIGHT, 200, seed=1)
    with pytest.raises(errors.UnreadableError, match="was changed while the run was reading it"):
        reader.read(second, ["x"])


def test_what_passes_costs_nothing(job: StoredJob, environment: Environment, store: StoreProxy) -> None:
    """Of every kind of request some are refused, reset, cut short or not answered at first: the night is whole all the same."""
    job.write_input(NIGHT, 300)
    behaviours: list[Behaviour] = [SLOW_DOWN, reset, cut, SLOW_DOWN, reset]
    seen: dict[str, int] = {}

    def fault(line: str) -> Behaviour | None:
        method = line.split(maxsplit=1)[0]
        seen[method] = seen.get(method, 0) + 1
        if seen == {"GET": 1}:
            return hang
        return behaviours[seen[method] % len(behaviours)] if seen[method] % 2 and method != "HEAD" else None

    store.fault = fault
    report = go(job, environment)
    assert (report.outcome, report.reason, report.warnings) == (Outcome.SUCCESS, None, ())
    assert ids(job) == sorted(f"drop-{row}" for row in range(300))
    assert scored(environment) == 300


@pytest.mark.parametrize("arrived", [False, True])
def test_a_run_that_is_killed_over_a_put_leaves_whole_parts_only(
    job: StoredJob, environment: Environment, store: StoreProxy, *, arrived: bool
) -> None:
    """Whether the part had arrived or not: the next run completes the night, and counts each row once more at most."""
    job.write_input(NIGHT, 300)
    runs: list[subprocess.Popen[bytes]] = []

    def kill(exchange: Exchange) -> None:
        if arrived:
            store.lose_answer(exchange)
        runs[0].send_signal(signal.SIGKILL)
        runs[0].wait()

    store.fault = lambda line: kill if line.startswith("PUT") and "drop-1-1" in line else None
    command = [sys.executable, "-m", "jobs.cli", "run", str(job.spec), "--date", NIGHT]
    child = {**os.environ, "BATCHGAUGE_LEDGER": environment.ledger, "PYTHONPATH": os.pathsep.join(sys.path)}
    runs.append(subprocess.Popen(command, env=child, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    assert runs[0].wait(60) == -signal.SIGKILL
    store.fault = lambda _: None
    assert ("drop-1-1.parquet" in job.names(f"scored/date={NIGHT}")) is arrived
    report = go(job, environment)
    assert report.outcome is Outcome.SUCCESS
    assert ids(job) == sorted(f"drop-{row}" for row in range(300))
    assert scored(environment) == 300


def test_half_of_a_large_object_is_none(home: ObjectPath, store: StoreProxy) -> None:
    """It is sent in several parts; when one is refused, nothing is to be seen, and what was there before stays."""
    target = home / "large"
    target.write_bytes(b"old")
    store.fault = lambda line: DENIED if "partNumber=2" in line else None
    with pytest.raises(StoreError, match=rf"{target}: .*ACCESS_DENIED.*; check the credentials"):
        target.write_bytes(b"x" * 25_000_000)
    store.fault = lambda _: None
    assert target.read_bytes() == b"old"
    target.write_bytes(b"x" * 25_000_000)
    assert target.state()[0] == 25_000_000


def test_an_outage_is_one_clear_error_and_the_next_run_goes_on(
    job: StoredJob, environment: Environment, store: StoreProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is counted as rejected for it. Each try of ours is as long as the library's patience."""
    monkeypatch.setattr(objects, "PAUSES_SECONDS", (0.0,))
    job.write_input(NIGHT, 300)
    store.fault = lambda line: SLOW_DOWN if line.startswith("PUT") and "drop-2-2" in line else None
    failed = go(job, environment)
    assert failed.outcome is Outcome.FAILED
    assert failed.reason is not None
    assert f"{job.home}/scored/date={NIGHT}/drop-2-2.parquet: " in failed.reason
    assert "SLOW_DOWN" in failed.reason
    assert failed.rows_rejected == {}
    store.fault = lambda _: None
    assert go(job, environment).parts_done <= 3
    assert ids(job) == sorted(f"drop-{row}" for row in range(300))
    assert scored(environment) == 300


def test_what_will_not_do_is_said_with_the_uri(home: ObjectPath, store: StoreProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such bucket, no right, nobody there: one line each, and the secret in none."""
    monkeypatch.setattr(objects, "PAUSES_SECONDS", ())
    asked = {
        "s3://nowhere/folder": "there is no such bucket",
        f"{home}/denied": "check the credentials",
        f"{home}/refused": "check the endpoint",
    }
    for uri, advice in asked.items():
        store.fault = lambda _, uri=uri: DENIED if "denied" in uri else None  # type: ignore[misc]  # bound now
        if "refused" in uri:
            store.refuse()
        with pytest.raises(DataError) as caught:
            finding.find_files(uri)
        said = str(caught.value)
        assert said.startswith(f"{uri}: ")
        assert advice in said
        assert "\n" not in said
        assert SECRET not in said


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://AKIAPLANTED:hunter2/of-the-store@lake/in", "takes no user, password, key or port"),
        ("s3://hunter2@lake/in", "takes no user, password, key or port"),
        ("az://drops:hunter2@account.dfs.core.windows.net/in", "takes no user, password, key or port"),
        ("s3://lake/in?access_key=AKIAPLANTED&secret_key=hunter2", "takes no query"),
        ("gs://lake/in?endpoint_override=127.0.0.1", "takes no query"),
        ("ftp://lake/in", "ftp:// is no object store known here"),
        ("az://drops/in", "must look like az://container@account"),
        ("s3:///in", "names no bucket"),
        ("s3://lake/in/../out", "has an empty step, '.' or '..'"),
    ],
)
def test_a_uri_that_will_not_do_is_refused_and_its_secret_is_not_repeated(tmp_path: Path, uri: str, said: str) -> None:
    job = TinyJob(tmp_path)
    job.edit({"inbox/date={date}": f"{uri}/{{date:%Y/%m/%d}}"})
    with pytest.raises(SpecError, match=r"input\.path") as caught:
        load(job.spec)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "AKIAPLANTED" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scored/date={date}": "s3://lake/{date}/out", "inbox/date={date}": "s3://lake/{date}"}, "lies inside input.path"),
        (
            {'weights = "tiny': 'weights = "s3://lake/tiny', "[thresholds]": '[retrain]\nentrypoint = "a.py:b"\n[thresholds]'},
            "model must be on a disk",
        ),
        ({"schedule =": 'root = "s3://lake"\nschedule ='}, "must be a path on this machine"),
    ],
)
def test_what_needs_a_disk_says_so(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    job = TinyJob(tmp_path)
    job.edit(changes)
    with pytest.raises(SpecError, match=said):
        load(job.spec)


def test_every_store_has_its_place() -> None:
    """Google's and Azure's are opened by the same code; no server of theirs is part of this suite."""
    for uri in ("gs://lake/in/a.parquet", "az://drops@account.dfs.core.windows.net/in/a.parquet"):
        found = place(uri)
        assert isinstance(found, ObjectPath)
        assert str(found) == uri
        assert objects._store(found.root)[1] in ("lake", "drops")
