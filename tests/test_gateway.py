"""The gateway: real Pushgateways, and servers that misbehave."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
import trustme

from monitoring import servers
from monitoring.gateway import Credentials, Gateway
from pipelines.errors import PushError
from tests.conftest import poll
from tests.faults.server import Behaviour, FaultServer, answer, cut, hang, reset, trickle
from tests.queries import scraped

USERNAME, PASSWORD = "pusher", "correct horse"
HASH = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"  # bcrypt of the password, cheapest cost

ODD = ("a/b", "..", ".", "ü 🙂 \u2028", 'quote" and \\', "line\nbreak", "%2F+&?#", "\x00\x7f", "a.b-c_d", "@base64")


async def no_sleep(_seconds: float) -> None:
    """Between two attempts nothing is waited for, so that a test is quick."""


def gateway(url: str, *, timeout_seconds: float = 10.0, credentials: Credentials | None = None) -> Gateway:
    return Gateway(
        url, timeout_seconds=timeout_seconds, credentials=credentials, sleep=no_sleep, uniform=lambda low, _high: low
    )


# A real Pushgateway.


@pytest.mark.parametrize("value", ODD)
def test_any_job_and_label_survive(pushgateway: servers.Server, value: str) -> None:
    """A `/`, dots, line breaks, any UTF-8: they come back as they went, and can be deleted by the same key."""
    group = {"job": value, "env": value}
    there = gateway(pushgateway.url, timeout_seconds=60.0)
    there.put(group, b"a 1\n")
    (first,) = (one for one in there.groups() if one.labels == group)
    assert first.last_push_successful
    there.put(group, b"a 2\n")
    (second,) = (one for one in there.groups() if one.labels == group)
    assert second.pushed_at > first.pushed_at > 0
    there.delete(group)
    assert group not in [one.labels for one in there.groups()]


def test_an_empty_label_value_survives(pushgateway: servers.Server) -> None:
    """An empty one too, though no job name may be empty."""
    there = gateway(pushgateway.url)
    there.put({"job": "x", "env": ""}, b"a 1\n")
    assert [group.labels for group in there.groups()] == [{"job": "x", "env": ""}]
    there.delete({"job": "x", "env": ""})
    assert there.groups() == ()


def test_a_push_replaces_the_whole_group(pushgateway: servers.Server, prometheus: servers.Server) -> None:
    """What is no longer in the body is gone, and Prometheus sees what was pushed."""
    there = gateway(pushgateway.url)
    there.put({"job": "replaced"}, b"old 1\nkept 1\n")
    there.put({"job": "replaced"}, b"kept 2\n")
    poll(lambda: scraped(prometheus, 'kept{job="replaced"}') == {(): "2"})
    assert scraped(prometheus, 'old{job="replaced"}') == {}


def test_the_gateways_own_words_are_in_the_error(pushgateway: servers.Server) -> None:
    """They are in the body only; trying again would not help."""
    with pytest.raises(PushError, match=r"HTTP 400: .*second TYPE line|HTTP 400: .*TYPE") as caught:
        Gateway(pushgateway.url, timeout_seconds=30.0).put({"job": "x"}, b"# TYPE a gauge\n# TYPE a counter\na 1\n")
    assert caught.value.permanent
    assert "\n" not in str(caught.value)


def test_a_real_gateway_is_ready(pushgateway: servers.Server) -> None:
    """And a slash at the end of its URL does no harm."""
    Gateway(f"{pushgateway.url}/").ready()


def test_pushing_works_in_a_thread_and_in_a_running_event_loop(pushgateway: servers.Server) -> None:
    """A side thread pushes, and a scheduler may have an event loop."""
    there = gateway(pushgateway.url)
    thread = Thread(target=there.put, args=({"job": "thread"}, b"a 1\n"))
    thread.start()
    thread.join()

    async def inside() -> None:
        there.put({"job": "loop"}, b"a 1\n")

    asyncio.run(inside())
    assert {group.labels["job"] for group in there.groups()} == {"thread", "loop"}


# TLS and credentials.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A private certificate authority."""
    return trustme.CA()


