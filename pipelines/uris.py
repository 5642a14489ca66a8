"""URIs of object stores in a job file: what may be one, and what may not be in it. Pure, and imports nothing of a store."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

SCHEMES = ("s3", "gs", "az")
SUFFIXES = (".parquet", ".pq", ".parq")
"""Of files that an input finds in a folder."""
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_FIELD = re.compile(r"\{[^{}]*\}")
_QUERY = re.compile(r"\?[\w.-]+=")
_SECRET = re.compile(r"://\S*@|\?\S+")
_AZURE = re.compile(r"[^@]+@[^@]+\.[^@]+")


def is_uri(path: str) -> bool:
    """Whether a path of a job file is a URI: of an object store, once it is `checked`."""
    return "://" in path and _URI.fullmatch(path) is not None


def checked(path: str) -> str:
    """The path as it is; a URI without slashes at its end. What the messages repeat of it is no secret.

    Raises `ValueError` for a URI of no known store, with credentials or settings in it, or that names no object.
    """
    match = _URI.fullmatch(path)
    if match is None:
        return path
    scheme, rest = match.groups()
    if scheme not in SCHEMES:
        raise ValueError(f"{scheme}:// is no object store known here: use s3://, gs:// or az://, or a path on this machine")
    bucket, _, key = _FIELD.sub("x", rest).partition("/")  # a date's format may have any sign in it
    if ":" in bucket or ("@" in bucket and scheme != "az"):
        raise ValueError(
            "a URI takes no user, password, key or port: credentials come from the environment, a profile or a role"
        )
    if _QUERY.search(rest):
        raise ValueError("a URI takes no query: credentials, region and endpoint come from the environment or a profile")
    if scheme == "az" and not _AZURE.fullmatch(bucket):
        raise ValueError("must look like az://container@account.dfs.core.windows.net/folder")
    if not bucket:
        raise ValueError(f"names no bucket; write it like {scheme}://bucket/folder")
    if key.rstrip("/") and {"", ".", ".."} & set(key.rstrip("/").split("/")):
        raise ValueError("has an empty step, '.' or '..' between its slashes, which stores don't work out; write it without")
    return path.rstrip("/")


def local(path: str) -> str:
    """The path as it is. Raises `ValueError` for a URI: this one has to be on this machine."""
    if is_uri(path):
        raise ValueError("must be a path on this machine, not a URI")
    return path


def without_secrets(text: str) -> str:
    """A text that may have URIs in it, without what stands where people put passwords and keys."""
    return _SECRET.sub(lambda found: "://***@" if found[0].startswith(":") else "?***", text) if "://" in text else text


def finds(pattern: tuple[str, ...], steps: tuple[str, ...]) -> bool:
    """Whether a glob fits a path, or a folder that it is in."""
    return any(matches(steps[:depth], pattern) for depth in range(1, len(steps) + 1))


def matches(steps: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path fits a glob, step by step; `**` stands for any number of steps."""
    if not pattern:
        return not steps
    if pattern[0] == "**":
        return matches(steps, pattern[1:]) or bool(steps and matches(steps[1:], pattern))
    return bool(steps) and fnmatchcase(steps[0], pattern[0]) and matches(steps[1:], pattern[1:])
