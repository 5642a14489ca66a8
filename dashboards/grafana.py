"""What Grafana does to a text before it is used: the variables in it are replaced by what was chosen.

The forms are those of
https://grafana.com/docs/grafana/latest/dashboards/variables/variable-syntax/. Only the formats that our dashboards use
are here; any other raises, rather than to be taken for something that it is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

ALL = "$__all"
"""The value of a variable of which all is chosen."""

Chosen = str | Sequence[str]
"""One value, or those of a variable that takes many."""

# $name, [[name:format]], ${name.field:format}; a bare $ before anything else is text
_VARIABLE = re.compile(r"\$(\w+)|\[\[(\w+)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:}]+))?(?::([^}]+))?\}")
_SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}/]")
_UNRESERVED = "-_.~"  # what Grafana leaves as it is, besides letters and digits


def interpolate(text: str, chosen: Mapping[str, Chosen], *, all_values: Mapping[str, str] | None = None) -> str:
    """`text` with each variable's value in the format that it asks for.

    `chosen` maps names (`job`, `__range`, and with a field `__value.raw`) to values. Where `ALL` is chosen, what
    `all_values` has for the variable is put in as it is. Raises `ValueError` for a variable without a value or a format
    that is not known.
    """

    def replaced(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[4]
        name = f"{name}.{match[5]}" if match[5] else name
        if name not in chosen:
            raise ValueError(f"{match[0]} has no value in {text!r}")
        value = chosen[name]
        if value in (ALL, [ALL], (ALL,)) and name in (all_values or {}):
            return (all_values or {})[name]
        return formatted(name, value, match[3] or match[6] or "")

    return _VARIABLE.sub(replaced, text)


def formatted(name: str, value: Chosen, form: str) -> str:
    """A value as one of Grafana's formats: regex, queryparam, percentencode, or none for one value as it is."""
    values = [value] if isinstance(value, str) else list(value)
    if form == "regex":
        escaped = [_SPECIAL.sub(r"\\\g<0>", one) for one in values]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
    if form == "queryparam":
        return "&".join(f"var-{name}={percent_encoded(one)}" for one in values)
    if len(values) == 1 and form == "percentencode":
        return percent_encoded(values[0])
    if len(values) == 1 and not form:
        return values[0]
    raise ValueError(f"the format {form or 'without a name'!r} of ${name} with {len(values)} values is not known here")


def percent_encoded(text: str) -> str:
    """Text as a part of a URL, by RFC 3986."""
    return quote(text, safe=_UNRESERVED)
