"""Secrets that are planted everywhere they may be given, and looked for everywhere they could come out."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle, product
from pathlib import Path
from threading import Event, Thread
from typing import Self

import httpx
import psutil
import pytest
import trustme

from monitoring import servers
from tests.conftest import poll
from tests.faults.conftest import Tally
from tests.faults.proxy import FAULTS, FaultProxy
from tests.faults.server import Behaviour, Exchange, answer
from tests.faults.test_gateway_faults import tls_context
from tests.faults.warm import Commands
from tests.test_schedule_command import Schedule
from tests.tiny_job import SPEC, TinyJob

NIGHT = "2026-11-01"
PASSWORD, BEARER, ALERTS, IN_URL = "planted-Passw0rd-ä", "planted-b3arer-token", "planted-al3rts-token", "planted-ur1-secret"
USERNAME = "monitor"
SECRETS = (PASSWORD, BEARER, ALERTS, IN_URL, b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode())
BASIC: Mapping[str, str] = {"BATCHGAUGE_USERNAME": USERNAME, "BATCHGAUGE_PASSWORD": PASSWORD}
TOKEN: Mapping[str, str] = {"BATCHGAUGE_BEARER_TOKEN": BEARER}


def leaks(text: str) -> list[str]:
    """The secrets in it, as they are or as JSON and addresses would have them."""
    forms = (
        (secret, secret.encode("unicode_escape").decode(), httpx.QueryParams(x=secret).__str__()[2:]) for secret in SECRETS
    )
    return [secret for secret, *others in forms if any(form in text for form in (secret, *others))]


def leaks_in(folder: Path, *, but: frozenset[str] = frozenset()) -> list[str]:
    """Those in any file's name or bytes below the folder: the ledger, its journal, logs, records, what would be pushed."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in but:
            content = path.read_bytes()
            found += [f"{path}: {s}" for s in SECRETS if s.encode() in content or s.encode("utf-16-le") in content]
    return found


def echo(exchange: Exchange) -> None:
    """Refuse, and repeat all that was said."""
    said = exchange.head.replace(b"\r\n", b" / ")
    answer("401 Unauthorized", b"you said " + said, headers=f"X-You-Said: {said.decode('latin-1')}\r\n")(exchange)


def echo_as_failure(exchange: Exchange) -> None:
    """The same, as an error that is tried again."""
    answer("500 Oops", b"you said " + exchange.head)(exchange)


def redirect(exchange: Exchange) -> None:
    """Lead elsewhere, with what was said in the address."""
    authorization = re.search(rb"(?i)authorization: \S+ (\S+)", exchange.head)
    shown = authorization[1].decode() if authorization else ""
    answer("302 Found", headers=f"Location: http://127.0.0.1:1/{shown}\r\n")(exchange)


def answers(behaviour: Behaviour) -> Callable[[FaultProxy], None]:
    def begin(proxy: FaultProxy) -> None:
        proxy.fault = behaviour

    return begin


@pytest.fixture(scope="module")
def gateway() -> Iterator[servers.Server]:
    with servers.pushgateway() as server:
        yield server


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    job = TinyJob(tmp_path / "job")
    job.edit({"[thresholds]": '[push]\nevery = "1s"\ntimeout = "1s"\ntextfile = "textfiles"\n\n[thresholds]'})
    (job.folder / "textfiles").mkdir()
    job.write_input(NIGHT, 200)
    return job


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with Commands(tmp_path_factory.mktemp("commands") / "said") as commands:
        yield commands


