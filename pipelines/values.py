"""Kinds of values in a job file, each with what it may not be. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr

from pipelines import uris

Auto = Literal["auto"]


def _entrypoint(value: str) -> str:
    target, colon, name = value.rpartition(":")
    if not colon or not target or not name.isidentifier():
        message = "must look like 'file.py:name' or 'package.module:name'"
        raise ValueError(message)
    return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        message = "must not have a NUL character in it: no path has"
        raise ValueError(message)
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        message = "must not be empty"
        raise ValueError(message)
    return value


Entrypoint = Annotated[StrictStr, AfterValidator(_entrypoint), AfterValidator(_no_nul)]
Text = Annotated[StrictStr, AfterValidator(_not_blank)]
Location = Annotated[Text, AfterValidator(_no_nul), AfterValidator(uris.checked)]
"""A path, or a URI in an object store."""
LocalPath = Annotated[Text, AfterValidator(_no_nul), AfterValidator(uris.local)]
"""A path on this machine."""
ClassName = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)] | StrictBool | StrictStr
