"""`batchgauge tune`: a job's batches, workers and devices measured on its own model and rows, and advice from the figures."""