@pytest.fixture(scope="module")
def guarded(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The HTTPS URL of a Pushgateway behind basic auth, with a certificate of the private authority."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    config = folder / "web.yml"
    config.write_text(
        f"tls_server_config: {{cert_file: cert.pem, key_file: key.pem}}\nbasic_auth_users: {{{USERNAME}: '{HASH}'}}\n"
    )
    with servers.pushgateway(web_config=config) as server:
        yield server.url.replace("http://", "https://")


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """The private authority's certificate."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return file


def test_basic_auth_goes_with_a_private_authority(guarded: str, ca_file: Path) -> None:
    """Both together, which the stock client can't."""
    there = Gateway(guarded, credentials=Credentials(USERNAME, PASSWORD), ca_file=ca_file)
    there.put({"job": "guarded"}, b"a 1\n")
    assert [group.labels for group in there.groups()] == [{"job": "guarded"}]
    there.ready()


@pytest.mark.parametrize("credentials", [None, Credentials(USERNAME, "hunter2"), Credentials(bearer="hunter2")])
def test_a_refused_credential_is_permanent_and_hidden(guarded: str, ca_file: Path, credentials: Credentials | None) -> None:
    """The message says what to check, not what was sent."""
    with pytest.raises(PushError, match=r"HTTP 401.*check the user name and password") as caught:
        Gateway(guarded, credentials=credentials, ca_file=ca_file).put({"job": "x"}, b"a 1\n")
    assert caught.value.permanent
    assert "hunter2" not in str(caught.value)


def test_an_untrusted_certificate_is_permanent_and_plain(guarded: str, ca_file: Path) -> None:
    """It names the setting that mends it; a certificate for another name says so."""
    with pytest.raises(PushError, match=r"certificate is not trusted.*set push\.ca_file") as caught:
        Gateway(guarded).ready()
    assert caught.value.permanent
    with pytest.raises(PushError, match=r"Hostname mismatch.*localhost"):
        Gateway(guarded.replace("127.0.0.1", "localhost"), ca_file=ca_file).ready()


def test_the_wrong_scheme_is_said_plainly(guarded: str, pushgateway: servers.Server) -> None:
    """http to an https port and the other way round."""
    with pytest.raises(PushError, match="HTTPS server") as caught:
        Gateway(guarded.replace("https", "http")).ready()
    assert caught.value.permanent
    with pytest.raises(PushError, match="doesn't speak TLS; write http://") as caught:
        Gateway(pushgateway.url.replace("http", "https")).ready()
    assert caught.value.permanent


def test_a_missing_authority_file_is_named(tmp_path: Path) -> None:
    """Also one that holds no certificate."""
    with pytest.raises(PushError, match=r"push\.ca_file .*nowhere\.pem: No such file"):
        Gateway("https://gateway", ca_file=tmp_path / "nowhere.pem")
    (tmp_path / "text.pem").write_text("not a certificate")
    with pytest.raises(PushError, match=r"text\.pem: .*as PEM"):
        Gateway("https://gateway", ca_file=tmp_path / "text.pem")


def test_credentials_show_no_secret() -> None:
    """Neither printed nor in the error about them; and they don't contradict each other."""
    for credentials in (Credentials(USERNAME, "hunter2"), Credentials(bearer="hunter2")):
        assert "hunter2" not in f"{credentials} {credentials!r}"
    for wrong in ({"username": "u"}, {"username": "u", "password": "hunter2", "bearer": "b"}, {"bearer": "hunter2\n"}):
        with pytest.raises(ValueError, match=r"together|not both|printable") as caught:
            Credentials(**wrong)
        assert "hunter2" not in str(caught.value)


def test_a_server_that_repeats_our_secret_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the password, nor the header it was in; and no proxy of the environment ever sees either."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    said = b"no: hunter2, Basic cHVzaGVyOmh1bnRlcjI="
    with (
        FaultServer(answer("403 Forbidden", said)) as server,
        pytest.raises(PushError, match=r"no: \[secret\], Basic \[secret\]"),
    ):
        gateway(server.url, credentials=Credentials(USERNAME, "hunter2")).put({"job": "x"}, b"a 1\n")
    assert b"authorization: basic chvzagvyomh1bnrlcji=" in server.requests[0].lower()


# Servers that misbehave.


@pytest.mark.parametrize("fault", [reset, cut, answer("500 Oops"), answer("503 Busy", b"later"), answer("429 Slow down")])
def test_what_may_pass_is_tried_again(fault: Behaviour) -> None:
    """And counts as delivered when a whole answer says so."""
    with FaultServer(fault, fault, answer("200 OK")) as server:
        gateway(server.url).put({"job": "x"}, b"a 1\n")
        assert len(server.requests) == 3


@pytest.mark.parametrize("fault", [hang, trickle])
def test_a_connection_that_hangs_is_given_up_for_another(fault: Behaviour) -> None:
    """One lost connection costs half of the deadline, not all of it."""
    with FaultServer(fault, answer("200 OK")) as server:
        gateway(server.url, timeout_seconds=2.0).put({"job": "x"}, b"a 1\n")
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (hang, "no whole answer"),
        (trickle, "no whole answer"),
        (reset, "no answer"),
        (answer("502 Bad", b"<b>\n  proxy"), "HTTP 502: <b> proxy"),
    ],
)
def test_one_deadline_bounds_it_all(fault: Behaviour, words: str) -> None:
    """Whatever trickles in, however often it is tried; the state stays owed."""
    with FaultServer(fault) as server, pytest.raises(PushError, match=f"{words}.*attempts? within 0.6 s") as caught:
        Gateway(server.url).put({"job": "x"}, b"a 1\n", deadline_seconds=0.6)
    assert not caught.value.permanent


