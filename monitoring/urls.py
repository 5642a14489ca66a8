"""What a ledger's URL says of itself. Standard library only: commands that open no ledger ask, too."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

_POSTGRESQL = frozenset({"postgresql", "postgres"})


def is_postgresql(location: str) -> bool:
    """Whether it is a URL of PostgreSQL's, and no path."""
    scheme, separator, _ = location.partition("://")
    return bool(separator) and scheme.partition("+")[0] in _POSTGRESQL


def has_password(location: str) -> bool:
    """Whether it is a URL with a password in it. One that can't be understood might have one."""
    if "://" not in location:
        return False
    try:
        parts = urlsplit(location)
        return bool(parts.password) or "password" in parse_qs(parts.query)
    except ValueError:
        return True
