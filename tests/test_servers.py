"""Starting real servers, and finding them."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import psutil
import pytest

from monitoring import server, servers
from monitoring.gateway import Gateway
from tests.conftest import poll
from tests.queries import scraped

ROOT = Path(__file__).parent.parent


def test_a_server_is_ready_when_entered_and_gone_when_left() -> None:
    """Each on a port of its own, on loopback only, with nothing left over from another."""
    with servers.pushgateway() as one, servers.pushgateway() as other:
        assert one.port != other.port
        Gateway(one.url).put({"job": "x"}, b"a 1\n")
        assert Gateway(other.url).groups() == ()
        assert one.pid is not None
        process = psutil.Process(one.pid)
        listening = {connection.laddr.ip for connection in process.net_connections() if connection.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
    assert not process.is_running()


def test_a_gateway_keeps_what_it_holds_in_its_folder(tmp_path: Path) -> None:
    """And its output, from its last start on."""
    with servers.pushgateway(folder=tmp_path / "gateway") as gateway:
        Gateway(gateway.url).put({"job": "x"}, b"a 1\n")
    with servers.pushgateway(folder=tmp_path / "gateway") as gateway:
        assert [group.labels for group in Gateway(gateway.url).groups()] == [{"job": "x"}]
        log = (tmp_path / "gateway" / "pushgateway.log").read_text()
        assert gateway.output.startswith(log)
        assert log.count("starting pushgateway") == 1


def test_a_server_that_was_killed_is_seen_with_its_last_words() -> None:
    """The watcher of a stack asks for both."""
    with servers.pushgateway() as gateway:
        assert gateway.pid is not None
        psutil.Process(gateway.pid).kill()
        assert poll(lambda: gateway.exit_code) == -9
        assert "starting pushgateway" in gateway.last_words


def test_a_server_dies_with_the_process_that_started_it() -> None:
    """Even when that was killed."""
    code = """
import threading
from monitoring import servers
with servers.pushgateway() as server:
    print(server.pid, flush=True)
    threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        process = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
    poll(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def test_a_server_that_does_not_start_shows_its_own_words(tmp_path: Path) -> None:
    """And is tried once only, when the port was not the reason."""
    rules = tmp_path / "rules.yml"
    rules.write_text("groups: nonsense")
    prometheus = servers.prometheus(scrape={}, rules=[rules])
    with pytest.raises(servers.ServerFailed, match="nonsense") as failed:
        prometheus.start()
    assert not isinstance(failed.value, servers.PortTaken)
    assert prometheus.pid is None


def test_a_program_that_cannot_be_executed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one for another machine would be."""
    program = tmp_path / "pushgateway"
    program.write_bytes(b"\x7fELF nothing more")
    program.chmod(0o755)
    monkeypatch.setenv("BATCHGAUGE_TOOLS", str(tmp_path))
    with pytest.raises(servers.ServerFailed, match=r"pushgateway can't be started: .*format"):
        servers.pushgateway().start()


def test_a_free_port_that_is_gone_is_exchanged_for_another(
    pushgateway: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may be quicker than we are."""
    ports = iter([pushgateway.port, pushgateway.port])
    free = server.free_port
    monkeypatch.setattr(server, "free_port", lambda: next(ports, None) or free())
    with servers.pushgateway() as another:
        assert another.port != pushgateway.port
        Gateway(another.url).ready()


def test_a_port_that_was_asked_for_is_had_or_refused(pushgateway: servers.Server) -> None:
    """And again after a stop, so that who scrapes it finds it back."""
    with pytest.raises(servers.PortTaken, match=f"on 127.0.0.1:{pushgateway.port}"):
        servers.pushgateway(port=pushgateway.port).start()
    port = server.free_port()
    gateway = servers.pushgateway(port=port)
    for _ in range(2):
        with gateway:
            assert gateway.url == f"http://127.0.0.1:{port}"
            Gateway(gateway.url).ready()


def test_the_preferred_port_is_free_unless_somebody_listens_on_it(pushgateway: servers.Server) -> None:
    """Whether on loopback or on all interfaces."""
    assert server.free_port(pushgateway.port) not in {pushgateway.port, 0}
    port = server.free_port()
    assert server.free_port(port) == port
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))  # noqa: S104  for the length of this test
        listener.listen()
        assert server.free_port(listener.getsockname()[1]) != listener.getsockname()[1]


