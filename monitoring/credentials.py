"""Who we are to the gateway. Secrets are shown nowhere."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

MASK = "[secret]"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A user name with its password (basic auth), a bearer token, or neither.

    Raises `ValueError`, without the secret, when they contradict each other or can't be sent in a header.
    """

    username: str | None = None
    password: str | None = None
    bearer: str | None = None

    def __post_init__(self) -> None:
        if (self.username is None) != (self.password is None):
            raise ValueError("a user name and a password go together; give both or neither")
        if self.bearer is not None and self.username is not None:
            raise ValueError("give a bearer token, or a user name with a password, not both")
        if self.username is not None and ":" in self.username:
            raise ValueError("a user name can't contain ':' in basic auth")
        if self.bearer is not None and not (self.bearer.isascii() and self.bearer.isprintable() and " " not in self.bearer):
            raise ValueError("the bearer token must be printable ASCII without spaces; is there a line break at its end?")

    def __repr__(self) -> str:
        kind = "bearer" if self.bearer else f"username={self.username!r}, password" if self.username else ""
        return f"Credentials({kind}={MASK})" if kind else "Credentials()"

    def header(self) -> dict[str, str]:
        """The `Authorization` header, if any (RFC 7617 with UTF-8, RFC 6750)."""
        if self.bearer is not None:
            return {"Authorization": f"Bearer {self.bearer}"}
        return {"Authorization": f"Basic {self._basic()}"} if self.username is not None else {}

    def hidden_in(self, text: str) -> str:
        """The text without our secrets, for a message that quotes what a server said."""
        for secret in (self._basic(), self.password, self.bearer):
            text = text.replace(secret, MASK) if secret else text
        return text

    def _basic(self) -> str:
        return b64encode(f"{self.username}:{self.password}".encode()).decode() if self.username is not None else ""
