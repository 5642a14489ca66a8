"""Dashboards and PromQL for people. Knows the metric table and nothing else of the project."""