def test_in_no_gateways_fault(tmp_path: Path, job: TinyJob, gateway: servers.Server, commands: Commands, tally: Tally) -> None:
    """Whatever it answers, it is told, listed and recorded without our password, and without our token."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger = tls_context(trustme.CA())
    quiet = [*((fault.name, fault.begin) for fault in FAULTS), ("echo, again and again", answers(echo_as_failure))]
    talking = [
        ("echo", answers(echo)),
        ("redirect", answers(redirect)),
        ("wrong certificate", lambda proxy: setattr(proxy, "tls", stranger)),
    ]
    trials = [
        *product(talking, (BASIC, TOKEN)),
        *(product(quiet, (BASIC, TOKEN)) if tally.soak else zip(quiet, cycle((BASIC, TOKEN)))),
    ]
    tries = 0
    for (name, begin), credentials in trials:
        with FaultProxy(gateway) as proxy:
            begin(proxy)
            variables = {
                **os.environ,
                **credentials,
                "BATCHGAUGE_LEDGER": str(tmp_path / "state" / "ledger.db"),
                "BATCHGAUGE_GATEWAY": proxy.url,
                "BATCHGAUGE_CA_FILE": str(tmp_path / "ca.pem"),
            }
            calls: list[list[object]] = [["push", "tiny", "--json"], ["status", "tiny", "--json"]]
            if begin in dict(talking).values() or tally.soak:
                run = ["run", job.spec, "--date", NIGHT, "--json"]
                calls = [run, *calls, ["list"], ["doctor", job.spec]]
            said, url = [commands(*call, variables=variables).output for call in calls], proxy.url
        assert all(url in text for text in said[:2]), (name, said)
        assert "Traceback" not in "".join(said)
        assert leaks("".join(said)) == [], (name, said)
        tries += len(said)
    assert leaks_in(tmp_path) == []
    tally.add("secrets: gateway's faults", tries=tries, losses=0)


BAD_FILES = {
    "secret in the gateway's URL": ("[thresholds]", f'[push]\ngateway = "http://me:{IN_URL}@127.0.0.1:9091"\n\n[thresholds]'),
    "secret under a key that isn't one": ("[thresholds]", f'[push]\npassword = "{PASSWORD}"\n\n[thresholds]'),
    "secret in a section that isn't one": ("[thresholds]", f'[auth]\ntoken = "{BEARER}"\n\n[thresholds]'),
    "secret in a list": ("[thresholds]", f'[push]\ngateway = ["http://me:{IN_URL}@127.0.0.1"]\n\n[thresholds]'),
    "secret in a file that is no TOML": ("[thresholds]", f'[push]\ngateway = "http://me:{IN_URL}@127.0.0.1\n\n[thresholds]'),
}
BAD_VARIABLES: tuple[Mapping[str, str], ...] = (
    {"BATCHGAUGE_GATEWAY": f"http://me:{IN_URL}@127.0.0.1:9091"},
    {"BATCHGAUGE_GATEWAY": f"//me:{IN_URL}@[::1"},
    {"BATCHGAUGE_GATEWAY": f"postgresql://me:{IN_URL}@127.0.0.1/x"},
    {"BATCHGAUGE_LEDGER": f"mysql://me:{IN_URL}@127.0.0.1/ledger"},
    {"BATCHGAUGE_LEDGER": f"nonsense://me:{IN_URL}@127.0.0.1:port/ledger"},
    {"BATCHGAUGE_PASSWROD": PASSWORD},
    {**BASIC, **TOKEN},
    {"BATCHGAUGE_PASSWORD": PASSWORD},
    {"BATCHGAUGE_BEARER_TOKEN": f"{BEARER} with a space"},
    {**BASIC, "BATCHGAUGE_USERNAME": "a:b"},
)


def test_in_no_mistake_of_a_user(tmp_path: Path, job: TinyJob, commands: Commands, tally: Tally) -> None:
    """A job file or an environment that is wrong is one clear error, whatever secret stands in the wrong place."""
    good = job.spec.read_text()
    variables = {**os.environ, "BATCHGAUGE_LEDGER": str(tmp_path / "state" / "ledger.db")}
    tries = 0
    for name, (old, new) in BAD_FILES.items():
        job.spec.write_text(good.replace(old, new))
        for command in ("validate", "run", "register"):
            done = commands(command, job.spec, variables=variables)
            assert (done.code, "Traceback" in done.output) == (2, False), (name, done)
            assert leaks(done.output) == [], name
            tries += 1
    job.spec.write_text(good)
    for wrong in BAD_VARIABLES:
        done = commands("run", job.spec, "--json", variables={**variables, **wrong})
        assert done.code in {1, 2}, (wrong, done)
        assert "Traceback" not in done.output, wrong
        assert leaks(done.output) == [], wrong
        tries += 1
    assert leaks_in(tmp_path / "state") == []
    tally.add("secrets: mistakes of users", tries=tries, losses=0)


@pytest.mark.parametrize(
    "model",
    [
        "raise RuntimeError('no model today')",
        "password = 'local'; return undefined_name",
        "import sys; sys.exit(3)",
        "return torch.nn.Linear(3, 2)",
    ],
)
def test_in_no_crash_of_an_entrypoint(tmp_path: Path, job: TinyJob, commands: Commands, model: str) -> None:
    """Its traceback is in the run's reason; our secrets, which were in the same process, are not."""
    (job.folder / "tiny.py").write_text(f"import torch\n\n\ndef build():\n    {model}\n")
    variables = {**os.environ, **BASIC, "BATCHGAUGE_LEDGER": str(tmp_path / "state" / "ledger.db")}
    for command in (["run", job.spec, "--date", NIGHT, "--json"], ["history", "tiny", "--json"], ["status", "tiny"]):
        done = commands(*command, variables=variables)
        assert leaks(done.output) == []
    assert leaks_in(tmp_path) == []


