"""Grafana's variables, replaced as Grafana documents it (the examples are the documentation's)."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from dashboards.grafana import ALL, Chosen, interpolate

NASTY = 'nightly/fraud "ä" \\ {b} $x `|` 🚀\n漢字'


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("${servers:regex}", ("test1.", "test2"), r"(test1\.|test2)"),
        ("${servers:queryparam}", ("test1", "test2"), "var-servers=test1&var-servers=test2"),
        ("${servers:percentencode}", "foo()bar BAZ", "foo%28%29bar%20BAZ"),
        ("${servers:regex}", ("test1.",), r"test1\."),
        ("[[servers:regex]]", "a/b", r"a\/b"),
        ("$servers and ${servers}", "a", "a and a"),
        ("${servers.raw:percentencode}", "a&b", "a%26b"),
        ("5 $ + $servers", "a", "5 $ + a"),
    ],
)
def test_a_variable_is_put_in_as_its_format_says(text: str, value: Chosen, expected: str) -> None:
    assert interpolate(text, {"servers": value, "servers.raw": value}) == expected


@pytest.mark.parametrize("chosen", [ALL, (ALL,), [ALL]])
def test_all_is_put_in_as_it_is(chosen: Chosen) -> None:
    """Grafana doesn't escape a custom value for all."""
    assert interpolate("${job:regex}", {"job": chosen}, all_values={"job": ".+"}) == ".+"


def test_a_value_is_not_looked_through_for_variables() -> None:
    assert interpolate("$job", {"job": "$other", "other": "no"}) == "$other"


def test_a_link_brings_a_name_of_any_characters_back() -> None:
    query = interpolate("${job:queryparam}&var-holdout=${holdout:percentencode}", {"job": NASTY, "holdout": NASTY})
    assert parse_qs(query) == {"var-job": [NASTY], "var-holdout": [NASTY]}


@pytest.mark.parametrize(
    ("text", "chosen", "complaint"),
    [
        ("$nothing", {}, r"\$nothing has no value in '\$nothing'"),
        ("${job:lucene}", {"job": "a"}, "format 'lucene' of \\$job"),
        ("$job", {"job": ("a", "b")}, "format 'without a name' of \\$job with 2 values"),
        ("${job:percentencode}", {"job": ("a", "b")}, "with 2 values"),
    ],
)
def test_what_is_not_known_is_refused(text: str, chosen: dict[str, Chosen], complaint: str) -> None:
    """A query with a wrong value in it would look right."""
    with pytest.raises(ValueError, match=complaint):
        interpolate(text, chosen)
