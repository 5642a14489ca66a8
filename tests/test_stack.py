"""The local stack: real servers, started, watched over, looked at and ended, as a person does it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from jobs.environment import read
from jobs.stack import _interruptible, default_folder
from monitoring import servers, stack_record
from monitoring.deployment import AddressError, DeploymentError
from monitoring.gateway import Gateway
from monitoring.server import free_port
from monitoring.stack import Stack
from monitoring.stack_record import Record, ServerRecord, StackError, StackRuns
from tests.conftest import poll
from tests.queries import scraped

NAMES = ("pushgateway", "node_exporter", "alertmanager", "prometheus")
COMMAND = (str(Path(sys.executable).parent / "batchgauge"), "stack")


class Commands:
    """`batchgauge stack` for one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        line = [*COMMAND, command, "--folder", str(self.folder), *options]
        return subprocess.run(line, capture_output=True, text=True, timeout=100, check=False)

    @contextmanager
    def up(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """In the foreground, from its start to the end of the block."""
        line = [*COMMAND, "up", "--folder", str(self.folder), "--scrape-interval", "1s", *options]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def ready(self) -> Record:
        """Wait until all is."""
        return self.recorded(ready=True)

    def recorded(self, *, ready: bool) -> Record:
        """The record, once it has servers, and says that they are ready, or not yet."""

        def record() -> Record | None:
            found = stack_record.read(self.folder)
            return found if found and found.servers and found.ready is ready else None

        found = poll(record)
        assert found
        return found

    def status(self) -> Any:
        return json.loads(self("status", "--json").stdout)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path / "stack")
    yield commands
    with suppress(StackError):
        if stack_record.is_running(commands.folder):
            stack_record.end(commands.folder)


def gone(record: Record) -> bool:
    return not any(psutil.pid_exists(server.pid) and is_ours(server) for server in record.servers)


def is_ours(server: ServerRecord) -> bool:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(server.pid)
        return process.status() != psutil.STATUS_ZOMBIE and tuple(process.cmdline()) == server.command
    return False


@contextmanager
def taken_port(port: int) -> Iterator[None]:
    """Somebody listens there, if not somebody else does already."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what was closed a moment ago is nobody
        with suppress(OSError):
            listener.bind(("127.0.0.1", port))
            listener.listen()
        yield


@contextmanager
def hangup(handler: signal.Handlers) -> Iterator[None]:
    """What a closed terminal means to us, and to those whom we start: these tests may run under `nohup`, or not."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stack_from_start_to_end(stack: Commands) -> None:
    """In the foreground, beside another server on a default port; a second one is refused; SIGTERM is a good end."""
    with taken_port(9091), stack.up() as process:
        record = stack.ready()
        assert [server.name for server in record.servers] == list(NAMES)
        assert process.pid == record.pid

        status = stack.status()
        assert (status["running"], status["ready"], status["pid"]) == (True, True, process.pid)
        assert all(server["up"] for server in status["servers"])
        health = {target["job"]: target["health"] for target in status["targets"]}
        assert {job for job, state in health.items() if state == "up"} == {"prometheus", "pushgateway", "node", "alertmanager"}
        shown = stack("status")
        assert shown.returncode == 0
        gateway = record.server("pushgateway")
        assert gateway.port != 9091
        assert [line.split() for line in shown.stdout.splitlines() if line.split()[:1] == ["pushgateway"]] == [
            ["pushgateway", gateway.url, "up", *["port", "9091", "is", "taken", "by", "another", "process"]],
            ["pushgateway", gateway.url.removeprefix("http://"), "up"],
        ]
        assert "not of this stack" in next(line for line in shown.stdout.splitlines() if "scheduler" in line)

        second = stack("up")
        assert second.returncode == 1
        down = f"batchgauge stack down --folder {stack.folder}"
        said = f"error: a stack runs in {stack.folder} already (process {process.pid}); '{down}' ends it\n"
        assert second.stderr == said

        prometheus = servers_of(record)["prometheus"]
        rules = httpx.get(f"{prometheus}/api/v1/rules", trust_env=False).json()["data"]["groups"]
        assert {group["interval"] for group in rules} == {1}
        known = httpx.get(f"{prometheus}/api/v1/alertmanagers", trust_env=False).json()["data"]["activeAlertmanagers"]
        assert [entry["url"].split("/api/")[0] for entry in known] == [record.server("alertmanager").url]

        process.terminate()
        out, err = process.communicate()
    assert process.returncode == 0
    assert "prometheus" in out
    assert f"export BATCHGAUGE_GATEWAY={gateway.url}" in err
    assert err.endswith(f"the stack in {stack.folder} has ended; its data is kept\n")
    assert gone(record)
    assert stack("status").returncode == 1
    assert (
        f"no stack runs in {stack.folder}; 'batchgauge stack up --folder {stack.folder}' starts one" in stack("status").stdout
    )