def test_a_server_of_something_else_is_not_up() -> None:
    """A port that a server of ours had may be another's by now, and that need not speak HTTP."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")
                connection.recv(1000)

        greeter = threading.Thread(target=greet)
        greeter.start()
        assert not server.is_up(port, f"http://127.0.0.1:{port}/-/ready")
        greeter.join()


def test_node_exporter_has_this_machine_and_our_textfiles(tmp_path: Path) -> None:
    """Nothing of the machine's own collector folder."""
    (tmp_path / "job.prom").write_text("ours 1\n")
    with servers.node_exporter(textfiles=tmp_path) as exporter:
        metrics = httpx.get(f"{exporter.url}/metrics", trust_env=False).text
    assert "\nours 1\n" in metrics
    assert "node_cpu_seconds_total{" in metrics
    with servers.node_exporter() as exporter:
        assert "node_textfile_mtime_seconds{" not in httpx.get(f"{exporter.url}/metrics", trust_env=False).text


def test_the_pages_of_the_servers_are_there(tmp_path: Path) -> None:
    """Unpacked, not installed: they are looked for where they were unpacked, and their scripts with them."""
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    with (
        servers.pushgateway() as gateway,
        servers.alertmanager(config=config) as alertmanager,
        servers.prometheus() as prometheus,
    ):
        for running in (gateway, alertmanager, prometheus):
            page = httpx.get(running.url, trust_env=False, follow_redirects=True)
            assert (page.status_code, "<html" in page.text.lower()) == (200, True), running.name
            for script in re.findall(r'<script [^>]*src="([^"]+)"', page.text):
                assert httpx.get(page.url.join(script), trust_env=False).status_code == 200, script


def test_links_in_alerts_lead_to_loopback(tmp_path: Path) -> None:
    """Not to whatever this machine calls itself."""
    config = tmp_path / "prometheus.yml"
    config.write_text("scrape_configs: [{job_name: none}]")
    with servers.prometheus(config=config, folder=tmp_path / "data") as prometheus:
        flags = httpx.get(f"{prometheus.url}/api/v1/status/flags", trust_env=False).json()["data"]
        assert flags["web.external-url"] == prometheus.url
        assert flags["storage.tsdb.path"] == str(tmp_path / "data" / "data")
        assert scraped(prometheus, "up") == {}


def program(place: Path, name: str) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / name).touch(mode=0o755)
    return place / name


@pytest.fixture
def no_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any program: nothing on PATH, none beside the code, no variable. Returns our own tools folder."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("BATCHGAUGE_TOOLS", raising=False)
    monkeypatch.setattr(servers, "_TOOLS", tmp_path / "ours")
    return tmp_path / "ours"


@pytest.mark.parametrize("place", ["root/usr/bin", "."])
@pytest.mark.parametrize("name", ["pushgateway", "prometheus-pushgateway"])
def test_a_program_has_two_names_and_two_places(
    no_tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    """Upstream's and Debian's, unpacked by us or put there by hand; what can't be run isn't it."""
    tools = tmp_path / "tools"
    monkeypatch.setenv("BATCHGAUGE_TOOLS", str(tools))
    file = program(tools / place, name)
    file.chmod(0o644)
    with pytest.raises(servers.MissingServer, match=f"not in {tools} or {no_tools}; install it: .* install {tools}$"):
        servers.find("pushgateway")
    file.chmod(0o755)
    assert servers.find("pushgateway").samefile(file)
    assert servers.find("prometheus-pushgateway").samefile(file)


def test_a_browser_that_is_missing_is_missed_with_its_own_command(no_tools: Path) -> None:
    """It is installed apart: only tests need it."""
    with pytest.raises(servers.MissingServer, match=f"chromium is not on PATH .* install {no_tools} chromium$"):
        servers.find("chromium")


def test_a_named_folder_comes_before_path_and_ours_comes_last(
    no_tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a person names is meant; what a machine has is what is used; what we unpacked is for the rest."""
    ours = program(no_tools, "node_exporter")
    assert servers.find("node_exporter") == ours
    on_path = program(tmp_path / "path", "node_exporter")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert servers.find("prometheus-node-exporter") == on_path
    named = program(tmp_path / "named", "node_exporter")
    monkeypatch.setenv("BATCHGAUGE_TOOLS", str(named.parent))
    assert servers.find("node_exporter") == named
    monkeypatch.setenv("BATCHGAUGE_TOOLS", str(tmp_path / "empty"))
    assert servers.find("node_exporter") == on_path


@pytest.mark.parametrize("arguments", [[], ["remove", "x"], ["install"], ["install", "x", "grafana"]], ids=" ".join)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is exit code 2, with how it is used."""
    with pytest.raises(SystemExit) as ended:
        servers.main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m monitoring.servers" in capsys.readouterr().err
