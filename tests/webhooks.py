"""What an Alertmanager delivers to, real ones on loopback: web hooks, a mailbox, and the configuration that names them."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer, ThreadingTCPServer
from types import TracebackType
from typing import Any, Self

CONFIGURATION = Path(__file__).parent.parent / "monitoring" / "prometheus" / "alertmanager.yml"
CHAT, RETRAIN, TOKEN = "/chat", "/alerts", "the scheduler's token"
_LOOPBACK = ("127.0.0.1", 0)


class _Receiver:
    """A server that listens from `with` to the end of the block."""

    def __init__(self, server: TCPServer) -> None:
        self._server = server

    @property
    def address(self) -> str:
        """`host:port`."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class Request:
    """A POST that arrived: where, with which `Authorization`, and its JSON."""

    path: str
    authorization: str | None
    document: Any


class Webhooks(_Receiver):
    """Web hooks: whatever is posted is kept and answered with 200, once as many were refused as `refusals` says."""

    def __init__(self, *, refusals: int = 0) -> None:
        self._kept: list[Request] = []
        self.refused: list[Request] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Request(self.path, self.headers["Authorization"], json.loads(body))
                refuse = len(receiver.refused) < refusals
                (receiver.refused if refuse else receiver._kept).append(request)
                self.send_response(HTTPStatus.SERVICE_UNAVAILABLE if refuse else HTTPStatus.OK)
                self.end_headers()
                self.wfile.write(b"ok")  # what Slack answers

            def log_message(self, *_: object) -> None:
                """Tests speak by what they assert."""

        super().__init__(ThreadingHTTPServer(_LOOPBACK, Handler))

    def posted(self, path: str) -> list[Any]:
        """The documents that were posted to `path` and taken, in the order of their arrival."""
        return [request.document for request in self._kept if request.path == path]

    def authorizations(self, path: str) -> set[str | None]:
        """With what they were."""
        return {request.authorization for request in self._kept if request.path == path}


class Mailbox(_Receiver):
    """An SMTP server that keeps every whole mail in `mails`. No TLS, no password."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        mailbox = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                self._say("220 mailbox")
                while command := self.rfile.readline()[:4].upper():
                    if command == b"DATA":
                        self._say("354 go on")
                        mailbox.mails.append(message_from_bytes(self._mail(), policy=policy.default))
                    self._say("221 bye" if command == b"QUIT" else "250 mailbox")

            def _mail(self) -> bytes:
                lines = iter(self._line, b".\r\n")
                return b"".join(line[1:] if line.startswith(b"..") else line for line in lines)

            def _line(self) -> bytes:
                """The mail's next one. An Alertmanager that is ended in the middle of a mail sends no more."""
                if not (line := self.rfile.readline()):
                    raise ConnectionError("the mail was cut short")
                return line

            def _say(self, line: str) -> None:
                self.wfile.write(f"{line}\r\n".encode())

        super().__init__(ThreadingTCPServer(_LOOPBACK, Handler))


def configuration(folder: Path, *, hooks: Webhooks, mailbox: Mailbox) -> Path:
    """A copy in `folder` of the project's configuration that delivers to these, and waits for a second, not for minutes.

    Chat messages go to `CHAT`, candidates for retraining to `RETRAIN`, with `TOKEN`.
    """
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "chat_url").write_text(f"http://{hooks.address}{CHAT}")
    (secrets / "retrain_token").write_text(TOKEN)
    text = CONFIGURATION.read_text(encoding="utf-8")
    addresses = {"127.0.0.1:9195": hooks.address, "127.0.0.1:25": mailbox.address}
    for old, new in (addresses | {"/etc/alertmanager/secrets": str(secrets)}).items():
        assert old in text
        text = text.replace(old, new)
    file = folder / "alertmanager.yml"
    file.write_text(re.sub(r"(group_wait|group_interval): [1-9]\w+", r"\1: 1s", text), encoding="utf-8")
    return file


def as_read(text: str) -> str:
    """What a chat shows of a text that it was sent."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
