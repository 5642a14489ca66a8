"""batchgauge against what people write by hand, measured side by side: `python -m benchmarks`."""
