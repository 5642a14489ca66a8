"""Reports in, Prometheus out: the metric table, the ledger, the exposition and the gateway."""
