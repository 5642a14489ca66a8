"""Advice when latency is high: what batches, workers and device the job's own model and data are fastest with."""