def servers_of(record: Record) -> dict[str, str]:
    return {server.name: server.url for server in record.servers}


def test_what_was_pushed_and_scraped_is_there_after_a_restart(stack: Commands) -> None:
    """A stack in the background outlives the command, and `down` waits until it has ended."""
    started = stack("up", "--detach", "--scrape-interval", "1s")
    assert started.returncode == 0, started.stderr
    assert "batchgauge stack down" in started.stderr
    record = stack.ready()
    Gateway(record.server("pushgateway").url).put({"job": "kept"}, b"kept_total 7\n")
    prometheus = servers_of(record)["prometheus"]
    poll(lambda: httpx.get(f"{prometheus}/api/v1/query?query=kept_total", trust_env=False).json()["data"]["result"])
    ended = stack("down")
    assert (ended.returncode, ended.stderr) == (0, f"the stack in {stack.folder} has ended; its data is kept\n")
    assert gone(record)
    assert stack("down").stderr == f"no stack runs in {stack.folder}\n"
    assert f"what it said is in {stack.folder}/stack.log" in stack("status").stdout

    with Stack(stack.folder, interval="1s", default_ports=False) as again:
        assert [group.labels for group in Gateway(again.gateway.url).groups()] == [{"job": "kept"}]
        samples = poll(lambda: scraped(again.prometheus, "count_over_time(kept_total[10m])"))
        assert samples.keys() == {()}
        before = f'count_over_time(up{{job="pushgateway", instance="{record.server("pushgateway").url[7:]}"}}[10m])'
        assert scraped(again.prometheus, before)


def test_a_killed_stack_leaves_no_server_and_is_noticed(stack: Commands) -> None:
    """Nobody was there to end them: the kernel does. The next one says so; then one of its servers dies, and all end."""
    with stack.up() as process:
        record = stack.ready()
        process.kill()
        process.wait()
        poll(lambda: gone(record))
        assert "(the last one was killed)" in stack("status").stdout
    with stack.up() as process:
        poll(lambda: (record := stack_record.read(stack.folder)) and record.pid == process.pid)
        record = stack.ready()
        os.kill(record.server("alertmanager").pid, signal.SIGKILL)
        _, err = process.communicate()
        assert process.returncode == 1
        assert "was killed here; what it left is cleared away" in err
        assert "error: alertmanager has ended (signal 9); its last words:\n" in err
        assert "Traceback" not in err
    assert gone(record)
    assert stack_record.read(stack.folder) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stack_that_is_just_starting_can_be_ended(stack: Commands, number: signal.Signals) -> None:
    """By Ctrl-C, by `down`, or when its terminal is closed; nothing is left."""
    with hangup(signal.SIG_DFL), stack.up() as process:
        record = stack.recorded(ready=False)
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in err
    assert gone(record)
    assert not stack_record.is_running(stack.folder)


def test_a_stack_that_was_started_with_nohup_outlives_its_terminal() -> None:
    """Other signals end it all the same."""
    with hangup(signal.SIG_IGN), _interruptible() as asked:
        signal.raise_signal(signal.SIGHUP)
        assert not asked.to_end
        signal.raise_signal(signal.SIGTERM)
    assert asked.to_end


def test_what_a_killed_stack_left_running_is_ended(tmp_path: Path) -> None:
    """Where the kernel can't do it: by process, and only if it still is the one that was started."""
    with servers.pushgateway(folder=tmp_path / "gateway") as left, servers.pushgateway() as another:
        recorded, foreign = stack_record.recorded(left), stack_record.recorded(another)
        reused = ServerRecord("x", foreign.port, foreign.url, foreign.ready_url, foreign.pid, ("another", "command"))
        stack_record.write(tmp_path, Record(pid=1, ready=True, servers=(recorded, reused)))
        assert stack_record.end_leftovers(tmp_path) == Record(pid=1, ready=True, servers=(recorded, reused))
        assert poll(lambda: left.how_it_ended)
        assert another.exit_code is None
    assert stack_record.read(tmp_path) is None
    assert stack_record.end_leftovers(tmp_path) is None


def test_a_server_that_does_not_start_ends_the_stack_with_its_words(stack: Commands) -> None:
    """In the foreground as in the background; what was started before is ended."""
    data = stack.folder / "prometheus" / "data"
    data.parent.mkdir(parents=True)
    data.write_text("no folder")
    for options in ([], ["--detach"]):
        done = stack("up", *options)
        assert done.returncode == 1
        assert done.stderr.startswith("error: prometheus did not become ready on 127.0.0.1:")
        assert "not a directory" in done.stderr
        assert "Traceback" not in done.stderr
        assert not stack_record.is_running(stack.folder)
        assert stack_record.read(stack.folder) is None