def test_a_gateway_that_does_not_answer_is_asked_twice() -> None:
    """It works on what was given up, too: more attempts would only keep it from ever catching up."""
    with FaultServer(hang) as server, pytest.raises(PushError, match=r"no whole answer within .* \(2 attempts within 2\.5 s\)"):
        gateway(server.url, timeout_seconds=2.5).put({"job": "x"}, b"a 1\n")


def test_an_attempt_that_the_deadline_cuts_short_hides_nothing() -> None:
    """The error says how the gateway failed while there was time, and not that the last moment was too short."""
    with FaultServer(reset, hang) as server, pytest.raises(PushError, match=r"no answer: .*2 attempts within 0\.6 s") as caught:
        Gateway(server.url).put({"job": "x"}, b"a 1\n", deadline_seconds=0.6)
    assert not caught.value.permanent


def test_a_refused_connection_says_so() -> None:
    """Nobody listens: try again later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(PushError, match=r"no answer: .*refused.*; is the gateway up\?") as caught:
        Gateway(f"http://127.0.0.1:{port}").put({"job": "x"}, b"a 1\n", deadline_seconds=0.3)
    assert not caught.value.permanent
    with pytest.raises(PushError, match="no time was left"):
        Gateway(f"http://127.0.0.1:{port}").put({"job": "x"}, b"a 1\n", deadline_seconds=0.0)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (answer("200 OK", b"<html>Welcome</html>"), "as no Pushgateway does.*Welcome"),
        (answer("204 No Content"), "as no Pushgateway does"),
        (answer("200 OK", b"x" * 100_000), "has no end"),
        (answer("302 Found", headers="Location: http://elsewhere/\r\n"), "redirects to 'http://elsewhere/'"),
        (answer("404 Not Found"), "HTTP 404; check the URL's path"),
        (answer("413 Too Large", b"smaller, please"), "HTTP 413: smaller, please"),
    ],
)
def test_an_answer_that_is_no_pushgateways_is_permanent(fault: Behaviour, words: str) -> None:
    """Any web server says 200: that is no proof of a push."""
    with FaultServer(fault) as server, pytest.raises(PushError, match=words) as caught:
        gateway(server.url).put({"job": "x"}, b"a 1\n")
    assert caught.value.permanent
    assert len(server.requests) == 1


def test_another_servers_list_is_not_a_list_of_groups() -> None:
    """Nor is its page a sign of being ready."""
    for body in (b"<html>", b"{}", b'{"data": [1]}'):
        with FaultServer(answer("200 OK", body)) as server:
            with pytest.raises(PushError, match="isn't a Pushgateway's"):
                gateway(server.url).groups()
            with pytest.raises(PushError, match="doesn't say OK"):
                gateway(server.url).ready()


def test_the_waits_grow_and_stay_within_the_deadline() -> None:
    """Full jitter: up to a bound that doubles, none beyond the end."""
    bounds: list[float] = []

    def longest(low: float, high: float) -> float:
        bounds.append(high)
        return low

    with FaultServer(*[answer("503 Busy")] * 6, answer("200 OK")) as server:
        Gateway(server.url, sleep=no_sleep, uniform=longest).put({"job": "x"}, b"a 1\n")
    assert bounds == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0]
    with FaultServer(answer("503 Busy")) as server, pytest.raises(PushError, match="1 attempt within 10 s"):
        Gateway(server.url, uniform=lambda _low, _high: 11.0).put({"job": "x"}, b"a 1\n")


# Addresses.


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user:hunter2@gateway:9091", "BATCHGAUGE_USERNAME"),
        ("http://gateway:9091/metrics", "without /metrics: http://gateway:9091"),
        ("http://gateway:9091/base/metrics/job/x", "without /metrics: http://gateway:9091/base"),
        ("gateway:9091", "must be http://host:port"),
        ("ftp://gateway", "must be http://host:port"),
        ("http://", "must be http://host:port"),
        ("http://gateway?x=1", "must not have a query"),
        ("http://gateway:port", "can't be understood"),
        ("", "must be http://host:port"),
    ],
)
def test_a_url_that_cannot_be_says_what_to_write(url: str, words: str) -> None:
    """Before anything is sent, and without the password."""
    with pytest.raises(PushError, match=words) as caught:
        Gateway(url)
    assert caught.value.permanent
    assert "hunter2" not in str(caught.value)


def test_a_group_needs_a_job_and_proper_label_names() -> None:
    """The client checks, since the server would take the wrong path."""
    for group, words in (({"job": ""}, "job name"), ({"env": "x"}, "job name"), ({"job": "x", "a/b": "c"}, "label name")):
        with pytest.raises(PushError, match=words):
            Gateway("http://gateway").put(group, b"")
