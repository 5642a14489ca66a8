"""The metric table keeps the conventions of Prometheus."""

from __future__ import annotations

from collections import Counter

import pytest

from monitoring.names import LAG_BUCKETS, LATENCY_BUCKETS, RESERVED_LABELS, SCHEDULER_TABLE, TABLE, Metric

ALL = (*TABLE, *SCHEDULER_TABLE)


def test_a_name_is_used_once() -> None:
    """A second family of the same name would be a type clash on the gateway."""
    assert [name for name, uses in Counter(metric.name for metric in ALL).items() if uses > 1] == []


def test_counters_and_only_counters_end_in_total() -> None:
    """https://prometheus.io/docs/practices/naming/."""
    for metric in ALL:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name


def test_no_family_takes_a_histograms_series() -> None:
    """`x` with `x_sum` beside it would be one name for two things."""
    names = {metric.name for metric in ALL}
    for metric in ALL:
        if metric.kind == "histogram":
            assert not names & {f"{metric.name}_{suffix}" for suffix in ("bucket", "sum", "count", "created")}


def test_bounds_rise_and_none_is_whole() -> None:
    """A whole bound is shown as `1` by the gateway and stored as `1.0` by Prometheus 3."""
    for buckets in (LATENCY_BUCKETS, LAG_BUCKETS):
        assert list(buckets) == sorted(set(buckets))
        assert not [bound for bound in buckets if bound == int(bound)]


def test_every_label_of_the_table_is_reserved() -> None:
    """A label for the whole group must not overwrite one of them."""
    assert {"le", "holdout", "value", "outcome"} <= RESERVED_LABELS
    assert "env" not in RESERVED_LABELS


@pytest.mark.parametrize(("name", "label"), [("a-b", "x"), ("1a", "x"), ("a", "x-y"), ("a", "__x"), ("a\n", "x"), ("a", "x\n")])
def test_a_bad_name_is_refused_where_it_is_written(name: str, label: str) -> None:
    """The client would accept it."""
    with pytest.raises(ValueError, match="is not a"):
        Metric(name, "gauge", (label,), "Help.", "quality")