class CommandLines:
    """All that a process, and what it starts, was called with, from `with` to the end of the block."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self.seen: set[str] = set()
        self.environments: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            for process in (self._process, *self._children()):
                try:
                    line = " ".join(process.cmdline())
                    self.seen.add(line)
                    self.environments[line] = process.environ()
                except psutil.Error:
                    continue  # it has just ended

    def _children(self) -> list[psutil.Process]:
        try:
            return self._process.children(recursive=True)
        except psutil.Error:
            return []


def test_in_nothing_that_a_scheduler_says_or_starts(tmp_path: Path, gateway: servers.Server, tally: Tally) -> None:
    """Its log, its pages, its metrics, the runs' output, every process's arguments: with a gateway that repeats our password,
    a job file that has another in it, a job that crashes, and strangers at the door.
    """
    schedule = Schedule(tmp_path, TinyJob(tmp_path / "jobs"))
    schedule.due_a_minute_ago(rows=300)
    (schedule.job.folder / "tiny.py").write_text("def build():\n    raise RuntimeError('no model today')\n")
    old, new = BAD_FILES["secret in the gateway's URL"]
    (schedule.job.folder / "wrong.toml").write_text(SPEC.replace('"tiny"', '"wrong"').replace(old, new))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "alerts").write_text(ALERTS)
    with FaultProxy(gateway) as proxy:
        proxy.fault = echo
        schedule.variables |= {
            **BASIC,
            "BATCHGAUGE_GATEWAY": proxy.url,
            "BATCHGAUGE_ALERTS_TOKEN_FILE": str(tmp_path / "secrets" / "alerts"),
        }
        with schedule.running("--log-json", "--sync-every", "1s") as daemon, CommandLines(daemon.pid) as lines:
            url = next(word for word in schedule.until("serves http").split() if word.startswith("http")).removesuffix("/,")
            poll(lambda: [run for run in schedule.ledger.runs("tiny") if run.outcome], deadline_seconds=60)
            schedule.until('"sync failed"')
            pages = [
                httpx.get(f"{url}{path}", trust_env=False).text
                for path in (
                    "/",
                    "/jobs/tiny",
                    "/metrics",
                    "/api/jobs",
                    "/api/jobs/tiny",
                    "/api/runs",
                    "/api/scheduler",
                    "/readyz",
                )
            ]
            for token in (f"{ALERTS}x", ALERTS):
                headers = {"Authorization": f"Bearer {token}"}
                pages.append(httpx.post(f"{url}/alerts", content=b"garbage", headers=headers, trust_env=False).text)
    assert "no model today" in "".join(pages)
    assert "check the user name and password" in schedule.log.read_text()
    assert leaks("".join(pages)) == []
    runs = [line for line in lines.seen if " run " in line]
    assert runs, "the run's process was not seen"
    assert leaks("\n".join(lines.seen)) == []
    assert ALERTS not in str([lines.environments[line] for line in runs])
    assert "BATCHGAUGE_ALERTS_TOKEN_FILE" not in str([lines.environments[line] for line in runs])
    wrong_file = frozenset({"wrong.toml", "alerts"})
    assert leaks_in(tmp_path, but=wrong_file) == []
    tally.add("secrets: scheduler, pages, processes", tries=len(pages) + len(lines.seen), losses=0)
