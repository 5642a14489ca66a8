"""Facts of the deployment, from `BATCHGAUGE_…` variables: where things are, and secrets. Never a job's meaning."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_state_path

from monitoring.credentials import Credentials
from monitoring.state import Destination
from monitoring.urls import is_postgresql
from pipelines.errors import PushError, SpecError

if TYPE_CHECKING:
    from monitoring.ledger import Ledger

PREFIX = "BATCHGAUGE_"
SCHEDULERS_OWN = frozenset({f"{PREFIX}ALERTS_TOKEN", f"{PREFIX}ALERTS_TOKEN_FILE"})
"""Variables that no run has a use for: they are not handed on to one."""
SHORTEST_TOKEN = 16

VARIABLES: dict[str, str] = {
    "LEDGER": "Path of the ledger, or its `postgresql://…`; default: `batchgauge/ledger.db` in the user's state directory.",
    "STATE": "With PostgreSQL: folder for batch records and logs; default: `batchgauge` in the user's state directory.",
    "GATEWAY": "URL of the Pushgateway; of several, with commas between them, each job has one. Overrides `push.gateway`. "
    "Empty: push nowhere.",
    "TEXTFILE": "Folder of node_exporter's textfile collector; overrides `push.textfile`.",
    "CA_FILE": "Certificate authority for the gateway, PEM; overrides `push.ca_file`.",
    "USERNAME": "User name for the gateway (basic auth).",
    "PASSWORD": "Password for the gateway.",
    "PASSWORD_FILE": "File with that password, in place of `PASSWORD`.",
    "BEARER_TOKEN": "Bearer token for the gateway, in place of user name and password.",
    "BEARER_TOKEN_FILE": "File with that token, in place of `BEARER_TOKEN`.",
    "ALERTS_TOKEN": "Bearer token that Alertmanager must show `batchgauge schedule`; without one it takes no alerts.",
    "ALERTS_TOKEN_FILE": "File with that token, in place of `ALERTS_TOKEN`.",
    "TOOLS": "Folder with the servers' binaries, for the stack, the demo and the tests; comes before PATH.",
}


@dataclass(frozen=True, slots=True)
class Environment:
    """What the variables say; None where a variable is not set (or, for a secret, empty). `gateways` is empty for nowhere."""

    ledger: str = field(repr=False)  # it may have a password
    gateways: tuple[str, ...] | None
    textfile: str | None
    ca_file: str | None
    credentials: Credentials
    state: str | None = None

    @property
    def ledger_file(self) -> Path | None:
        """The ledger's file, absolute (`~` is the home folder also where no shell has said so); None: it is in PostgreSQL."""
        if is_postgresql(self.ledger):
            return None
        return Path(self.ledger.removeprefix("sqlite:///")).expanduser().absolute()

    def open_ledger(self) -> Ledger:
        """The ledger that it names, with the folder for its files. Raises `LedgerError`, and `SpecError` as `folder` does."""
        from monitoring.ledger import Ledger  # noqa: PLC0415  its imports take long, and not every command opens one

        return Ledger.open(self.ledger, folder=self.folder)

    @property
    def folder(self) -> Path:
        """Where files are kept that belong to the ledger. Raises `SpecError` when nobody has said so, and there is no home."""
        if self.ledger_file is not None:
            return self.ledger_file.parent
        return Path(self.state).expanduser().absolute() if self.state else _state_path()

    def redirected(self, job: str, destination: Destination) -> Destination:
        """The job's destination as these facts change it; a variable that is set but empty means nowhere."""

        def first(said: str | None, before: str | None) -> str | None:
            return (before if said is None else said) or None

        return replace(
            destination,
            gateway=destination.gateway if self.gateways is None else _of(job, self.gateways),
            textfile=first(self.textfile, destination.textfile),
            ca_file=first(self.ca_file, destination.ca_file),
        )


