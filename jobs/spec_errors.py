"""What pydantic found wrong with a job file, in words for the person who wrote it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipelines.uris import without_secrets


def explain(error: ValidationError, raw: dict[str, Any], file: Path, model: type[BaseModel]) -> str:
    """One line for each wrong key: file, key, value, what is wrong with it."""
    found: dict[tuple[int | str, ...], list[str]] = {}
    for detail in error.errors():
        messages = found.setdefault(_keys(detail["loc"], raw, missing=detail["type"] == "missing"), [])
        message = _message(detail, model)
        if message not in messages:
            messages.append(message)
    # Of a value that may be of several kinds, only the kind that the user meant has an error deeper inside.
    deepest = [keys for keys in found if not any(other[: len(keys)] == keys and other != keys for other in found if keys)]
    return "\n".join(_line(file, _dotted(keys), _value(keys, raw), found[keys]) for keys in deepest)


def _line(file: Path, key: str, value: object, messages: list[str]) -> str:
    where = f"{file}: {key}" if key else f"{file}"
    # The value of an unknown key may be a secret that somebody believed to belong here.
    hidden = value is _ABSENT or isinstance(value, dict | list) or any(message.startswith(_UNKNOWN) for message in messages)
    shown = "" if hidden else f" = {_short(value)}"
    return f"{where}{shown}: {', or '.join(messages)}"


_ABSENT = object()
_UNKNOWN = "unknown key"


def _keys(location: tuple[int | str, ...], raw: object, *, missing: bool) -> tuple[int | str, ...]:
    """The part of pydantic's location that is in the file: it also names union members, which a user never wrote."""
    keys: list[int | str] = []
    node: Any = raw
    for step in location:
        known_key = isinstance(node, dict) and step in node
        known_index = isinstance(node, list) and isinstance(step, int) and step < len(node)
        if known_key or known_index:
            keys.append(step)
            node = node[step]
    return (*keys, location[-1]) if missing else tuple(keys)


def _dotted(keys: tuple[int | str, ...]) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def _value(keys: tuple[int | str, ...], raw: Any) -> object:
    node = raw
    for key in keys:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return node


def _short(value: object) -> str:
    text = without_secrets(repr(value))
    limit = 120
    return text if len(text) <= limit else f"{text[:limit]}…"


def _message(detail: Any, model: type[BaseModel]) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return f"{_UNKNOWN}{_did_you_mean(detail['loc'], model)}"
    if kind == "missing":
        return "missing"
    if kind == "string_pattern_mismatch":
        return f"must match {detail['ctx']['pattern']}"
    text = str(detail["msg"]).removeprefix("Value error, ").replace("Tuple", "List").replace("tuple", "list")
    text = text.removeprefix("Input ")
    return text[:1].lower() + text[1:]


def _did_you_mean(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    section: type[BaseModel] | None = model
    for step in location[:-1]:
        if isinstance(step, str) and section is not None and step in section.model_fields:
            section = _section(section.model_fields[step].annotation)
    known = list(section.model_fields) if section else []
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    members = (_section(member) for member in getattr(annotation, "__args__", ()))
    return next((member for member in members if member is not None), None)
