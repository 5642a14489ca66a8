"""The command, where PostgreSQL is waited for a few seconds instead of many: `python -m tests.hasty_cli …`."""

from __future__ import annotations

from jobs.cli import main
from monitoring.ledger import connections, postgresql, sessions

if __name__ == "__main__":
    connections._CONNECT["connect_timeout"] = 2
    connections.SILENCE_SECONDS = 1.0
    connections.LEASE_SECONDS = 5
    sessions.SURE_SECONDS = 4.0
    sessions.PATIENCE_SECONDS = 1.0
    postgresql.PostgreSQLStore.insists_seconds = 3.0
    main()