def read(variables: Mapping[str, str]) -> Environment:
    """The environment's facts. Raises `SpecError` for an unknown or contradictory variable."""
    known = {PREFIX + name for name in VARIABLES}
    for name in sorted(set(variables) - known):
        if name.startswith(PREFIX):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"
            raise SpecError(f"environment variable {name}: unknown{hint}")
    ledger, state = variables.get(f"{PREFIX}LEDGER") or _default_ledger(), variables.get(f"{PREFIX}STATE") or None
    if state and not is_postgresql(ledger):
        raise SpecError(f"environment variable {PREFIX}STATE: goes with a ledger in PostgreSQL; another keeps files beside it")
    return Environment(
        ledger=ledger,
        state=state,
        gateways=_gateways(variables.get(f"{PREFIX}GATEWAY")),
        textfile=variables.get(f"{PREFIX}TEXTFILE"),
        ca_file=variables.get(f"{PREFIX}CA_FILE"),
        credentials=_credentials(variables),
    )


def _default_ledger() -> str:
    try:
        return str(user_state_path("batchgauge") / "ledger.db")
    except RuntimeError as error:  # a user without a home, as in many containers
        raise SpecError(f"this user has no home folder: set {PREFIX}LEDGER to a path for the ledger") from error


def _state_path() -> Path:
    try:
        return user_state_path("batchgauge")
    except RuntimeError as error:
        raise SpecError(f"this user has no home folder: set {PREFIX}STATE to a folder for batch records and logs") from error


def _gateways(text: str | None) -> tuple[str, ...] | None:
    """The URLs, checked before anybody can record or show them; empty says nowhere."""
    if not text:
        return None if text is None else ()
    from monitoring.gateway import checked_url  # noqa: PLC0415  with its HTTP client, that a list of jobs has no use for

    try:
        return tuple(dict.fromkeys(checked_url(url.strip()) for url in text.split(",")))
    except PushError as error:
        raise SpecError(f"environment variable {PREFIX}GATEWAY: {error}") from None  # the cause may hold a password


def _of(job: str, gateways: tuple[str, ...]) -> str | None:
    """The job's own of these gateways: on every host the same, about as many jobs to each; with one more, few jobs move.

    Rendezvous hashing: D. Thaler, C. Ravishankar, A Name-Based Mapping Scheme for Rendezvous, 1996.
    """
    return max(gateways, key=lambda url: sha256(f"{url} {job}".encode(errors="surrogatepass")).digest(), default=None)


def _credentials(variables: Mapping[str, str]) -> Credentials:
    username = variables.get(f"{PREFIX}USERNAME") or None
    password = _secret(variables, "PASSWORD")
    bearer = _secret(variables, "BEARER_TOKEN")
    if (username is None) != (password is None):
        raise SpecError(f"environment: {PREFIX}USERNAME goes together with {PREFIX}PASSWORD or {PREFIX}PASSWORD_FILE")
    if bearer is not None and username is not None:
        raise SpecError(f"environment: give {PREFIX}BEARER_TOKEN or {PREFIX}USERNAME with a password, not both")
    try:
        return Credentials(username=username, password=password, bearer=bearer)
    except ValueError as error:
        raise SpecError(f"environment: {PREFIX}USERNAME, {PREFIX}PASSWORD or {PREFIX}BEARER_TOKEN: {error}") from None


def alerts_token(variables: Mapping[str, str]) -> str | None:
    """What Alertmanager must show; None when nobody's alerts are taken. Only the scheduler has a use for it.

    Raises `SpecError` when it can't be read, or can be guessed.
    """
    token = _secret(variables, "ALERTS_TOKEN")
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise SpecError(
            f"environment: {PREFIX}ALERTS_TOKEN has {len(token)} characters, and whoever guesses it may have models trained:"
            f" give at least {SHORTEST_TOKEN}, as from 'openssl rand -hex 32'"
        )
    return token


def _secret(variables: Mapping[str, str], name: str) -> str | None:
    value, file = variables.get(PREFIX + name) or None, variables.get(f"{PREFIX}{name}_FILE") or None
    if value and file:
        raise SpecError(f"environment: give {PREFIX}{name} or {PREFIX}{name}_FILE, not both")
    if not file:
        return value
    try:
        text = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"environment variable {PREFIX}{name}_FILE: can't read {file}: {error}") from error
    if not text:
        raise SpecError(f"environment variable {PREFIX}{name}_FILE: {file} is empty")
    return text
