"""Parquet → tensors → predictions → reports. Knows nothing of Prometheus, schedules or the environment."""
