"""The digits example every night on Airflow 3. What to adapt, and why it looks so: README.md beside this file."""  # noqa: INP001  a file to copy into a DAG folder

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from airflow.providers.standard.operators.bash import BashOperator  # type: ignore[import-not-found]  # not installed here
from airflow.sdk import DAG  # type: ignore[import-not-found]  # not installed here

with DAG(
    dag_id="batchgauge_digits",
    schedule="15 2 * * *",  # job.schedule
    start_date=datetime(2026, 11, 1, tzinfo=ZoneInfo("UTC")),  # job.timezone
    catchup=False,  # a run scores the drop that is due; for another day: batchgauge run --date
    max_active_runs=1,
    tags=["batchgauge"],
):
    BashOperator(
        task_id="run",
        # Partial (3) is an end that the metrics judge: what follows in the DAG gets the rows that could be scored.
        bash_command="""
            code=0
            batchgauge run /srv/batchgauge/jobs/examples/digits.toml --trigger cron || code=$?
            if [ $code -eq 3 ]; then exit 0; fi
            exit $code
        """,
        env={
            "PATH": "/srv/batchgauge/.batchgauge/venv/bin:/usr/bin:/bin",
            "BATCHGAUGE_LEDGER": "/var/lib/batchgauge/ledger.db",
            "BATCHGAUGE_GATEWAY": "http://127.0.0.1:9091",
        },
        append_env=True,
        skip_on_exit_code=5,  # it is running already: neither done nor failed
        retries=0,  # no second try: it would hide that the first one failed
        execution_timeout=timedelta(seconds=7800),  # job.timeout, and ten minutes
    )