def test_a_port_that_is_gone_in_the_last_moment_is_exchanged(stack: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """All addresses are chosen before the first server starts, so all are chosen again."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        ports = iter([taken, taken])
        monkeypatch.setattr("monitoring.stack.free_port", lambda preferred: next(ports, None) or free_port(preferred))
        with Stack(stack.folder, interval="1s", default_ports=False) as running:
            assert taken not in {server.port for server in running.servers}
            assert {target.address for target in running.targets() if target.health == "up"} == {
                server.address for server in running.servers
            }
            textfile = running.textfiles / "job.prom"
            textfile.write_text("from_a_textfile 3\n")
            poll(lambda: scraped(running.prometheus, "from_a_textfile"))


def test_a_process_that_has_the_number_of_a_killed_stacks_is_left_alone(tmp_path: Path) -> None:
    """The next stack is just starting, and the record is still that of the one before."""
    with servers.pushgateway() as another, stack_record.locked(tmp_path):
        assert another.pid is not None
        stack_record.write(tmp_path, Record(another.pid, ready=True, command=("batchgauge", "stack", "up")))
        with pytest.raises(StackError, match=r"just starting or ending in .*: try again"):
            stack_record.end(tmp_path)
        Gateway(another.url).ready()


@pytest.mark.parametrize("interval", ["1h", "fast"])
def test_a_wrong_interval_is_a_usage_error(stack: Commands, interval: str) -> None:
    """Before anything starts."""
    done = stack("up", "--scrape-interval", interval)
    assert (done.returncode, done.stderr) == (
        2,
        f"error: --scrape-interval '{interval}': give a whole number and ms, s or m, as in 5s\n",
    )


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """In the foreground as in the background."""
    (tmp_path / "file").write_text("")
    stack = Commands(tmp_path / "file" / "stack")
    for options in ([], ["--detach"]):
        done = stack("up", *options)
        assert (done.returncode, done.stderr) == (
            1,
            f"error: folder {stack.folder} can't be used (Not a directory): name another, or mend that\n",
        )
    with pytest.raises(AddressError, match=r"folder .*/a#b can't be put into Alertmanager's configuration: name one without"):
        Stack(tmp_path / "a#b").__enter__()
    (tmp_path / "config").write_text("")
    with pytest.raises(DeploymentError, match=f"{tmp_path}/config.* can't be written"):
        Stack(tmp_path).__enter__()
    (tmp_path / "config").unlink()
    with pytest.raises(StackError, match=rf"folder {tmp_path} can't be used \(File exists at {tmp_path}/file\)"):
        Stack(tmp_path, textfiles=tmp_path / "file").__enter__()
    (tmp_path / "pushgateway").write_text("")
    with pytest.raises(servers.ServerFailed, match=r"pushgateway can't be started: .*File exists"):
        Stack(tmp_path).__enter__()


def test_servers_that_are_missing_are_named_with_the_command_that_installs_them(
    stack: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left running."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("BATCHGAUGE_TOOLS", raising=False)
    monkeypatch.setattr(servers, "_TOOLS", tmp_path / "tools")
    with pytest.raises(servers.MissingServer, match=f"install it: python -m monitoring.servers install {tmp_path}/tools"):
        Stack(stack.folder).__enter__()
    assert not stack_record.is_running(stack.folder)


def test_the_lock_says_who_holds_it(tmp_path: Path) -> None:
    """Also before the record is written; a record that can't be understood is none."""
    with stack_record.locked(tmp_path):
        with pytest.raises(StackRuns, match=r"already \(it is just starting or ending\)"), stack_record.locked(tmp_path):
            pass
        with pytest.raises(StackError, match=r"just starting or ending in .*: try again"):
            stack_record.end(tmp_path)
        (tmp_path / "stack.json").write_text('{"pid": 1}')
        assert stack_record.read(tmp_path) is None
    assert not stack_record.is_running(tmp_path)
    with pytest.raises(StackError, match="the stack of process 1 has no prometheus yet"):
        Record(pid=1).server("prometheus")


@pytest.mark.parametrize("prefix", ["", "sqlite:///"])
def test_without_a_folder_it_lies_beside_the_ledger(prefix: str) -> None:
    """Also where the ledger is named by a home folder: a crontab's settings are not expanded by a shell."""
    assert default_folder(read({"BATCHGAUGE_LEDGER": f"{prefix}~/state/ledger.db"})) == Path.home() / "state" / "stack"
