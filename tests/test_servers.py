"""Finding and starting real servers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from monitoring import servers
from monitoring.gateway import Gateway
from tests.conftest import poll

ROOT = Path(__file__).parent.parent


def test_a_server_is_ready_when_entered_and_gone_when_left() -> None:
    """Each on a port of its own, on loopback only, with nothing left over from another."""
    with servers.pushgateway() as one, servers.pushgateway() as other:
        assert one.port != other.port
        Gateway(one.url).put({"job": "x"}, b"a 1\n")
        assert Gateway(other.url).groups() == ()
        assert one._process is not None
        process = psutil.Process(one._process.pid)
        listening = {connection.laddr.ip for connection in process.net_connections() if connection.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
    assert not process.is_running()


def test_a_gateway_can_keep_what_it_holds(tmp_path: Path) -> None:
    """In the file it was given."""
    with servers.pushgateway(persistence=tmp_path / "state") as server:
        Gateway(server.url).put({"job": "x"}, b"a 1\n")
    with servers.pushgateway(persistence=tmp_path / "state") as server:
        assert [group.labels for group in Gateway(server.url).groups()] == [{"job": "x"}]


def test_a_server_dies_with_the_process_that_started_it() -> None:
    """Even when that was killed."""
    code = """
import threading
from monitoring import servers
with servers.pushgateway() as server:
    print(server._process.pid, flush=True)
    threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        server = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
    poll(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)


def test_a_server_that_does_not_start_shows_its_own_words(tmp_path: Path) -> None:
    """And is tried once only, when the port was not the reason."""
    rules = tmp_path / "rules.yml"
    rules.write_text("groups: nonsense")
    with pytest.raises(servers.ServerFailed, match="nonsense"):
        servers.prometheus(scrape={}, rules=[rules]).start()


def test_a_taken_port_is_exchanged_for_another(pushgateway: servers.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may be quicker than we are."""
    ports = iter([pushgateway.port, pushgateway.port])
    free = servers._free_port
    monkeypatch.setattr(servers, "_free_port", lambda: next(ports, None) or free())
    with servers.pushgateway() as server:
        assert server.port != pushgateway.port
        Gateway(server.url).ready()


@pytest.mark.parametrize("place", ["root/usr/bin", "."])
@pytest.mark.parametrize("name", ["pushgateway", "prometheus-pushgateway"])
def test_a_binary_has_two_names_and_two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str) -> None:
    """Upstream's and Debian's, unpacked by us or put there by hand; what can't be run isn't it."""
    monkeypatch.setenv("PATH", "")
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("")
    with pytest.raises(servers.MissingServer, match=f"python -m monitoring.servers install {tmp_path}"):
        servers.find("pushgateway", tools=tmp_path)
    (folder / name).chmod(0o755)
    assert servers.find("pushgateway", tools=tmp_path) == folder / name
    monkeypatch.setenv("BATCHGAUGE_TOOLS", str(tmp_path))
    assert servers.find("prometheus-pushgateway") == folder / name


def test_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine has is what is used."""
    binary = tmp_path / "node_exporter"
    binary.write_text("")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert servers.find("prometheus-node-exporter") == binary


def install(folder: Path, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-m", "monitoring.servers", "install", str(folder)]
    environment = {**os.environ, "PATH": str(path)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_installing_needs_the_standard_library_only_and_says_what_is_missing(tmp_path: Path) -> None:
    """Without site-packages, and on a machine without apt: a plain message and exit code 1."""
    done = install(tmp_path / "tools", tmp_path)
    assert done.returncode == 1
    assert "there is no apt-get here: install prometheus, prometheus-pushgateway" in done.stderr
    assert "Traceback" not in done.stderr


def test_installing_again_does_nothing(tmp_path: Path) -> None:
    """Idempotent: what is there is not fetched again (there is no apt on this path)."""
    folder = tmp_path / "root" / "usr" / "bin"
    folder.mkdir(parents=True)
    for program in ("prometheus", "promtool", "prometheus-pushgateway", "prometheus-alertmanager", "prometheus-node-exporter"):
        (folder / program).touch(mode=0o755)
    done = install(tmp_path, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"the servers are on PATH or in {folder} already" in done.stdout


def test_a_download_that_fails_is_told_in_apts_words(tmp_path: Path) -> None:
    """Also after the second way was tried."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in {"apt-get": "echo 'E: no network' >&2; exit 100", "dpkg": "exit 0"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    done = install(tmp_path / "tools", programs)
    assert done.returncode == 1
    assert "fetching lists into" in done.stdout
    assert "E: no network" in done.stderr
    assert "Traceback" not in done.stderr


def test_usage() -> None:
    """Anything else is exit code 2."""
    assert servers.main([]) == servers.main(["remove", "x"]) == 2
