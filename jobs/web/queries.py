"""What may be asked after the `?`, as models: they check it, and `/openapi.json` is made from them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from jobs.web.documents import RunOutcome
from pipelines.errors import BatchgaugeError

MOST_RUNS = 200
_SHOWN = 40
"""Characters that an error shows of what was asked: enough to find the mistake, too few to put words into our mouth."""

Query = TypeVar("Query", bound=BaseModel)


class QueryError(BatchgaugeError):
    """What was asked can't be understood."""


class NoQuery(BaseModel):
    """Nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunsQuery(BaseModel):
    """Which runs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    job: str | None = None
    """Of this job only; all jobs without it."""
    outcome: RunOutcome | None = None
    """Those that ended so (`running`: that have not ended); all without it."""
    limit: Annotated[int, Field(ge=1, le=MOST_RUNS)] = 50
    """No more than so many, the newest."""


class PageQuery(BaseModel):
    """How the page of all jobs is narrowed. It is typed by people, so what makes no sense is left out, not refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Literal["attention", "running", "waiting", "missed", "failed", "partial", "success", "idle"] | None = None
    q: Annotated[str, Field(max_length=200)] = ""
    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    refresh: Annotated[int, AfterValidator(lambda seconds: min(max(seconds, 5), 3600))] | None = None


def asked(model: type[Query], parameters: QueryParams) -> Query:
    """The query. Raises `QueryError` that names the parameter, what it was and what is allowed."""
    given = dict(parameters.multi_items())
    if len(given) < len(parameters.multi_items()):
        raise QueryError("a parameter is given twice; give each once")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise QueryError(_sentence(model, error)) from None


def understood(model: type[Query], parameters: QueryParams) -> Query:
    """The query without what makes no sense in it."""
    given = dict(parameters.multi_items())
    try:
        return model.model_validate(given)
    except ValidationError as error:
        wrong = {str(flaw["loc"][0]) for flaw in error.errors()}
        return model.model_validate({name: value for name, value in given.items() if name not in wrong})


def _sentence(model: type[BaseModel], error: ValidationError) -> str:
    flaw = error.errors(include_url=False)[0]
    name = str(flaw["loc"][0])
    if flaw["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields)) or "none here"
        return f"unknown parameter {shown(name)}; known: {known}"
    return f"{name}: {flaw['msg']}, but it was {shown(str(flaw['input']))}"


def shown(words: str) -> str:
    """What was asked, quoted and cut, for an error that repeats it."""
    return repr(words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…")
